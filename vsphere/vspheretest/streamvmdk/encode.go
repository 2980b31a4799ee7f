package streamvmdk

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"

	"github.com/klauspost/compress/zlib"
	"golang.org/x/sync/errgroup"
)

// Options are the choices of Encode. The zero value is ready to use.
type Options struct {
	// Workers is how many grains are compressed at a time; 0 means one per CPU.
	Workers int
	// Level is the zlib level; 0 means the fastest that compresses.
	Level int
}

// Summary says what Encode wrote. Sizes are in bytes, hashes in lower-case hex
// over the whole stream.
type Summary struct {
	Capacity  int64 // of the disk: the source's size, rounded up to a sector
	Populated int64 // grains in the stream times GrainSize
	Size      int64 // of the stream
	SHA1      string
	SHA256    string
}

// Encode writes the raw disk in src to w as a stream-optimized VMDK. The last
// grain of a disk whose size is no multiple of GrainSize is padded with zeros.
// It stops with ctx's error when ctx ends.
func Encode(ctx context.Context, w io.Writer, src *os.File, o Options) (Summary, error) {
	fi, err := src.Stat()
	if err != nil {
		return Summary{}, err
	}
	if fi.Size() == 0 {
		return Summary{}, fmt.Errorf("encode %s: the disk is empty", src.Name())
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Level == 0 {
		o.Level = zlib.BestSpeed
	}
	s1, s256 := sha1.New(), sha256.New()
	out := &writer{w: io.MultiWriter(w, s1, s256), capacity: roundUp(fi.Size(), SectorSize)}
	if err := out.start(); err != nil {
		return Summary{}, err
	}
	if err := compressAll(ctx, src, fi.Size(), o, out); err != nil {
		return Summary{}, fmt.Errorf("encode %s: %w", src.Name(), err)
	}
	if err := out.finish(); err != nil {
		return Summary{}, fmt.Errorf("encode %s: %w", src.Name(), err)
	}
	return Summary{
		Capacity: out.capacity, Populated: out.grains * GrainSize, Size: out.sector * SectorSize,
		SHA1: hex.EncodeToString(s1.Sum(nil)), SHA256: hex.EncodeToString(s256.Sum(nil)),
	}, nil
}

// batchGrains is how many grains travel together from reader to writer: enough
// to hide the hand-over, few enough to keep memory small.
const batchGrains = 32

// batch is a run of grains of one grain table on its way through a worker.
type batch struct {
	first, count int64 // grain numbers
	data         bytes.Buffer
	grains       []placed
	err          error
	done         chan struct{}
}

// placed is a grain that was not all zero and where it begins in batch.data.
type placed struct {
	grain int64
	at    int
}

// compressAll reads, compresses and writes every grain that holds data.
func compressAll(ctx context.Context, src *os.File, size int64, o Options, out *writer) error {
	g, ctx := errgroup.WithContext(ctx)
	jobs := make(chan *batch)
	ordered := make(chan *batch, 2*o.Workers)
	g.Go(func() error {
		defer close(jobs)
		defer close(ordered)
		return produce(ctx, src, size, jobs, ordered)
	})
	for range o.Workers {
		g.Go(func() error {
			enc := newEncoder(o.Level)
			for b := range jobs {
				b.err = enc.encode(src, b)
				close(b.done)
			}
			return nil
		})
	}
	g.Go(func() error {
		for b := range ordered {
			select {
			case <-b.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			if b.err != nil {
				return b.err
			}
			if err := out.write(b); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
	return g.Wait()
}

// produce cuts the data of src into batches that stay within a grain table.
func produce(ctx context.Context, src *os.File, size int64, jobs, ordered chan<- *batch) error {
	for e, err := range Extents(src, size, GrainSize) {
		if err != nil {
			return err
		}
		last := roundUp(e.End, GrainSize) / GrainSize
		for g := e.Start / GrainSize; g < last; {
			tableEnd := (g/tableEntries + 1) * tableEntries
			n := min(batchGrains, last-g, tableEnd-g)
			b := &batch{first: g, count: n, done: make(chan struct{})}
			for _, ch := range []chan<- *batch{ordered, jobs} {
				select {
				case ch <- b:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			g += n
		}
	}
	return nil
}

// encoder holds one worker's buffers.
type encoder struct {
	z   *zlib.Writer
	err error
	buf []byte
}

func newEncoder(level int) *encoder {
	z, err := zlib.NewWriterLevel(io.Discard, level)
	return &encoder{z: z, err: err, buf: make([]byte, GrainSize)}
}

// encode compresses b's grains into b.data, each with its marker and padding.
func (e *encoder) encode(src io.ReaderAt, b *batch) error {
	if e.err != nil {
		return e.err
	}
	for g := b.first; g < b.first+b.count; g++ {
		n, err := src.ReadAt(e.buf, g*GrainSize)
		if err != nil && err != io.EOF {
			return err
		}
		clear(e.buf[n:])
		if isZero(e.buf) {
			continue
		}
		at := b.data.Len()
		b.data.Write(make([]byte, markerSize))
		e.z.Reset(&b.data)
		if _, err := e.z.Write(e.buf); err != nil {
			return err
		}
		if err := e.z.Close(); err != nil {
			return err
		}
		marker := b.data.Bytes()[at:]
		binary.LittleEndian.PutUint64(marker, uint64(g*GrainSize/SectorSize))
		binary.LittleEndian.PutUint32(marker[8:], uint32(len(marker)-markerSize))
		if pad := roundUp(int64(b.data.Len()), SectorSize) - int64(b.data.Len()); pad > 0 {
			b.data.Write(make([]byte, pad))
		}
		b.grains = append(b.grains, placed{g, at})
	}
	return nil
}

// isZero compares b with itself one byte on, which the runtime does in vectors.
func isZero(b []byte) bool { return b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1]) }

// writer lays batches out and keeps the tables.
type writer struct {
	w         io.Writer
	capacity  int64 // bytes
	sector    int64 // next one to write
	grains    int64
	table     int64 // number of the grain table being filled
	entries   [tableEntries]uint32
	used      bool // entries has a grain
	directory []uint32
}

func (w *writer) start() error {
	tables := roundUp(w.capacity, GrainSize*tableEntries) / (GrainSize * tableEntries)
	w.directory = make([]uint32, tables)
	return w.put(preamble(uint64(w.capacity / SectorSize)))
}

func (w *writer) write(b *batch) error {
	if t := b.first / tableEntries; t != w.table {
		if err := w.flushTable(); err != nil {
			return err
		}
		w.table = t
	}
	for _, p := range b.grains {
		at := w.sector + int64(p.at/SectorSize)
		if at > math.MaxUint32 {
			return fmt.Errorf("the stream grows beyond the 2 TiB that its tables can address")
		}
		w.entries[p.grain%tableEntries] = uint32(at)
		w.used = true
		w.grains++
	}
	return w.put(b.data.Bytes())
}

func (w *writer) flushTable() error {
	if !w.used {
		return nil
	}
	if err := w.put(markerSector(tableSectors, markerTable)); err != nil {
		return err
	}
	w.directory[w.table] = uint32(w.sector)
	err := w.put(sectorsOf(w.entries[:]))
	clear(w.entries[:])
	w.used = false
	return err
}

func (w *writer) finish() error {
	if err := w.flushTable(); err != nil {
		return err
	}
	dir := sectorsOf(w.directory)
	if err := w.put(markerSector(uint64(len(dir)/SectorSize), markerDirectory)); err != nil {
		return err
	}
	gdOffset := uint64(w.sector)
	for _, part := range [][]byte{
		dir,
		markerSector(1, markerFooter),
		headerSector(uint64(w.capacity/SectorSize), gdOffset),
		markerSector(0, markerEOS),
	} {
		if err := w.put(part); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) put(b []byte) error {
	_, err := w.w.Write(b)
	w.sector += int64(len(b) / SectorSize)
	return err
}

// sectorsOf returns table entries as whole sectors.
func sectorsOf(entries []uint32) []byte {
	b := make([]byte, roundUp(int64(len(entries))*4, SectorSize))
	for i, e := range entries {
		binary.LittleEndian.PutUint32(b[i*4:], e)
	}
	return b
}
