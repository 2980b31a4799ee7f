package nbd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// liar is a server that agrees to all that is asked for, about an export of 8 KiB, and
// answers every request with what answer makes of it.
func liar(t *testing.T, size uint64, answer func(cookie uint64) []byte) Options {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go lie(c, size, answer)
		}
	}()
	return Options{
		Name: "the liar", Stall: 10 * time.Second,
		Dial: func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
		},
	}
}

func lie(c net.Conn, size uint64, answer func(cookie uint64) []byte) {
	defer c.Close()
	_, _ = c.Write(bytes.Join([][]byte{
		greeting(3), reply(optStructured, repAck, nil),
		reply(optMetaContext, repMetaContext, append([]byte{0, 0, 0, 7}, allocation...)), reply(optMetaContext, repAck, nil),
		reply(optGo, repInfo, described(size, 1)), reply(optGo, repAck, nil),
	}, nil))
	head := 4 + 16 + 16 + 4 + 4 + 4 + len(allocation) + 16 + 4 + 2 + 2
	if _, err := io.CopyN(io.Discard, c, int64(head)); err != nil {
		return
	}
	for {
		var p [requestSize]byte
		if _, err := io.ReadFull(c, p[:]); err != nil {
			return
		}
		if be.Uint16(p[6:]) == cmdDisconnect {
			return
		}
		if _, err := c.Write(answer(be.Uint64(p[8:]))); err != nil {
			return
		}
	}
}

func TestAServerThatLiesAboutAReadIsNotBelieved(t *testing.T) {
	t.Parallel()
	whole := make([]byte, 4096)
	for name, answer := range map[string]func(uint64) []byte{
		"another request":         func(c uint64) []byte { return chunk(flagDone, chunkData, c+77, data(0, whole...)...) },
		"no magic number":         func(uint64) []byte { return make([]byte, 32) },
		"a simple reply":          func(c uint64) []byte { return simple(0, c, whole...) },
		"too little":              func(c uint64) []byte { return chunk(flagDone, chunkData, c, data(0, whole[:512]...)...) },
		"nothing":                 func(c uint64) []byte { return chunk(flagDone, chunkNone, c) },
		"too much":                func(c uint64) []byte { return chunk(flagDone, chunkData, c, data(0, make([]byte, 5000)...)...) },
		"before it":               func(c uint64) []byte { return chunk(flagDone, chunkData, c, data(1<<63, whole...)...) },
		"behind it":               func(c uint64) []byte { return chunk(flagDone, chunkData, c, data(1, whole...)...) },
		"twice":                   func(c uint64) []byte { return bytes.Repeat(chunk(0, chunkHole, c, hole(0, 512)...), 2) },
		"a hole without length":   func(c uint64) []byte { return chunk(flagDone, chunkHole, c, hole(0, 0)...) },
		"a hole beyond it":        func(c uint64) []byte { return chunk(flagDone, chunkHole, c, hole(0, 1<<31)...) },
		"a hole of another shape": func(c uint64) []byte { return chunk(flagDone, chunkHole, c, 1, 2, 3) },
		"a status":                func(c uint64) []byte { return chunk(flagDone, chunkBlockStatus, c, status(7, 4096, 0)...) },
		"an unknown chunk":        func(c uint64) []byte { return chunk(flagDone, 77, c, whole...) },
		"an error without text":   func(c uint64) []byte { return chunk(flagDone, chunkError+1, c, 0, 0, 0, 5, 255, 255) },
		"a huge chunk":            func(c uint64) []byte { return append(chunk(flagDone, chunkData, c)[:16], 255, 255, 255, 255) },
		"errors without end": func(c uint64) []byte {
			return bytes.Repeat(chunk(0, chunkError+1, c, refusal(5, "")...), maxChunks+1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := NewReader(liar(t, 8192, answer))
			defer r.Close()
			body, err := r.Open(t.Context(), 0, 4096)
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			got, err := io.ReadAll(body)
			if !errors.Is(err, ErrProtocol) || len(got) > 0 {
				t.Errorf("%d bytes, then %v", len(got), err)
			}
		})
	}
}

