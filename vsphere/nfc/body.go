package nfc

import (
	"context"
	"io"
	"io/fs"
	"sync"
)

// ahead is how many reads a body may have in flight, or here and not read yet.
const ahead = 4

// blocks are the buffers of reads, blocks of readSize bytes.
var blocks = sync.Pool{New: func() any { return new([readSize]byte) }}

// wires are buffers for coded fragments.
var wires = sync.Pool{New: func() any { return new([readSize + fragmentTail]byte) }}

// scratch returns a buffer of n bytes. Call release when done with it.
func scratch(n int) (b []byte, release func()) {
	w := wires.Get().(*[readSize + fragmentTail]byte)
	if n > len(w) {
		wires.Put(w)
		return make([]byte, n), func() {}
	}
	return w[:n], func() { wires.Put(w) }
}

// body is a range of the disk that is read in order. The session is asked for whole
// sectors, in pieces that end where a readSize does.
type body struct {
	ctx  context.Context
	r    *Reader
	s    *session
	next int64 // first byte that was not asked for yet
	end  int64 // behind the last
	skip int64 // bytes of the first piece that nobody wants
	left int64 // bytes still to be handed out

	ops    []*op // in order
	cur    *op   // that rest is a part of
	rest   []byte
	closed bool
}

func newBody(ctx context.Context, r *Reader, s *session, off, n int64) *body {
	from := off - off%sectorSize
	end := min((off+n+sectorSize-1)/sectorSize*sectorSize, r.o.Capacity)
	return &body{ctx: ctx, r: r, s: s, next: from, end: end, skip: off - from, left: n}
}

// Read hands out what has come, in order. It returns io.EOF only behind the last
// byte that was asked for.
func (b *body) Read(p []byte) (int, error) {
	switch {
	case b.closed:
		return 0, fs.ErrClosed
	case b.left == 0:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	if len(b.rest) == 0 {
		if err := b.advance(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.rest[:min(int64(len(b.rest)), b.left)])
	b.rest = b.rest[n:]
	b.left -= int64(n)
	return n, nil
}

// advance waits for the next piece.
func (b *body) advance() error {
	b.recycle()
	if err := b.ask(); err != nil {
		return err
	}
	o := b.ops[0]
	select {
	case <-o.done:
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
	if o.err != nil {
		b.r.adapt(o.err) // as to a host that is out of memory
		return o.err
	}
	b.ops = b.ops[1:]
	b.cur, b.rest = o, o.buf[b.skip:]
	b.skip = 0
	return nil
}

// recycle gives the buffer of the piece that was read back.
func (b *body) recycle() {
	if b.cur != nil {
		blocks.Put((*[readSize]byte)(b.cur.buf[:readSize]))
		b.cur, b.rest = nil, nil
	}
}

// ask sends reads, as many as may be in flight; it waits for the first only.
func (b *body) ask() error {
	for len(b.ops) < ahead && b.next < b.end {
		n := min(b.end-b.next, readSize-b.next%readSize)
		block := blocks.Get().(*[readSize]byte)
		o, err := b.s.read(b.ctx, b.next, block[:n], len(b.ops) == 0)
		if o == nil {
			blocks.Put(block)
		}
		if err != nil && len(b.ops) == 0 {
			return err
		}
		if o == nil {
			return nil // what is in flight comes first
		}
		b.ops = append(b.ops, o)
		b.next += n
	}
	return nil
}

// Close gives the session back. Reads that are in flight come to their end there,
// into buffers that nobody uses any more.
func (b *body) Close() error {
	if !b.closed {
		b.closed = true
		b.recycle()
		b.ops = nil
		b.r.done(b.s)
	}
	return nil
}
