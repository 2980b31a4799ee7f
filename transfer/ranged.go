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

	"github.com/hyper2kvm/hyper2kvm/internal/panics"
)

// ranged reads an object in chunks, by several workers, and hands them out in
// order.
//
// A slot is the right to have one chunk planned and not yet read; there are
// 2*Workers of them. A worker that gets a slot plans the next chunk, puts it into
// the queue and fetches it; the consumer takes the chunks from the queue, waits
// for each to be done, and gives its slot back. One more worker does nothing but
// help with the chunk at the head when that is slow.
//
// Memory is bounded in blocks, not in chunks: those on their way are half full
// on average, so that requests can be longer, which latency asks for.
type ranged struct {
	source Source
	stall  time.Duration
	meter  *meter
	sizer  *sizer
	blocks *blocks
	end    int64

	slots chan struct{}
	queue chan *chunk // in order; closed when everything is planned
	help  chan *chunk // unbuffered: taken from when the helper is idle

	mu   sync.Mutex
	next int64 // first byte not planned yet

	cancel  context.CancelFunc
	unwatch func() bool
	workers sync.WaitGroup
	failing sync.Once
	failed  chan struct{} // closed after err is set
	err     error
	closed  atomic.Bool
	arrived atomic.Int64 // how many bytes of the object there are, those before the first included

	// Of the consumer.
	block []byte   // in its hands
	rest  []byte   // what is unread of it
	ready [][]byte // the blocks of its chunk that come after it
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
		sizer:  newSizer(o.largestChunk(), o.Workers),
		blocks: newBlocks(o.Window),
		end:    size,
		slots:  make(chan struct{}, window),
		queue:  make(chan *chunk, window),
		help:   make(chan *chunk),
		next:   o.Offset,
		cancel: cancel,
		failed: make(chan struct{}),
		timer:  time.NewTimer(helpInterval),
	}
	r.arrived.Store(o.Offset)
	for range window {
		r.slots <- struct{}{}
	}
	if r.next == r.end {
		close(r.queue)
	}
	r.unwatch = context.AfterFunc(ctx, func() { r.fail(contextError(ctx)) })
	for range o.Workers {
		r.workers.Go(func() { r.guarded(func() { r.work(ctx) }) })
	}
	if o.Workers > 1 { // who asks for one connection gets one
		r.workers.Go(func() { r.guarded(func() { r.assist(ctx) }) })
	}
	return r
}

// Read hands out the bytes of the chunk at the head of the window.
func (r *ranged) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := r.more(); err != nil {
		return 0, err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// WriteTo lends w the blocks in order, which spares a copy.
func (r *ranged) WriteTo(w io.Writer) (int64, error) {
	return writeTo(w, &r.rest, r.more)
}

// more makes sure that there are bytes to hand out. It gives back the block that
// was read, and with the last one of a chunk its slot.
func (r *ranged) more() error {
	if r.closed.Load() {
		return fs.ErrClosed
	}
	if len(r.rest) > 0 {
		return nil
	}
	if r.block != nil {
		r.blocks.put(r.block)
		r.block = nil
		if len(r.ready) == 0 {
			r.slots <- struct{}{} // never blocks: it has room for every slot
		}
	}
	if len(r.ready) == 0 {
		if err := r.advance(); err != nil {
			return err
		}
	}
	r.block, r.ready = r.ready[0], r.ready[1:]
	r.rest = r.block
	return nil
}

// advance waits for the next chunk.
func (r *ranged) advance() error {
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
		r.ready = c.data
		return nil
	case <-r.failed:
		return r.err
	}
}

// await waits until c is done and calls for help when that takes too long.
func (r *ranged) await(c *chunk) error {
	close(c.head)
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
				default: // it is at it
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

// guarded is the life of a goroutine. A panic of it is the end of the reader.
func (r *ranged) guarded(live func()) {
	err := panics.Catch(func() error {
		live()
		return nil
	})
	if err != nil {
		r.fail(err)
	}
}

// work is the life of one worker.
func (r *ranged) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.slots:
			c := r.plan()
			if c == nil {
				return
			}
			r.fetch(ctx, c, false)
		}
	}
}

