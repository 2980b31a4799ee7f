package disk

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zlib"

	"github.com/hyper2kvm/hyper2kvm/disk/internal/block"
	"github.com/hyper2kvm/hyper2kvm/internal/directio"
	"github.com/hyper2kvm/hyper2kvm/internal/panics"
)

// Image is the content of a disk that lies here and can be read at any place. It is
// for one goroutine.
type Image interface {
	io.ReaderAt
	// NextData returns the next area, in bytes, from off on that may hold something
	// else than zeros. Behind the last one start is the disk's capacity.
	NextData(off int64) (start, end int64, err error)
}

// CopyOptions are the options of [CopyImage]. The zero value works.
type CopyOptions struct {
	// Workers is the number of goroutines that write; 0 is [DefaultWorkers].
	Workers int
	// OnPosition is called, in order, with how many bytes of the disk are passed. It
	// must not block.
	OnPosition func(bytes int64)
	// OnRead is called with how many bytes were read. It must not block.
	OnRead func(bytes int64)
}

// CopyImage reads src, a disk of capacity bytes, front to back and writes it to w, in
// any order. What holds only zeros is not written: w must read as zeros where nothing
// was written. A w that is a [GrainWriter] gets compressed grains.
//
// When ctx ends, so does CopyImage, with its cause. No goroutine outlives the call.
func CopyImage(ctx context.Context, src Image, capacity int64, w io.WriterAt, o CopyOptions) error {
	if err := block.CheckCapacity(capacity); err != nil {
		return err
	}
	if o.Workers <= 0 {
		o.Workers = DefaultWorkers()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := &imageCopy{src: src, capacity: capacity, w: w, o: o, work: make(chan *imagePiece, o.Workers), free: make(chan *imagePiece, o.Workers+1)}
	if gw, ok := w.(GrainWriter); ok && gw.GrainSize() > 0 && batchData%gw.GrainSize() == 0 {
		c.gw = gw
	}
	for range o.Workers + 1 {
		c.free <- &imagePiece{}
	}
	var workers sync.WaitGroup
	for range o.Workers {
		workers.Go(func() {
			for p := range c.work {
				if ctx.Err() == nil {
					if err := panics.Catch(func() error { return c.write(p) }); err != nil {
						cancel(err)
					}
				}
				c.free <- p
			}
		})
	}
	err := panics.Catch(func() error { return c.read(ctx) })
	close(c.work)
	workers.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err == nil && o.OnPosition != nil {
		o.OnPosition(capacity)
	}
	return err
}

// imageCopy is one call of [CopyImage]: the calling goroutine reads pieces, workers
// write them.
type imageCopy struct {
	src      Image
	capacity int64
	w        io.WriterAt
	gw       GrainWriter // nil when nothing is compressed
	o        CopyOptions
	work     chan *imagePiece
	free     chan *imagePiece
}

// imagePiece is a piece of the disk, which begins at a multiple of batchData unless
// there is nothing but a hole before it.
type imagePiece struct {
	buf []byte
	n   int
	off int64
	z   bytes.Buffer
	zw  *zlib.Writer
}

// read reads what is not a hole.
func (c *imageCopy) read(ctx context.Context) error {
	for off := int64(0); off < c.capacity; {
		start, end, err := c.src.NextData(off)
		if err != nil {
			return err
		}
		if c.o.OnPosition != nil {
			c.o.OnPosition(min(start, c.capacity))
		}
		// Whole grains are read, so that no two pieces have parts of the same one.
		start, end = start/batchData*batchData, min(block.RoundUp(end, batchData), c.capacity)
		for start = max(start, off); start < end; start += batchData {
			p, err := c.next(ctx)
			if err != nil {
				return err
			}
			p.off, p.n = start, int(min(batchData, c.capacity-start))
			if n, err := c.src.ReadAt(p.buf[:p.n], start); n < p.n {
				return fmt.Errorf("read %d bytes of the disk at %d: %w", p.n, start, cut(err))
			}
			if c.o.OnRead != nil {
				c.o.OnRead(int64(p.n))
			}
			c.work <- p // never blocks for long: a worker takes it
		}
		off = max(start, off)
	}
	return nil
}

// cut is the error of a source that has ended too early.
func cut(err error) error {
	if err == nil || err == io.EOF {
		return ErrTruncated
	}
	return err
}

// next waits for a piece that is free.
func (c *imageCopy) next(ctx context.Context) (*imagePiece, error) {
	select {
	case p := <-c.free:
		if p.buf == nil {
			p.buf = directio.Buffer(batchData)
		}
		return p, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// copyGrain is the least piece that is left out when it is zeros, in bytes.
const copyGrain = 64 << 10

// write writes a piece but for its zeros.
func (c *imageCopy) write(p *imagePiece) error {
	size := int64(copyGrain)
	if c.gw != nil {
		size = c.gw.GrainSize()
	}
	run := 0 // where what is to be written as it is begins
	flush := func(to int) error {
		if run == to {
			return nil
		}
		_, err := c.w.WriteAt(p.buf[run:to], p.off+int64(run))
		return err
	}
	for at := 0; at < p.n; at += int(size) {
		end := min(at+int(size), p.n)
		done := block.IsZero(p.buf[at:end])
		if !done && c.gw != nil && int64(end-at) == size {
			var err error
			if done, err = c.compress(p, at, end); err != nil {
				return err
			}
		}
		if done {
			if err := flush(at); err != nil {
				return err
			}
			run = end
		}
	}
	return flush(p.n)
}

// compress stores a grain compressed, if that is worth it.
func (c *imageCopy) compress(p *imagePiece, at, end int) (done bool, err error) {
	p.z.Reset()
	if p.zw == nil {
		p.zw = zlib.NewWriter(&p.z)
	} else {
		p.zw.Reset(&p.z)
	}
	if _, err := p.zw.Write(p.buf[at:end]); err != nil {
		return false, err
	}
	if err := p.zw.Close(); err != nil {
		return false, err
	}
	if !c.gw.FitsGrain(p.z.Len()) {
		return false, nil
	}
	return true, c.gw.WriteGrains([]Grain{{Offset: p.off + int64(at), Zlib: p.z.Bytes()}})
}
