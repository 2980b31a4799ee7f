package qcow2

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/inflate"
	"github.com/hyper2kvm/hyper2kvm/internal/panics"
)

// checkBatch is how many level 2 entries a worker gets at a time.
const checkBatch = 64

// CheckOptions are the options of [CheckData]. The zero value works.
type CheckOptions struct {
	// Workers is the number of goroutines that read and inflate; 0 is
	// disk.DefaultWorkers.
	Workers int
	// Adler compares the Adler-32 of each compressed cluster, which stands behind
	// its deflate data in an image that [Writer] wrote and nobody has changed
	// since. Other programs leave none.
	Adler bool
	// OnPosition is called, in order, with how many bytes of the disk are passed;
	// what is passed may still be with a worker. It must not block.
	OnPosition func(bytes int64)
}

// CheckData is [CheckDataAt] for a path.
func CheckData(ctx context.Context, path string, o CheckOptions) (Info, error) {
	return CheckDataAt(ctx, disk.Path(path), o)
}

// CheckDataAt is [CheckAt] and then reads every compressed cluster from the file and
// inflates it: it must give just a cluster's bytes and, with o.Adler, have its
// Adler-32. So a grain that was stored without being inflated is known to be the
// one that the stream's author compressed, and to be on the disk.
//
// Clusters that are stored plainly have nothing to be compared with. Where
// [Writer] stored a grain so, disk.DecodeStream has compared its Adler-32 before.
//
// When ctx ends, so does CheckDataAt, with its cause. No goroutine outlives the
// call.
func CheckDataAt(ctx context.Context, at disk.At, o CheckOptions) (Info, error) {
	if o.Workers <= 0 {
		o.Workers = disk.DefaultWorkers()
	}
	return check(at, func(c *checker) error {
		if err := c.run(ctx); err != nil {
			return err
		}
		return c.checkData(ctx, o)
	})
}

// entries are some of a level 2 table.
type entries struct {
	first int64 // number of the first one's cluster in the disk
	words []byte
}

// checkData hands the level 2 entries to workers.
func (c *checker) checkData(ctx context.Context, o CheckOptions) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan entries, o.Workers)
	var workers sync.WaitGroup
	for range o.Workers {
		workers.Go(func() {
			w := &dataWorker{c: c, adler: o.Adler, in: make([]byte, 2*c.cs+512), out: make([]byte, c.cs)}
			for e := range work {
				if ctx.Err() != nil {
					continue
				}
				if err := panics.Catch(func() error { return w.check(e) }); err != nil {
					cancel(err)
				}
			}
		})
	}
	err := panics.Catch(func() error { return c.feed(ctx, work, o.OnPosition) })
	close(work)
	workers.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// feed reads the level 2 tables.
func (c *checker) feed(ctx context.Context, work chan<- entries, passed func(int64)) error {
	for i, entry := range c.l1 {
		if entry == 0 {
			continue
		}
		table := make([]byte, c.cs)
		if _, err := c.f.ReadAt(table, int64(entry&offsetMask)); err != nil {
			return c.readError(fmt.Sprintf("level 2 table %d", i), err)
		}
		first := int64(i) * c.cs / 8
		for len(table) > 0 {
			n := min(len(table), checkBatch*8)
			select {
			case work <- entries{first: first, words: table[:n]}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			first, table = first+int64(n/8), table[n:]
			if passed != nil {
				passed(min(first*c.cs, c.info.Capacity))
			}
		}
	}
	if passed != nil {
		passed(c.info.Capacity)
	}
	return nil
}

// dataWorker is what one goroutine of CheckData needs.
type dataWorker struct {
	c       *checker
	adler   bool
	dec     inflate.Decoder
	in, out []byte
}

// check inflates the compressed clusters among entries.
func (w *dataWorker) check(e entries) error {
	for i := 0; i < len(e.words); i += 8 {
		entry := binary.BigEndian.Uint64(e.words[i:])
		if entry&flagCompressed == 0 {
			continue
		}
		if err := w.inflate(entry); err != nil {
			return fmt.Errorf("byte %d of the disk: %w", (e.first+int64(i/8))*w.c.cs, err)
		}
	}
	return nil
}

// inflate inflates the compressed cluster of a level 2 entry.
func (w *dataWorker) inflate(entry uint64) error {
	off, _, end := compressedExtent(entry, w.c.bits)
	in := w.in[:min(end, w.c.size)-off]
	if _, err := w.c.f.ReadAt(in, off); err != nil {
		return w.c.readError("compressed data", err)
	}
	n, used, err := w.dec.Deflate(w.out, in)
	switch {
	case err != nil:
		return w.c.corrupt("compressed data at %d: %w", off, err)
	case n != len(w.out):
		return w.c.corrupt("compressed data at %d holds %d bytes, not %d", off, n, len(w.out))
	case !w.adler:
		return nil
	}
	if err := inflate.CheckAdler(w.out, in[used:]); err != nil {
		return w.c.corrupt("compressed data at %d: %w", off, err)
	}
	return nil
}