// assist is the life of the helper. It is none of the workers, who may all be
// waiting for memory: that is given back only when the head has arrived.
func (r *ranged) assist(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-r.help:
			r.fetch(ctx, c, true)
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

// fetch gets c into blocks of its own. For a helper a failure means nothing, for
// the chunk's first worker it is the end of the reader.
func (r *ranged) fetch(ctx context.Context, c *chunk, helping bool) {
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	if !c.join(cancel) {
		return
	}
	got := &arrival{chunk: c, helping: helping}
	var err error
	if helping {
		err = r.attempt(own, got)
	} else {
		err = r.fill(own, got)
	}
	if err == nil && c.finish(got.blocks) {
		if helping {
			r.progress(c.length)
		}
		return
	}
	r.drop(got, 0)
	switch {
	case helping:
		c.leave()
	case err != nil && ctx.Err() == nil && !c.finished():
		r.fail(err)
	}
}

// fill reads a whole chunk, going on where an attempt was cut.
func (r *ranged) fill(ctx context.Context, got *arrival) error {
	c := got.chunk
	for refused := false; ; {
		mark := r.meter.budget.mark()
		c.started.Store(time.Now().UnixNano())
		err := r.attempt(ctx, got)
		c.started.Store(0)
		if err == nil || ctx.Err() != nil {
			return err
		}
		switch {
		case errors.Is(err, ErrChanged), errors.Is(err, ErrNoRange) && refused:
			return r.meter.restart(ctx, mark, err)
		case errors.Is(err, ErrNoRange):
			// Once may be one odd answer among many good ones.
			refused = true
			err = r.meter.pause(ctx, mark, "asking again", err)
		default:
			err = r.meter.retry(ctx, mark, "asking again", err)
		}
		if err != nil {
			return err
		}
	}
}

// attempt sends one request for what is missing of a chunk and reads it. A wait
// for memory is not counted: it is not the connection that is slow.
func (r *ranged) attempt(ctx context.Context, got *arrival) error {
	c, had := got.chunk, got.n
	off, length := c.off+had, c.length-had
	began := time.Now()
	body, err := guard(ctx, r.stall, func(ctx context.Context) (io.ReadCloser, error) {
		return r.source.Open(ctx, off, length)
	})
	if err != nil {
		return err
	}
	defer body.Close()
	latency := time.Duration(0)
	for got.n < c.length {
		space, waited, err := got.space(ctx, r.blocks)
		if err != nil {
			return err
		}
		began = began.Add(waited)
		n, err := body.Read(space)
		if got.n == had {
			latency = time.Since(began)
		}
		got.add(n)
		if !got.helping {
			r.progress(int64(n))
		}
		if limitErr := r.meter.received(ctx, n); limitErr != nil {
			return limitErr
		}
		if err != nil && got.n < c.length {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	if goesOn(body) {
		r.drop(got, had)
		return fmt.Errorf("%w: %w: the range of %d bytes at %d", ErrNoRange, ErrTooLong, length, off)
	}
	r.sizer.observe(length, latency, time.Since(began))
	return nil
}

// drop gives up everything behind the first n bytes that a worker has.
func (r *ranged) drop(got *arrival, n int64) {
	if !got.helping {
		r.progress(n - got.n)
	}
	got.back(n, r.blocks)
}

// progress tells the budget how much has arrived, in whatever order: with large
// chunks the head alone would say too little of a network that cuts connections.
func (r *ranged) progress(n int64) {
	if arrived := r.arrived.Add(n); n > 0 {
		r.meter.budget.Advance(arrived)
	}
}

// goesOn reads the end of a body that should have no more bytes, without which
// its connection could not be used again. Any other way to end than with more
// bytes is fine: all that was asked for is there.
func goesOn(body io.Reader) bool {
	var one [1]byte
	n, err := body.Read(one[:])
	return n > 0 || errors.Is(err, ErrTooLong)
}