func TestAServerThatLiesAboutAreasIsNotBelieved(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(uint64) []byte{
		"another context": func(c uint64) []byte { return chunk(flagDone, chunkBlockStatus, c, status(8, 8192, 0)...) },
		"no extent":       func(c uint64) []byte { return chunk(flagDone, chunkBlockStatus, c, status(7)...) },
		"half an extent":  func(c uint64) []byte { return chunk(flagDone, chunkBlockStatus, c, status(7, 1, 0, 1)...) },
		"an empty extent": func(c uint64) []byte { return chunk(flagDone, chunkBlockStatus, c, status(7, 0, 0)...) },
		"too many":        func(c uint64) []byte { return chunk(flagDone, chunkBlockStatus, c, status(7, 8192, 0, 512, 0)...) },
		"no answer":       func(c uint64) []byte { return chunk(flagDone, chunkNone, c) },
		"two answers":     func(c uint64) []byte { return bytes.Repeat(chunk(0, chunkBlockStatus, c, status(7, 512, 0)...), 2) },
		"data":            func(c uint64) []byte { return chunk(flagDone, chunkData, c, data(0, 1, 2, 3)...) },
		"a simple reply":  func(c uint64) []byte { return simple(0, c) },
		"byte by byte":    func(c uint64) []byte { return chunk(flagDone, chunkBlockStatus, c, status(7, 1, 0)...) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			size := uint64(8192)
			if name == "byte by byte" {
				size = 1 << 40
			}
			r := NewReader(liar(t, size, answer))
			defer r.Close()
			areas, err := r.Allocated(t.Context())
			if !errors.Is(err, ErrProtocol) || areas != nil {
				t.Errorf("%v, %v", areas, err)
			}
		})
	}
}

func TestAnExportOfAnotherSizeIsNotTheDisk(t *testing.T) {
	t.Parallel()
	o := liar(t, 8192, func(uint64) []byte { return nil })
	o.Capacity = 4096
	r := NewReader(o)
	defer r.Close()
	if _, err := r.Probe(t.Context()); !errors.Is(err, transfer.ErrChanged) {
		t.Errorf("error %v", err)
	}
}

func TestAHandshakeThatCannotBeGoneOnWithSaysWhy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		says []byte
		want error
	}{
		"another protocol":     {[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), ErrProtocol},
		"oldstyle":             {be.AppendUint64(be.AppendUint64(nil, magicServer), magicOldstyle), ErrUnsupported},
		"not fixed":            {greeting(0), ErrUnsupported},
		"TLS only":             {bytes.Join([][]byte{greeting(3), reply(optStructured, repTLS, nil), reply(optGo, repTLS, nil)}, nil), ErrUnsupported},
		"TLS only, with words": {bytes.Join([][]byte{greeting(3), reply(optStructured, repTLS, nil), reply(optGo, repTLS, []byte("use TLS"))}, nil), ErrUnsupported},
		"no such export":       {bytes.Join([][]byte{greeting(3), reply(optStructured, repUnsupported, nil), reply(optGo, repUnknown, []byte("no disk\x1b"))}, nil), ErrNoExport},
		"no such export, old":  {bytes.Join([][]byte{greeting(3), reply(optStructured, repUnsupported, nil), reply(optGo, repUnsupported, nil)}, nil), ErrNoExport},
		"no description":       {bytes.Join([][]byte{greeting(3), reply(optStructured, repUnsupported, nil), reply(optGo, repAck, nil)}, nil), ErrProtocol},
		"endless information":  {bytes.Join([][]byte{greeting(3), reply(optStructured, repUnsupported, nil), bytes.Repeat(reply(optGo, repInfo, described(512, 1)), maxOptions)}, nil), ErrProtocol},
		"a huge reply":         {append(greeting(3), append(reply(optStructured, repAck, nil)[:16], 255, 255, 255, 255)...), ErrProtocol},
		"an odd block":         {bytes.Join([][]byte{greeting(3), reply(optStructured, repUnsupported, nil), reply(optGo, repInfo, blocks(513, 1<<20))}, nil), ErrProtocol},
		"huge blocks":          {bytes.Join([][]byte{greeting(3), reply(optStructured, repUnsupported, nil), reply(optGo, repInfo, blocks(1<<20, 1<<25))}, nil), ErrProtocol},
		"a torn size": {bytes.Join([][]byte{greeting(3), reply(optStructured, repUnsupported, nil), reply(optGo, repInfo, described(5000, 1)),
			reply(optGo, repInfo, blocks(4096, 1<<25)), reply(optGo, repAck, nil)}, nil), ErrUnsupported},
		"a huge export": {bytes.Join([][]byte{greeting(3), reply(optStructured, repUnsupported, nil), reply(optGo, repInfo, described(1<<63, 1))}, nil), ErrProtocol},
		"cut":           {greeting(3)[:12], ErrOver},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := handshake{conn: newScripted(c.says), name: "server"}
			err := h.run()
			if !errors.Is(err, c.want) || bytes.ContainsRune([]byte(err.Error()), 0x1b) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}
