package transfer

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hyper2kvm/hyper2kvm/internal/panics"
)

// RandomBlock is how much of an object is asked for at least, in bytes. Who reads a file
// system without reading all of it wants little, here and there: a request costs more
// than this many bytes on most networks, and what lies beside is often wanted next.
const RandomBlock = 128 << 10

// DefaultCache is how much of an object a [Random] keeps, in bytes.
const DefaultCache = 64 << 20

// RandomOptions are the choices of a [Random]. The zero value works.
type RandomOptions struct {
	Options       // Workers, StallTimeout, Limiter, Budget and File are used
	Cache   int64 // bytes to keep; 0 means [DefaultCache]
	Most    int64 // bytes that may be fetched in all; 0 is any number
}

// ErrTooMuch: more of an object was wanted than may be fetched.
var ErrTooMuch = errors.New("more is read than was allowed")

// Random reads an object at random, and keeps what was read last, so that it is not
// fetched again. Its methods may be called from several goroutines. It has none of its own,
// and needs no Close.
//
// Failures are retried out of one [Budget]. One that is final stays: every later read
// fails by it at once.
type Random struct {
	o      RandomOptions
	source Source
	size   int64
	meter  *meter
	turns  chan struct{} // one for each request that is under way

	fetched atomic.Int64

	mu     sync.Mutex
	blocks map[int64]*cached // by their number
	used   list.List         // of *cached that have come, the last one used in front
	failed error             // once and for all
}

// cached is a block, or one that is on its way.
type cached struct {
	number int64
	came   chan struct{} // closed when it has come, or will not
	data   []byte
	err    error
	place  *list.Element // nil while it is on its way
}

// NewRandom returns the bytes of s, of which info is what a probe found. It sends nothing
// itself. The error is [ErrNoRange] when s cannot be read at random.
func NewRandom(s Source, info Info, o RandomOptions) (*Random, error) {
	if !info.Ranges || info.Size <= 0 {
		return nil, fmt.Errorf("transfer: cannot read at random: %w", ErrNoRange)
	}
	o.Options = o.withDefaults()
	if o.Cache <= 0 {
		o.Cache = DefaultCache
	}
	return &Random{
		o: o, source: expecting(s, info), size: info.Size,
		meter:  &meter{file: o.File, limiter: o.Limiter, budget: o.Budget},
		turns:  make(chan struct{}, o.Workers),
		blocks: map[int64]*cached{},
	}, nil
}

// Size is how many bytes the object has.
func (r *Random) Size() int64 { return r.size }

// Fetched is how many bytes were asked for and have come.
func (r *Random) Fetched() int64 { return r.fetched.Load() }

