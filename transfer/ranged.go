package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"
)

// ranged reads an object in chunks, by several workers, and hands them out in
// order.
//
// A slot is the right to have one chunk planned and not yet read; there are
// 2*Workers of them, which bounds memory. A worker that gets a slot plans the
// next chunk, puts it into the queue and fetches it; the consumer takes the
// chunks from the queue, waits for each to be done, and gives its slot back. A
// worker without a slot may be called for help with the chunk at the head.
type ranged struct {
	source Source
	stall  time.Duration
	meter  *meter
	sizer  *sizer
	end    int64

	slots chan struct{}
	queue chan *chunk // in order; closed when everything is planned
	help  chan *chunk // unbuffered: only an idle worker takes from it

	mu      sync.Mutex
	next    int64 // first byte not planned yet
	buffers [][]byte

	cancel  context.CancelFunc
	unwatch func() bool
	workers sync.WaitGroup
	failing sync.Once
	failed  chan struct{} // closed after err is set
	err     error
	closed  atomic.Bool

	// Of the consumer.
	pos   int64 // first byte of the chunk in its hands, or the next one
	chunk *chunk
	rest  []byte
	timer *time.Timer
	ended bool
}

func newRanged(ctx context.Context, s Source, size int64, o Options) *ranged {
	ctx, cancel := context.WithCancel(ctx)
	window := 2 * o.Workers
	r := &ranged{
		source: s,
		stall:  o.StallTimeout,
		meter:  &meter{file: o.File, limiter: o.Limiter, budget: o.Budget},
		sizer:  newSizer(o.ChunkSize, o.Workers),
		end:    size,
		slots:  make(chan struct{}, window),
		queue:  make(chan *chunk, window),
		help:   make(chan *chunk),
		next:   o.Offset,
		cancel: cancel,
		failed: make(chan struct{}),
		pos:    o.Offset,
		timer:  time.NewTimer(helpInterval),
	}
	for range window {
		r.slots <- struct{}{}
	}
	if r.next == r.end {
		close(r.queue)
	}
	r.unwatch = context.AfterFunc(ctx, func() { r.fail(contextError(ctx)) })
	for range o.Workers {
		r.workers.Go(func() { r.work(ctx) })
	}
	return r
}

// Read hands out the bytes of the chunk at the head of the window.
func (r *ranged) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := r.ready(); err != nil {
		return 0, err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// WriteTo lends w the chunks in order, which spares a copy.
func (r *ranged) WriteTo(w io.Writer) (int64, error) {
	return writeTo(w, &r.rest, r.ready)
}

// ready makes sure that there are bytes to hand out.
func (r *ranged) ready() error {
	if r.closed.Load() {
		return fs.ErrClosed
	}
	if len(r.rest) > 0 {
		return nil
	}
	return r.advance()
}

// advance gives the chunk that was read back and waits for the next one.
func (r *ranged) advance() error {
	if r.chunk != nil {
		r.pos += int64(len(r.chunk.data))
		r.recycle(r.chunk.data)
		r.chunk = nil
		r.meter.budget.Advance(r.pos)
		r.slots <- struct{}{} // never blocks: it has room for every slot
	}
	if r.ended {
		return io.EOF
	}
	select {
	case <-r.failed: // for good, whatever is still in the queue
		return r.err
	default:
	}
	select {
	case c, ok := <-r.queue:
		if !ok {
			r.ended = true
			r.cancel()
			return io.EOF
		}
		if err := r.await(c); err != nil {
			return err
		}
		r.chunk, r.rest = c, c.data
		return nil
	case <-r.failed:
		return r.err
	}
}

// await waits until c is done and calls for help when that takes too long.
func (r *ranged) await(c *chunk) error {
	select {
	case <-c.done:
		return nil
	default:
	}
	r.timer.Reset(helpInterval)
	defer r.timer.Stop()
	for {
		select {
		case <-c.done:
			return nil
		case <-r.failed:
			return r.err
		case <-r.timer.C:
			if r.sizer.slow(c.length, c.patience(time.Now())) {
				select {
				case r.help <- c:
				default: // every worker is busy with a chunk of its own
				}
			}
			r.timer.Reset(helpInterval)
		}
	}
}

// Close ends the requests and waits for the workers.
func (r *ranged) Close() error {
	r.closed.Store(true)
	r.unwatch()
	r.fail(fs.ErrClosed)
	r.workers.Wait()
	return nil
}

// fail ends the reader with err, unless it has ended before.
func (r *ranged) fail(err error) {
	r.failing.Do(func() {
		r.err = err
		close(r.failed)
	})
	r.cancel()
}

// work is the life of one worker.
func (r *ranged) work(ctx context.Context) {
	slots := r.slots
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-r.help:
			r.fetch(ctx, c, true)
		case <-slots:
			if c := r.plan(); c != nil {
				r.fetch(ctx, c, false)
			} else {
				slots = nil // everything is planned: only help is left to give
			}
		}
	}
}

