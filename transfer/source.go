package transfer

import (
	"context"
	"io"
	"time"

	"github.com/hyper2kvm/hyper2kvm/progress"
)

// Info is what is known of an object before it is read. The zero value is an
// object of which nothing is known: it is read as one stream.
type Info struct {
	Size   int64  // bytes; -1 or 0 when unknown
	Ranges bool   // ranged requests were answered as asked; needs a Size
	ETag   string // strong validator with its quotes, or empty

	// LastModified is the header of that name where there is no ETag. It is
	// good for noticing a change while an object is read, not for more: two
	// states of a second have the same.
	LastModified string
}

// Source gives access to one object. Its methods may be called from several
// goroutines. A context given to Open governs the body too: when it ends, a
// blocked Read of the body returns.
type Source interface {
	// Probe asks whether ranged requests are honoured, and for the size and
	// validator that such an answer carries.
	Probe(ctx context.Context) (Info, error)

	// Open asks for n bytes from byte off, or for everything from off when
	// n < 0. With off > 0 or n >= 0 that is a ranged request, and the error is
	// [ErrNoRange] when the server answers it with anything but what was asked.
	// The body gives io.ErrUnexpectedEOF when it ends early.
	Open(ctx context.Context, off, n int64) (io.ReadCloser, error)
}

// Defaults and bounds of [Options].
const (
	DefaultWorkers      = 4
	MaxWorkers          = 64
	DefaultChunkSize    = 8 << 20  // bytes
	DefaultWindow       = 48 << 20 // bytes
	DefaultStallTimeout = 60 * time.Second
)

// Options are the choices of a reader. The zero value works.
type Options struct {
	// Workers is how many ranged requests are under way at a time: 0 means
	// [DefaultWorkers], at most [MaxWorkers]. One stream always uses one.
	Workers int

	// ChunkSize is the largest ranged request in bytes, 0 means
	// [DefaultChunkSize]. It is less where the window is too small for that.
	// Requests begin at a quarter of it and move between an eighth and the whole
	// as latency asks for.
	ChunkSize int64

	// Window is how many bytes a ranged reader holds, 0 means [DefaultWindow]:
	// what has arrived and was not read yet. It may become two chunks more when
	// the chunk that is read next comes last.
	Window int64

	// Offset is the byte to start at. Other than 0 needs ranges.
	Offset int64

	// StallTimeout is how long a request may go without a byte before it is
	// given up with [ErrStalled]: 0 means [DefaultStallTimeout].
	StallTimeout time.Duration

	Limiter *Limiter       // bandwidth, shared with others; nil is no limit
	Budget  *Budget        // shared by all attempts at one object; nil is one of its own
	File    *progress.File // counts received bytes and retries; nil counts nothing
}

func (o Options) withDefaults() Options {
	if o.Workers <= 0 {
		o.Workers = DefaultWorkers
	}
	o.Workers = min(o.Workers, MaxWorkers)
	if o.ChunkSize <= 0 {
		o.ChunkSize = DefaultChunkSize
	}
	if o.Window <= 0 {
		o.Window = DefaultWindow
	}
	if o.StallTimeout <= 0 {
		o.StallTimeout = DefaultStallTimeout
	}
	if o.Budget == nil {
		o.Budget = NewBudget(BudgetOptions{})
	}
	return o
}

// largestChunk is the longest request that the window allows: half of it for
// each worker, which is what is on its way on average, and for two more that are
// complete.
func (o Options) largestChunk() int64 {
	return min(o.ChunkSize, max(2*o.Window/int64(o.Workers+4), blockSize))
}
