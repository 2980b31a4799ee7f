package nfc

import (
	"context"
	"io"
	"sync"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

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

// body is a range of the disk, read over s, which is given back with it.
func (r *Reader) body(ctx context.Context, s *session, off, n int64) io.ReadCloser {
	return transfer.Pieces{
		Size: r.o.Capacity, Unit: sectorSize, Piece: readSize,
		Ask: func(ctx context.Context, off int64, buf []byte, wait bool) (transfer.Pending, error) {
			o, err := s.read(ctx, off, buf, wait)
			if o == nil {
				return nil, err
			}
			return o, nil
		},
		Failed: func(err error) { r.adapt(err) }, // as to a host that is out of memory
		Close:  func() { r.done(s) },
	}.Open(ctx, off, n)
}

// Done is closed when the answer has come, or will not.
func (o *op) Done() <-chan struct{} { return o.done }

// Err says why it has not come.
func (o *op) Err() error { return o.err }