// plan puts the next chunk into the queue, or returns nil when there is none.
func (r *ranged) plan() *chunk {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == r.end {
		return nil
	}
	c := newChunk(r.next, r.sizer.next(r.end-r.next))
	r.next += c.length
	r.queue <- c // never blocks: it has room for every slot
	if r.next == r.end {
		close(r.queue)
	}
	return c
}

// fetch gets c into a buffer of its own. For a helper a failure means nothing,
// for the chunk's first worker it is the end of the reader.
func (r *ranged) fetch(ctx context.Context, c *chunk, helping bool) {
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	if !c.join(cancel) {
		return
	}
	buffer := r.buffer(c.length)
	var err error
	if helping {
		_, err = r.attempt(own, c.off, buffer)
	} else {
		err = r.fill(own, c, buffer)
	}
	if err == nil && c.finish(buffer) {
		return
	}
	r.recycle(buffer)
	switch {
	case helping:
		c.leave()
	case err != nil && ctx.Err() == nil && !c.finished():
		r.fail(err)
	}
}

// fill reads c into buffer, going on where an attempt was cut.
func (r *ranged) fill(ctx context.Context, c *chunk, buffer []byte) error {
	refused := false
	for got := 0; ; {
		c.started.Store(time.Now().UnixNano())
		n, err := r.attempt(ctx, c.off+int64(got), buffer[got:])
		c.started.Store(0)
		got += n
		if err == nil || ctx.Err() != nil {
			return err
		}
		switch {
		case errors.Is(err, ErrChanged), errors.Is(err, ErrNoRange) && refused:
			return r.meter.restart(ctx, err)
		case errors.Is(err, ErrNoRange):
			// Once may be one odd answer among many good ones.
			refused = true
			err = r.meter.pause(ctx, "asking again", err)
		default:
			err = r.meter.retry(ctx, "asking again", err)
		}
		if err != nil {
			return err
		}
	}
}

// attempt sends one request for len(p) bytes from off and reads them into p. It
// returns how many of them are good.
func (r *ranged) attempt(ctx context.Context, off int64, p []byte) (int, error) {
	began := time.Now()
	body, err := guard(ctx, r.stall, func(ctx context.Context) (io.ReadCloser, error) {
		return r.source.Open(ctx, off, int64(len(p)))
	})
	if err != nil {
		return 0, err
	}
	defer body.Close()
	got, latency := 0, time.Duration(0)
	for got < len(p) {
		n, err := body.Read(p[got:min(got+blockSize, len(p))])
		if got == 0 {
			latency = time.Since(began)
		}
		got += n
		if limitErr := r.meter.received(ctx, n); limitErr != nil {
			return got, limitErr
		}
		if err != nil && got < len(p) {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return got, err
		}
	}
	if goesOn(body) {
		return 0, fmt.Errorf("%w: %w: the range of %d bytes at %d", ErrNoRange, ErrTooLong, len(p), off)
	}
	r.sizer.observe(int64(got), latency, time.Since(began))
	return got, nil
}

// goesOn reads the end of a body that should have no more bytes, without which
// its connection could not be used again. Any other way to end than with more
// bytes is fine: all that was asked for is there.
func goesOn(body io.Reader) bool {
	var one [1]byte
	n, err := body.Read(one[:])
	return n > 0 || errors.Is(err, ErrTooLong)
}

// buffer returns n bytes to read into.
func (r *ranged) buffer(n int64) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.buffers) > 0 {
		b := r.buffers[len(r.buffers)-1]
		r.buffers = r.buffers[:len(r.buffers)-1]
		if int64(cap(b)) >= n {
			return b[:n]
		}
	}
	return make([]byte, n)
}

func (r *ranged) recycle(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buffers = append(r.buffers, b)
}