// Read fills p with the bytes from off on. It returns soon after ctx ends.
func (r *Random) Read(ctx context.Context, p []byte, off int64) error {
	if off < 0 || off > r.size || int64(len(p)) > r.size-off {
		return fmt.Errorf("transfer: %d bytes at %d are outside the object's %d", len(p), off, r.size)
	}
	for len(p) > 0 {
		// Not more at a time than half of what is kept, so that little memory does.
		n := min(int64(len(p)), max(r.o.Cache/2, RandomBlock))
		if err := r.read(ctx, p[:n], off); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

func (r *Random) read(ctx context.Context, p []byte, off int64) error {
	first, last := off/RandomBlock, (off+int64(len(p))-1)/RandomBlock
	wanted, missing, err := r.claim(first, last)
	if err != nil {
		return err
	}
	r.bring(ctx, missing)
	for _, b := range wanted {
		if b, err = r.await(ctx, b); err != nil {
			return err
		}
		from := max(off-b.number*RandomBlock, 0)
		n := copy(p, b.data[from:])
		p = p[n:]
	}
	return nil
}

// broken is why nothing is read any more, or nil.
func (r *Random) broken() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

// claim returns blocks first to last, and those of them that the caller has to bring.
func (r *Random) claim(first, last int64) (wanted, missing []*cached, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed != nil {
		return nil, nil, r.failed
	}
	for n := first; n <= last; n++ {
		b := r.blocks[n]
		if b == nil {
			b = &cached{number: n, came: make(chan struct{})}
			r.blocks[n] = b
			missing = append(missing, b)
		} else if b.place != nil {
			r.used.MoveToFront(b.place)
		}
		wanted = append(wanted, b)
	}
	return wanted, missing, nil
}

// await waits for a block. One that somebody else did not bring to its end, because
// nobody waited for that one any more, is brought here.
func (r *Random) await(ctx context.Context, b *cached) (*cached, error) {
	for {
		select {
		case <-b.came:
		case <-ctx.Done():
			return nil, contextError(ctx)
		}
		if b.err == nil {
			return b, nil
		}
		if ctx.Err() != nil || !errors.Is(b.err, errLeft) {
			return nil, b.err
		}
		wanted, missing, err := r.claim(b.number, b.number)
		if err != nil {
			return nil, err
		}
		r.bring(ctx, missing)
		b = wanted[0]
	}
}

// errLeft: whoever was to bring a block has ended before.
var errLeft = errors.New("the read was given up")

// bring fetches blocks, neighbours by one request, and hands them to all who wait.
func (r *Random) bring(ctx context.Context, missing []*cached) {
	for len(missing) > 0 {
		n := 1
		for n < len(missing) && missing[n].number == missing[0].number+int64(n) {
			n++
		}
		run := missing[:n]
		missing = missing[n:]
		off := run[0].number * RandomBlock
		p := make([]byte, min(int64(n)*RandomBlock, r.size-off))
		err := panics.Catch(func() error { return r.fetch(ctx, p, off) })
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", errLeft, contextError(ctx))
		}
		r.deliver(run, p, err)
	}
}

// deliver ends the wait for blocks that have come, or have not.
func (r *Random) deliver(run []*cached, p []byte, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && !errors.Is(err, errLeft) && r.failed == nil {
		r.failed = err
	}
	for _, b := range run {
		if b.err = err; err != nil {
			delete(r.blocks, b.number)
		} else {
			n := min(len(p), RandomBlock)
			b.data, p = p[:n:n], p[n:]
			if len(run) > 1 {
				b.data = bytes.Clone(b.data) // each goes at its own time
			}
			b.place = r.used.PushFront(b)
		}
		close(b.came)
	}
	for int64(r.used.Len())*RandomBlock > max(r.o.Cache, RandomBlock) {
		oldest := r.used.Remove(r.used.Back()).(*cached)
		delete(r.blocks, oldest.number)
	}
}

// fetch asks for len(p) bytes from off on until they are there.
func (r *Random) fetch(ctx context.Context, p []byte, off int64) error {
	select {
	case r.turns <- struct{}{}:
		defer func() { <-r.turns }()
	case <-ctx.Done():
		return contextError(ctx)
	}
	if err := r.broken(); err != nil {
		return err
	}
	if most := r.o.Most; most > 0 && r.fetched.Load()+int64(len(p)) > most {
		return fmt.Errorf("%w: %d bytes", ErrTooMuch, most)
	}
	for done := 0; ; {
		mark := r.meter.budget.mark()
		n, err := r.attempt(ctx, p[done:], off+int64(done))
		done += n
		if n > 0 {
			r.meter.budget.Advance(r.fetched.Add(int64(n)))
		}
		if err == nil {
			return nil
		}
		if err := r.meter.retry(ctx, mark, "asking again", err); err != nil {
			return err
		}
	}
}

// attempt sends one request, and returns how many bytes have come.
func (r *Random) attempt(ctx context.Context, p []byte, off int64) (n int, err error) {
	body, err := guard(ctx, r.o.StallTimeout, func(ctx context.Context) (io.ReadCloser, error) {
		return r.source.Open(ctx, off, int64(len(p)))
	})
	if err != nil {
		return 0, err
	}
	defer body.Close()
	n, err = io.ReadFull(body, p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if limit := r.meter.received(ctx, n); limit != nil {
		return n, limit
	}
	if err == nil && goesOn(body) {
		return 0, fmt.Errorf("%w: %w: the range of %d bytes at %d", ErrNoRange, ErrTooLong, len(p), off)
	}
	return n, err
}
