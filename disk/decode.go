package disk

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/hyper2kvm/hyper2kvm/disk/internal/block"
	"github.com/hyper2kvm/hyper2kvm/disk/vmdk"
	"github.com/hyper2kvm/hyper2kvm/internal/panics"
)

// batchData is how many bytes of disk a worker gets at a time, in one grain or
// several: enough for large writes, little enough to hold several.
const batchData = 512 << 10

// defaultCheckpointEvery is how many bytes of stream lie between checkpoints.
const defaultCheckpointEvery = 256 << 20

// Options are the options of [DecodeStream]. The zero value works.
type Options struct {
	// Workers is the number of goroutines that inflate and write; 0 is
	// [DefaultWorkers].
	Workers int
	// Capacity is the disk's expected capacity in bytes; 0 accepts any.
	Capacity int64
	// MaxCapacity refuses larger disks; 0 is the package's [MaxCapacity].
	MaxCapacity int64
	// Verify inflates every grain to check its Adler-32 even where the writer
	// takes it as it is. Where grains are inflated anyway it changes nothing;
	// without a writer it is how to check the data too.
	Verify bool
	// Tee receives the bytes of the stream in order, such as a hash. When
	// OnCheckpoint is called it has received exactly those before
	// Position.StreamOffset. With Resume it receives those from there on.
	Tee io.Writer
	// OnPosition is called, in order, with how many bytes of the disk are
	// passed (F-NFC-10); what is passed may still be on its way to the writer.
	// It is called often and must not block.
	OnPosition func(bytes int64)
	// OnData is called before OnPosition with how many bytes of the disk the
	// grains up to there have, those before Resume among them.
	OnData func(bytes int64)
	// OnCheckpoint is called about every CheckpointEvery bytes of stream, and
	// always between grains, when all earlier grains are written and, if the
	// writer is a [Writer], its Checkpoint has returned. An error ends the
	// decoding.
	OnCheckpoint func(Position) error
	// CheckpointEvery is in bytes of stream; 0 is 256 MiB.
	CheckpointEvery int64
	// Resume begins at a Position: the first byte of the reader is the
	// stream's byte Resume.StreamOffset, and the writer holds what it held at
	// that checkpoint or more.
	Resume *Position
}

// Summary tells what a complete stream held.
type Summary struct {
	vmdk.Geometry
	vmdk.Counts
	StreamBytes int64 // length of the stream, trailing padding included
}

// DecodeStream reads a stream-optimized VMDK from r to its very end and writes
// its grains to w, in any order and several at once. Grains that hold only
// zeros are not written: w must read as zeros where nothing was written. The
// last grain is clipped to the capacity. With w == nil nothing is inflated
// (unless o.Verify) and the structure is checked only.
//
// A w that is a [GrainWriter] for this grain size gets the grains as they are.
//
// Errors about the stream are [*vmdk.StreamError] and wrap ErrTruncated, ErrCorrupt,
// ErrUnsupported, ErrCapacity, or what r returned; others are those of w,
// o.Tee and o.OnCheckpoint, wrapped. When ctx ends, so does DecodeStream, with
// its cause; but it cannot interrupt a Read of r, which should obey the same
// context. No goroutine outlives the call. A panic, also of r or w, is a
// [*panics.Error].
func DecodeStream(ctx context.Context, r io.Reader, w io.WriterAt, o Options) (Summary, error) {
	var s *vmdk.Reader
	err := panics.Catch(func() (err error) {
		s, err = vmdk.NewReader(r, vmdk.Options{Capacity: o.Capacity, MaxCapacity: o.MaxCapacity, Tee: o.Tee, Resume: o.Resume})
		return err
	})
	if err != nil {
		return Summary{}, err
	}
	if o.Workers <= 0 {
		o.Workers = DefaultWorkers()
	}
	if o.CheckpointEvery <= 0 {
		o.CheckpointEvery = defaultCheckpointEvery
	}
	d := newDecoder(s, w, o)
	err = d.run(ctx)
	sum := Summary{Geometry: s.Geometry(), Counts: d.counts(s.Counts()), StreamBytes: s.Offset()}
	return sum, err
}

// DefaultWorkers is how many workers keep a machine busy with one disk: one for
// each processor that a stream can occupy, and two that wait for writes.
func DefaultWorkers() int { return min(runtime.GOMAXPROCS(0), 8) + 2 }

// decoder is one call of DecodeStream: the calling goroutine reads grains into
// batches, workers take batches from work and give them back to free.
type decoder struct {
	s       *vmdk.Reader
	geo     vmdk.Geometry
	w       io.WriterAt
	gw      GrainWriter // nil when grains have to be inflated
	o       Options
	before  vmdk.Counts // what Resume had counted
	work    chan *batch
	free    chan *batch
	flying  sync.WaitGroup // batches in work or with a worker
	zeros   atomic.Int64
	written atomic.Int64
	since   int64 // offset in the stream of the last checkpoint
}

