package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/panics"
)

const (
	blockSize  = 256 << 10 // bytes read ahead in one piece
	blockCount = 8
	// A block goes out before it is full when the consumer waits for it and it
	// holds this much, or is this old.
	blockEager = 64 << 10
	blockAge   = 200 * time.Millisecond
)

// stream reads one GET ahead of its consumer, so that the network and what is
// done with the bytes overlap. It holds blockCount*blockSize bytes.
type stream struct {
	filled chan []byte // closed at the end, after err is set
	free   chan []byte
	err    error // io.EOF or why the stream ended; read after filled is closed
	cancel context.CancelFunc
	closed atomic.Bool

	block, rest []byte // of the consumer: the block in its hands and what is unread of it
}

// newStream takes over cancel, which ends ctx, and body, which may be nil.
func newStream(ctx context.Context, cancel context.CancelFunc, s Source, body *guardedBody, o Options) *stream {
	r := &stream{
		filled: make(chan []byte, blockCount),
		free:   make(chan []byte, blockCount),
		cancel: cancel,
	}
	for range blockCount {
		r.free <- nil // made when first needed: many objects are small
	}
	p := &pump{stream: r, source: s, stall: o.StallTimeout,
		meter: &meter{file: o.File, limiter: o.Limiter, budget: o.Budget}}
	go func() {
		r.err = panics.Catch(func() error { return p.run(ctx, body) })
		close(r.filled)
	}()
	return r
}

// Read hands out what has been read ahead.
func (r *stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := r.next(); err != nil {
		return 0, err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// WriteTo lends w what has been read ahead, block by block, which spares a copy.
func (r *stream) WriteTo(w io.Writer) (int64, error) {
	return writeTo(w, &r.rest, r.next)
}

// next makes sure that there are bytes to hand out.
func (r *stream) next() error {
	if r.closed.Load() {
		return fs.ErrClosed
	}
	for len(r.rest) == 0 {
		if r.block != nil {
			r.free <- r.block // never blocks: there are blockCount blocks
			r.block = nil
		}
		block, ok := <-r.filled
		if !ok {
			if r.closed.Load() {
				return fs.ErrClosed
			}
			return r.err
		}
		r.block, r.rest = block, block
	}
	return nil
}

// Close ends the request and waits for the goroutine behind the reader.
func (r *stream) Close() error {
	r.closed.Store(true)
	r.cancel()
	for range r.filled { // until the pump has ended
	}
	return nil
}

// pump fills the blocks of a stream.
type pump struct {
	*stream
	source Source
	stall  time.Duration
	meter  *meter
	got    int64 // bytes handed over
}

// run returns why the stream ended, io.EOF included.
func (p *pump) run(ctx context.Context, body *guardedBody) error {
	for {
		mark := p.meter.budget.mark()
		err := p.attempt(ctx, body)
		body = nil
		switch {
		case err == nil && p.got == 0:
			return ErrEmptyBody
		case err == nil:
			return io.EOF
		case ctx.Err() != nil:
			return contextError(ctx)
		case errors.Is(err, ErrChanged):
			return p.meter.restart(ctx, mark, err)
		case p.got > 0 && Temporary(err):
			return p.meter.restart(ctx, mark, fmt.Errorf("after %d bytes: %w", p.got, err))
		}
		if err := p.meter.retry(ctx, mark, "asking again", err); err != nil {
			return err
		}
	}
}

// attempt reads body, or the answer to a new request, to its end. It returns
// nil at a clean end.
func (p *pump) attempt(ctx context.Context, body *guardedBody) error {
	if body == nil {
		var err error
		body, err = guard(ctx, p.stall, func(ctx context.Context) (io.ReadCloser, error) {
			return p.source.Open(ctx, 0, -1)
		})
		if err != nil {
			return err
		}
	}
	err := p.pour(ctx, body)
	if closeErr := body.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (p *pump) pour(ctx context.Context, body io.Reader) error {
	for {
		var block []byte
		select {
		case block = <-p.free:
		case <-ctx.Done():
			return contextError(ctx)
		}
		if block == nil {
			block = make([]byte, blockSize)
		}
		n, err := p.fill(ctx, body, block[:blockSize])
		if n > 0 {
			p.got += int64(n)
			p.meter.budget.Advance(p.got)
			p.filled <- block[:n] // never blocks: there are blockCount blocks
		} else {
			p.free <- block
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// fill reads until the block is full, or has enough for a consumer that waits.
func (p *pump) fill(ctx context.Context, body io.Reader, block []byte) (int, error) {
	began, filled := time.Now(), 0
	for filled < len(block) {
		n, err := body.Read(block[filled:])
		filled += n
		if limitErr := p.meter.received(ctx, n); err == nil {
			err = limitErr
		}
		if err != nil {
			return filled, err
		}
		if len(p.filled) == 0 && (filled >= blockEager || time.Since(began) >= blockAge) {
			break
		}
	}
	return filled, nil
}
