package disk

import (
	"context"
	"errors"
	"fmt"

	"github.com/hyper2kvm/hyper2kvm/disk/internal/block"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/inflate"
	"github.com/hyper2kvm/hyper2kvm/disk/vmdk"
	"github.com/hyper2kvm/hyper2kvm/internal/directio"
	"github.com/hyper2kvm/hyper2kvm/internal/panics"
)

// zeroGrainHint is the most compressed bytes that a grain of zeros takes with
// any usual encoder, at 64 KiB: above it, grains that need not be inflated are
// not inflated to find out.
const zeroGrainHint = 256

// worker inflates and writes batches until there are no more.
func (d *decoder) worker(ctx context.Context, cancel context.CancelCauseFunc) {
	w := &grainWorker{d: d}
	if d.gw != nil {
		w.keep = make([]Grain, 0, batchData/d.geo.GrainSize+1)
	}
	for b := range d.work {
		if ctx.Err() == nil {
			if err := panics.Catch(func() error { return w.batch(b) }); err != nil {
				cancel(err)
			}
		}
		b.data, b.grains = b.data[:0], b.grains[:0]
		d.free <- b
		d.flying.Done()
	}
}

// grainWorker is what one worker needs. Nothing is allocated for a grain.
type grainWorker struct {
	d       *decoder
	dec     inflate.Decoder
	out     []byte  // inflated grains, in order, without gaps
	keep    []Grain // grains to be stored as they are
	start   int64   // offset in the disk of the run in out
	pending int     // length of the run in out, not yet written
	base    int     // where in out it begins
}

// batch does the work for one batch.
func (w *grainWorker) batch(b *batch) error {
	if w.out == nil {
		w.out = directio.Buffer(int(max(batchData, w.d.geo.GrainSize)))
	}
	w.pending, w.base = 0, 0
	w.keep = w.keep[:0]
	for _, g := range b.grains {
		z := b.data[g.start:g.end]
		if err := w.grain(g.info, z); err != nil {
			return err
		}
	}
	if err := w.flush(); err != nil {
		return err
	}
	if len(w.keep) > 0 {
		if err := w.d.gw.WriteGrains(w.keep); err != nil {
			return err
		}
		w.d.written.Add(int64(len(w.keep)) * w.d.geo.GrainSize)
	}
	return nil
}

// grain inflates a grain, or passes it on as it is.
func (w *grainWorker) grain(g vmdk.GrainMarker, z []byte) error {
	off := g.LBA * block.SectorSize
	size := w.d.geo.GrainSize
	want := int(min(size, w.d.geo.Capacity-off))
	asIs := w.d.gw != nil && int64(want) == size && w.d.gw.FitsGrain(len(z))
	if asIs && !w.d.o.Verify && len(z) > zeroGrainHint {
		w.keep = append(w.keep, Grain{Offset: off, Zlib: z})
		return nil
	}
	at := w.base + w.pending
	n, err := w.dec.Zlib(w.out[at:at+int(size)], z)
	if err == nil && n != want && int64(n) != size {
		err = fmt.Errorf("grain has %d bytes, not %d", n, want)
	}
	if err != nil {
		return &vmdk.StreamError{Offset: g.Offset, LBA: g.LBA, Err: fmt.Errorf("%w: %w", err, ErrCorrupt)}
	}
	switch data := w.out[at : at+want]; {
	case block.IsZero(data):
		w.d.zeros.Add(1)
	case asIs:
		w.keep = append(w.keep, Grain{Offset: off, Zlib: z})
	default:
		return w.add(off, want)
	}
	return nil
}

// add appends the n bytes that lie behind the current run to it, or begins
// another run with them.
func (w *grainWorker) add(off int64, n int) error {
	if w.pending > 0 && w.start+int64(w.pending) != off {
		at := w.base + w.pending
		if err := w.flush(); err != nil {
			return err
		}
		w.base = at
	}
	if w.pending == 0 {
		w.start = off
	}
	w.pending += n
	return nil
}

// flush writes the run.
func (w *grainWorker) flush() error {
	if w.pending == 0 {
		return nil
	}
	p := w.out[w.base : w.base+w.pending]
	w.base, w.pending = w.base+w.pending, 0
	if w.d.w == nil {
		return nil
	}
	n, err := w.d.w.WriteAt(p, w.start)
	if err == nil && n < len(p) {
		err = errors.New("short write")
	}
	if err != nil {
		return fmt.Errorf("write %d bytes of the disk at %d: %w", len(p), w.start, err)
	}
	w.d.written.Add(int64(n))
	return nil
}