// batch is a run of grains with their compressed data.
type batch struct {
	data   []byte // fixed capacity
	grains []grainAt
}

// grainAt is a grain in a batch.
type grainAt struct {
	info       vmdk.GrainMarker
	start, end int // in batch.data
}

func newDecoder(s *vmdk.Reader, w io.WriterAt, o Options) *decoder {
	d := &decoder{s: s, geo: s.Geometry(), w: w, o: o, since: s.Offset()}
	if o.Resume != nil {
		d.before = o.Resume.Counts
	}
	if gw, ok := w.(GrainWriter); ok && gw.GrainSize() == d.geo.GrainSize {
		d.gw = gw
	}
	n := o.Workers + 2
	d.work = make(chan *batch, n)
	d.free = make(chan *batch, n)
	for range n {
		d.free <- new(batch)
	}
	return d
}

// prepare gives a batch its memory, at its first use.
func (d *decoder) prepare(b *batch) *batch {
	if b.grains == nil {
		grains := int(max(1, batchData/d.geo.GrainSize))
		b.data = make([]byte, 0, grains*vmdk.MaxCompressed(d.geo.GrainSize))
		b.grains = make([]grainAt, 0, grains)
	}
	return b
}

func (d *decoder) counts(c vmdk.Counts) vmdk.Counts {
	c.ZeroGrains = d.before.ZeroGrains + d.zeros.Load()
	c.DataBytes = d.before.DataBytes + d.written.Load()
	return c
}

// run starts the workers, feeds them, and waits for them.
func (d *decoder) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var workers sync.WaitGroup
	if d.w != nil || d.o.Verify {
		for range d.o.Workers {
			workers.Go(func() { d.worker(ctx, cancel) })
		}
	}
	err := panics.Catch(func() error { return d.feed(ctx) })
	close(d.work)
	workers.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err == nil {
		d.passed(d.geo.Capacity)
	}
	return err
}

// passed reports that everything before a byte of the disk is passed.
func (d *decoder) passed(pos int64) {
	if d.o.OnData != nil {
		d.o.OnData(min(d.s.Counts().Grains*d.geo.GrainSize, d.geo.Capacity))
	}
	if d.o.OnPosition != nil {
		d.o.OnPosition(pos)
	}
}

// feed reads the stream to its end.
func (d *decoder) feed(ctx context.Context) error {
	if d.w == nil && !d.o.Verify {
		return d.walk(ctx)
	}
	b := d.prepare(<-d.free)
	for {
		g, err := d.s.Next()
		if err == io.EOF {
			d.dispatch(b)
			return nil
		}
		if err != nil {
			return err
		}
		start := len(b.data)
		b.data = b.data[:start+g.Size]
		if err := d.s.ReadGrain(b.data[start:]); err != nil {
			return err
		}
		b.grains = append(b.grains, grainAt{info: g, start: start, end: start + g.Size})
		due := d.checkpointDue()
		if len(b.grains) < cap(b.grains) && !due {
			continue
		}
		d.dispatch(b)
		if due {
			if err := d.checkpoint(ctx); err != nil {
				return err
			}
		}
		select {
		case b = <-d.free:
			d.prepare(b)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		d.passed(min(g.LBA*block.SectorSize+d.geo.GrainSize, d.geo.Capacity))
	}
}

// walk is feed without workers.
func (d *decoder) walk(ctx context.Context) error {
	for {
		g, err := d.s.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		d.passed(min(g.LBA*block.SectorSize+d.geo.GrainSize, d.geo.Capacity))
		if d.checkpointDue() {
			if err := d.checkpoint(ctx); err != nil {
				return err
			}
		}
	}
}

func (d *decoder) dispatch(b *batch) {
	d.flying.Add(1)
	d.work <- b // never blocks: it holds all batches there are
}

func (d *decoder) checkpointDue() bool {
	return d.o.OnCheckpoint != nil && d.s.Offset()-d.since >= d.o.CheckpointEvery
}

// checkpoint waits until every grain so far is written, makes that durable, and
// reports the place.
func (d *decoder) checkpoint(ctx context.Context) error {
	d.flying.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	p, err := d.s.Checkpoint()
	if err != nil {
		return err
	}
	p.Counts = d.counts(p.Counts)
	if w, ok := d.w.(interface{ Checkpoint() error }); ok {
		if err := w.Checkpoint(); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
	}
	if err := d.o.OnCheckpoint(p); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	d.since = p.StreamOffset
	return nil
}
