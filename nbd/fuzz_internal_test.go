package nbd

import (
	"bytes"
	"context"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"
)

// FuzzHandshake gives the handshake whatever a server may answer.
func FuzzHandshake(f *testing.F) {
	f.Add(bytes.Join([][]byte{
		greeting(3), reply(optStructured, repAck, nil),
		reply(optMetaContext, repMetaContext, append([]byte{0, 0, 0, 7}, allocation...)), reply(optMetaContext, repAck, nil),
		reply(optGo, repInfo, described(1<<20, 3)), reply(optGo, repInfo, blocks(512, 1<<25)), reply(optGo, repAck, nil),
	}, nil))
	f.Add(bytes.Join([][]byte{greeting(1), reply(optStructured, repUnsupported, nil), reply(optGo, repUnsupported, nil), described(512, 1)[2:], make([]byte, 124)}, nil))
	f.Add(bytes.Join([][]byte{greeting(3), reply(optStructured, repTLS, nil), reply(optGo, repTLS, []byte("no"))}, nil))
	f.Add(be.AppendUint64(be.AppendUint64(nil, magicServer), magicOldstyle))
	f.Fuzz(func(t *testing.T, in []byte) {
		h := handshake{conn: newScripted(in), name: "server", export: "disk"}
		if h.run() != nil {
			return
		}
		e := h.got.export
		if e.size < 0 || e.unit < 1 || e.unit&(e.unit-1) != 0 || e.most < e.unit || e.most > maxRead || e.most%e.unit != 0 || e.size%e.unit != 0 {
			t.Errorf("%+v", e)
		}
	})
}

// FuzzSession gives a session whatever a server may answer to what it was asked for.
func FuzzSession(f *testing.F) {
	f.Add(bytes.Join([][]byte{
		chunk(0, chunkHole, 0, hole(512, 512)...), chunk(flagDone, chunkData, 0, data(0, make([]byte, 512)...)...),
		chunk(flagDone, chunkBlockStatus, 1, status(7, 4096, 0, 4096, 3)...),
	}, nil), true)
	f.Add(append(simple(0, 0, make([]byte, 1024)...), simple(5, 1)...), false)
	f.Add(chunk(flagDone, chunkError+1, 0, refusal(5, "no")...), true)
	f.Add(chunk(0, chunkError+2, 0, append(refusal(5, "no"), 0, 0, 0, 0, 0, 0, 0, 9)...), true)
	f.Fuzz(func(t *testing.T, in []byte, structured bool) {
		s := newSession(newScripted(in), agreed{structured: structured, allocation: true, context: 7}, Options{Stall: time.Minute}.withDefaults())
		buf := bytes.Repeat([]byte{0xee}, 1024+8)
		asked := func(a ask, n uint32) *call {
			c, err := s.ask(t.Context(), a, true, n)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		read := asked(ask{command: cmdRead, buf: buf[:1024:1024]}, 1024)
		areas := asked(ask{command: cmdBlockStatus, length: 8192}, 8192)
		s.Run(s.take) // ends with what there is to read
		for _, c := range []*call{read, areas} {
			select {
			case <-c.Done():
			default:
				t.Fatalf("who waits to %s waits for ever", c.Of.stage())
			}
		}
		if !bytes.Equal(buf[1024:], bytes.Repeat([]byte{0xee}, 8)) {
			t.Error("written past what was asked for")
		}
		if read.Err() == nil && !read.Of.cover.Whole(1024) {
			t.Error("a read that is not whole counts as such")
		}
		sum := int64(0)
		for _, e := range areas.Of.extents {
			sum += e.length
		}
		if sum > areas.Of.length || areas.Err() == nil && sum == 0 {
			t.Errorf("an answer about %d of %d bytes", sum, areas.Of.length)
		}
	})
}

func FuzzExtents(f *testing.F) {
	f.Add(status(7, 4096, 0, 4096, 3, 1<<31, 2), int64(1<<20))
	f.Add(status(7, 0, 0), int64(1))
	f.Fuzz(func(t *testing.T, in []byte, n int64) {
		if len(in) < 12 || n <= 0 {
			return
		}
		list, err := parseExtents(in, 7, n)
		if err != nil {
			return
		}
		at := int64(0)
		for _, a := range list {
			if a.length <= 0 {
				t.Errorf("%+v", a)
			}
			at += a.length
		}
		if at == 0 || at > n {
			t.Errorf("extents of %d bytes in %d", at, n)
		}
	})
}

// FuzzClient gives the server whatever a client may say.
func FuzzClient(f *testing.F) {
	hello := []byte{0, 0, 0, 3}
	f.Add(bytes.Join([][]byte{
		hello, option(optStructured, nil), option(optList, nil), option(optInfo, named("disk", 0, 0)), option(optGo, named("disk", 0, 1, 0, infoBlockSize)),
		request(cmdRead, 1, 0, 512), request(cmdRead, 2, 4000, 512), request(cmdWrite, 3, 0, 4), []byte("data"), request(cmdDisconnect, 4, 0, 0),
	}, nil))
	f.Add(bytes.Join([][]byte{{0, 0, 0, 1}, option(optExportName, []byte("disk")), request(cmdRead, 1, 0, 4096), request(cmdRead, 2, -1, 1)}, nil))
	f.Add(bytes.Join([][]byte{hello, option(optGo, named("none", 0, 0)), option(optGo, []byte{0, 0, 0, 9}), option(optAbort, nil)}, nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		const size = 4096
		c := &client{conn: newScripted(in), in: bytes.NewReader(in), held: semaphore.NewWeighted(maxHeld), exports: []Served{{Name: "disk", Size: size, Read: func(_ context.Context, p []byte, off int64) error {
			if off < 0 || len(p) == 0 || off+int64(len(p)) > size {
				t.Errorf("asked for %d bytes at %d", len(p), off)
			}
			return nil
		}}}}
		if err := c.serve(t.Context()); err == nil && len(in) == 0 {
			t.Error("a client that says nothing is content")
		}
	})
}
