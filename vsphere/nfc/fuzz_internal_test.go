package nfc

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"
	"testing"
	"time"
)

func FuzzGreeting(f *testing.F) {
	f.Add([]byte("220 VMware Authentication Daemon Version 1.10: SSL Required, NFCSSL supported/t, SHA256 supported\r\n"))
	f.Add([]byte("200 BA:78:16\r\n"))
	f.Add([]byte("22"))
	f.Fuzz(func(t *testing.T, in []byte) {
		line, err := readLine(bytes.NewReader(in))
		if err != nil {
			return
		}
		if len(line) >= maxLine || strings.Contains(line, "\n") {
			t.Errorf("a line %q", line)
		}
		_ = checkGreeting("host:902", line)
		if r, err := parseReply(line); err == nil && (r.code < 0 || r.code > 999) {
			t.Errorf("code %d", r.code)
		}
		if text := printable(line, "secret"); strings.Contains(text, "secret") || len(text) > 10*(maxText+4) {
			t.Errorf("text %q", text)
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add(request(typeIO, 4, readPayload(1, skipZeros, 4096, 1024), ""))
	f.Add(request(typeError, 4, make([]byte, 16), ""))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < headerSize {
			return
		}
		if h, err := parseHeader(in[:headerSize]); err == nil && (h.size > maxPayload || payloadSize[h.kind] == 0) {
			t.Errorf("%+v", h)
		}
	})
}

func FuzzFragment(f *testing.F) {
	f.Add(make([]byte, 44), uint32(1024))
	p := make([]byte, 44)
	binary.LittleEndian.PutUint32(p[24:], 1024)
	binary.LittleEndian.PutUint32(p[28:], 512)
	binary.LittleEndian.PutUint32(p[32:], 512)
	binary.LittleEndian.PutUint32(p[36:], 512)
	f.Add(p, uint32(1024))
	f.Fuzz(func(t *testing.T, in []byte, n uint32) {
		if len(in) < payloadSize[typeIO] || n > readSize {
			return
		}
		got, err := parseFragment(in, 0, n)
		if err == nil && (got.n == 0 || uint64(got.at)+uint64(got.n) > uint64(n) || got.wire > got.n+fragmentTail) {
			t.Errorf("%+v of %d", got, n)
		}
	})
}

func FuzzOpenFile(f *testing.F) {
	f.Add(make([]byte, 60))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < payloadSize[typeOpenFile] {
			return
		}
		if got, err := parseOpenFile(in); err == nil && (got.handle == 0 || got.capacity <= 0 || got.capacity%sectorSize != 0 || got.capacity > math.MaxInt64/2) {
			t.Errorf("%+v", got)
		}
		if r, err := parseRefusal(in); err == nil && r.text > maxErrorText {
			t.Errorf("%+v", r)
		}
		_, _ = parseAllocated(in, 16)
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("\x00\x02\x00\x00\x00\x00\x00\x00\x08\x00\x00\x00\x01\x00\x00\x00A"), uint32(skipZeros), uint16(512))
	f.Add([]byte{0x78, 0x01, 0x63, 0x60, 0x18, 0x05, 0x23, 0x39, 0x04, 0x00, 0x02, 0x00, 0x00, 0x01}, uint32(zlibbed), uint16(512))
	f.Fuzz(func(t *testing.T, wire []byte, code uint32, n uint16) {
		if Compression(code) == raw && len(wire) != int(n) {
			return // is refused before
		}
		dst := bytes.Repeat([]byte{0xee}, int(n)+8)
		err := decode(dst[:n:n], wire, Compression(code))
		if !bytes.Equal(dst[n:], bytes.Repeat([]byte{0xee}, 8)) {
			t.Error("written past the fragment")
		}
		if err != nil {
			return
		}
		again := make([]byte, n)
		if decode(again, wire, Compression(code)) != nil || !bytes.Equal(again, dst[:n]) {
			t.Error("what a buffer held before shows")
		}
	})
}

func FuzzBitmap(f *testing.F) {
	f.Add([]byte{3, 2, 0, 0}, uint16(16))
	f.Fuzz(func(t *testing.T, bitmap []byte, chunks uint16) {
		if len(bitmap) != bitmapSize(int(chunks)) {
			return
		}
		end := int64(0)
		for _, a := range appendBitmap(nil, bitmap, 0, int(chunks)) {
			if a.Offset < end || a.Length <= 0 {
				t.Errorf("%+v", a)
			}
			end = a.Offset + a.Length
		}
		if end > int64(chunks)*chunkSize {
			t.Errorf("areas up to %d of %d chunks", end, chunks)
		}
	})
}

// FuzzSession gives a session whatever a host may answer to what it was asked for.
func FuzzSession(f *testing.F) {
	f.Add(request(typeOpenSession, 0, make([]byte, 16), ""))
	f.Add(request(typeError, 0, append(make([]byte, 12), 3, 0, 0, 0), "no!"))
	f.Add(request(typeIO, 1, append(make([]byte, 40), 0, 0, 0, 0), ""))
	f.Fuzz(func(t *testing.T, in []byte) {
		s := newSession(newScripted(in), "host:902", Options{Stall: time.Minute}.withDefaults())
		var asked []*call
		for _, a := range []ask{{kind: typeOpenSession}, {kind: typeIO, buf: make([]byte, 1024)}, {kind: typeAllocated, chunks: 16}} {
			c, err := s.Ask(t.Context(), a, true, func(id uint32) []byte { return request(a.kind, id, nil, "") })
			if err != nil {
				t.Fatal(err)
			}
			asked = append(asked, c)
		}
		s.Run(s.take) // ends with what there is to read
		for _, c := range asked {
			select {
			case <-c.Done():
			default:
				t.Errorf("who waits for an answer of type %d waits for ever", c.Of.kind)
			}
		}
	})
}

// FuzzHandshake gives the classic handshake whatever a host may answer.
func FuzzHandshake(f *testing.F) {
	f.Add(bytes.Join([][]byte{classic(classicStatus, 0, 0, 0, 1), classic(classicVersion, 11), classic(classicAIO)}, nil))
	f.Add(classic(classicComplete))
	f.Add(append(classic(classicError, 1, 5, 4), "text"...))
	f.Fuzz(func(t *testing.T, in []byte) {
		conn := newScripted(in)
		h := &handshake{conn: conn, in: conn, peek: func() error { return nil }, host: "host:902", wait: func() error { return nil }}
		if err := h.run("AbCdEfGhIjKlMnOp"); err == nil && len(in) < 3*classicSize {
			t.Error("an answer that is too short is enough")
		}
	})
}
