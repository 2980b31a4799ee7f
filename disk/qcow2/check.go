package qcow2

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/block"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/part"
)

// Limits that QEMU sets too.
const (
	maxL1Bytes       = 32 << 20
	maxRefTableBytes = 8 << 20
)

// checkWindow is how many clusters of a file are counted at a time, 8 MiB of
// counts: the clusters of 128 GiB.
const checkWindow = 2 << 20

// exclusive marks in a count that a cluster is used by something that does not
// share.
const exclusive = 1 << 31

// Info is what [Check] found.
type Info struct {
	Capacity    int64 // bytes of the disk
	ClusterSize int64 // bytes
	FileSize    int64 // bytes, holes included
	Plain       int64 // clusters stored plainly
	Compressed  int64 // clusters stored compressed
}

// Check is [CheckAt] for a path.
func Check(ctx context.Context, path string) (Info, error) { return CheckAt(ctx, disk.Path(path)) }

// CheckAt checks a complete qcow2 image without backing file, snapshots or
// encryption: the header; that all tables and data lie within the file and
// overlap nowhere; and that each cluster's reference count is just the number
// of its uses, so that nothing leaks. It does not look at the data; [CheckData] does. Errors wrap
// disk.ErrCorrupt or disk.ErrUnsupported and name the file.
//
// It needs about 16 MiB of memory and reads each level 2 table once for every
// 128 GiB of file.
func CheckAt(ctx context.Context, at disk.At) (Info, error) {
	return check(at, func(c *checker) error { return c.run(ctx) })
}

// check opens an image for run.
func check(at disk.At, run func(*checker) error) (Info, error) {
	path := at.String()
	f, err := at.Open()
	if err != nil {
		return Info{}, part.Error("check", path, err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	st, err := f.Stat()
	if err != nil {
		return Info{}, part.Error("check", path, err)
	}
	c := &checker{f: f, path: path, size: st.Size()}
	if err := run(c); err != nil {
		return Info{}, err
	}
	return c.info, nil
}

// checker is one call of Check or CheckData.
type checker struct {
	f    io.ReaderAt
	path string
	size int64

	bits     uint // of a cluster's size
	cs       int64
	v3       bool
	l1       []uint64
	l1At     int64
	refs     []uint64
	refsAt   int64
	info     Info
	low      int64    // number of the first cluster of the window
	counts   []uint32 // of the window
	clusters int64    // in the file
}

func (c *checker) corrupt(format string, a ...any) error {
	return corruptError(c.path, format, a...)
}

func (c *checker) unsupported(format string, a ...any) error {
	return fmt.Errorf("qcow2 image %s: %w: %w", c.path, fmt.Errorf(format, a...), block.ErrUnsupported)
}

func (c *checker) run(ctx context.Context) error {
	if err := c.readHeader(); err != nil {
		return err
	}
	for c.low = 0; c.low < c.clusters; c.low += checkWindow {
		clear(c.counts)
		c.info.Plain, c.info.Compressed = 0, 0
		if err := c.countAll(ctx); err != nil {
			return err
		}
		if err := c.compare(); err != nil {
			return err
		}
	}
	return nil
}

// readHeader reads the header and the two fixed tables.
func (c *checker) readHeader() error {
	be := binary.BigEndian
	h := make([]byte, headerBytes)
	if n, err := c.f.ReadAt(h, 0); err != nil && (err != io.EOF || n < 72) {
		return c.readError("header", err)
	}
	version, length := be.Uint32(h[4:]), int64(72)
	c.v3 = version == 3
	if c.v3 {
		length = int64(be.Uint32(h[100:]))
	}
	c.bits = uint(be.Uint32(h[20:]))
	capacity := be.Uint64(h[24:])
	switch {
	case string(h[:4]) != magic:
		return c.corrupt("it does not begin like one")
	case version != 2 && version != 3:
		return c.unsupported("version %d (2 and 3 are known)", version)
	case c.bits < 9 || c.bits > 21:
		return c.corrupt("cluster size of 2^%d bytes", c.bits)
	case be.Uint64(h[8:]) != 0:
		return c.unsupported("it has a backing file")
	case be.Uint32(h[32:]) != 0:
		return c.unsupported("it is encrypted")
	case be.Uint32(h[60:]) != 0:
		return c.unsupported("it has snapshots")
	case c.v3 && be.Uint64(h[72:])&3 != 0:
		return c.corrupt("it is marked as dirty or corrupt (features %#x)", be.Uint64(h[72:]))
	case c.v3 && be.Uint64(h[72:]) != 0:
		return c.unsupported("incompatible features %#x", be.Uint64(h[72:]))
	case c.v3 && (length < headerBytes || length > 1<<c.bits || length%8 != 0):
		return c.corrupt("header of %d bytes", length)
	case c.v3 && be.Uint32(h[96:]) != refcountOrder:
		return c.unsupported("reference counts of 2^%d bits", be.Uint32(h[96:]))
	case capacity > 1<<62:
		return c.corrupt("capacity of %d bytes", capacity)
	}
	c.cs = 1 << c.bits
	c.clusters = block.RoundUp(c.size, c.cs) / c.cs
	c.info = Info{Capacity: int64(capacity), ClusterSize: c.cs, FileSize: c.size}
	c.counts = make([]uint32, min(checkWindow, c.clusters))

	var err error
	need := block.RoundUp(int64(capacity), c.cs*c.cs/8) / (c.cs * c.cs / 8)
	entries := int64(be.Uint32(h[36:]))
	if entries < need {
		return c.corrupt("level 1 table of %d entries, %d are needed", entries, need)
	}
	if c.l1, c.l1At, err = c.readTable("level 1 table", be.Uint64(h[40:]), entries*8, maxL1Bytes); err != nil {
		return err
	}
	c.refs, c.refsAt, err = c.readTable("refcount table", be.Uint64(h[48:]), int64(be.Uint32(h[56:]))*c.cs, maxRefTableBytes)
	return err
}

// readTable reads a table at a fixed place.
func (c *checker) readTable(name string, at uint64, size, most int64) ([]uint64, int64, error) {
	if size == 0 {
		return nil, 0, nil
	}
	if size > most {
		return nil, 0, c.corrupt("%s of %d bytes", name, size)
	}
	if err := c.inFile(name, at, size); err != nil {
		return nil, 0, err
	}
	words := make([]uint64, size/8)
	if err := readWords(c.f, words, int64(at)); err != nil {
		return nil, 0, c.readError(name, err)
	}
	return words, int64(at), nil
}

// inFile tells whether size bytes at an offset are whole clusters of the file,
// behind the header.
func (c *checker) inFile(name string, at uint64, size int64) error {
	if at == 0 || at%uint64(c.cs) != 0 || at > uint64(c.size) || size > c.size-int64(at) {
		return c.corrupt("%s at %d, of %d bytes, in a file of %d", name, at, size, c.size)
	}
	return nil
}

func (c *checker) readError(name string, err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return c.corrupt("%s is cut off", name)
	}
	return part.Error("read "+name+" of", c.path, err)
}

// count counts a use of the area from start to end.
func (c *checker) count(start, end int64, mark uint32) {
	first := max(start/c.cs-c.low, 0)
	last := min((end-1)/c.cs-c.low, int64(len(c.counts))-1)
	for i := first; i <= last; i++ {
		c.counts[i] = (c.counts[i] + 1) | mark
	}
}

// repeated tells whether a cluster of the window was counted more than once. It
// is asked before a table is read, so that no table is read twice.
func (c *checker) repeated(off int64) bool {
	i := off/c.cs - c.low
	return i >= 0 && i < int64(len(c.counts)) && c.counts[i]&^exclusive > 1
}

// countAll counts every use of the window's clusters.
func (c *checker) countAll(ctx context.Context) error {
	c.count(0, c.cs, exclusive)
	if len(c.l1) > 0 {
		c.count(c.l1At, c.l1At+int64(len(c.l1))*8, exclusive)
	}
	if len(c.refs) > 0 {
		c.count(c.refsAt, c.refsAt+int64(len(c.refs))*8, exclusive)
	}
	for i, off := range c.refs {
		if off == 0 {
			continue
		}
		if err := c.inFile(fmt.Sprintf("refcount block %d", i), off, c.cs); err != nil {
			return err
		}
		c.count(int64(off), int64(off)+c.cs, exclusive)
	}
	table := make([]byte, c.cs)
	for i, entry := range c.l1 {
		if entry == 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if entry&^uint64(offsetMask) != flagCopied {
			return c.corrupt("level 1 entry %d is %#x", i, entry)
		}
		off := entry & offsetMask
		name := fmt.Sprintf("level 2 table %d", i)
		if err := c.inFile(name, off, c.cs); err != nil {
			return err
		}
		if c.count(int64(off), int64(off)+c.cs, exclusive); c.repeated(int64(off)) {
			return c.corrupt("%s shares its cluster %d", name, int64(off)/c.cs)
		}
		if _, err := c.f.ReadAt(table, int64(off)); err != nil {
			return c.readError(name, err)
		}
		if err := c.countTable(table, i); err != nil {
			return err
		}
	}
	return nil
}

// countTable counts the clusters that level 2 table number n uses.
func (c *checker) countTable(table []byte, n int) error {
	for i := 0; i < len(table); i += 8 {
		entry := binary.BigEndian.Uint64(table[i:])
		if entry == 0 {
			continue
		}
		if entry&flagCompressed != 0 {
			off, start, end := compressedExtent(entry, c.bits)
			if entry&flagCopied != 0 || off < c.cs || off >= c.size || end > c.clusters*c.cs {
				return c.corrupt("entry %d of level 2 table %d is %#x: compressed data outside the file", i/8, n, entry)
			}
			c.count(start, end, 0)
			c.info.Compressed++
			continue
		}
		off := entry & offsetMask
		flags := entry &^ uint64(offsetMask)
		zero := flags&flagZero != 0 && c.v3
		switch {
		case zero && off == 0 && flags == flagZero:
			continue
		case (zero && flags != flagZero|flagCopied) || (!zero && flags != flagCopied):
			return c.corrupt("entry %d of level 2 table %d is %#x", i/8, n, entry)
		case off == 0 || off%uint64(c.cs) != 0 || off >= uint64(c.size):
			return c.corrupt("entry %d of level 2 table %d is %#x: no cluster of the file", i/8, n, entry)
		}
		c.count(int64(off), int64(off)+c.cs, exclusive)
		c.info.Plain++
	}
	return nil
}

// compare holds the counts of the window against the refcount blocks.
func (c *checker) compare() error {
	per := c.cs / 2
	block := make([]byte, c.cs)
	for i := int64(0); i < int64(len(c.counts)) && c.low+i < c.clusters; i++ {
		cluster := c.low + i
		if i == 0 || cluster%per == 0 {
			clear(block)
			if b := cluster / per; b < int64(len(c.refs)) && c.refs[b] != 0 {
				if _, err := c.f.ReadAt(block, int64(c.refs[b])); err != nil {
					return c.readError(fmt.Sprintf("refcount block %d", b), err)
				}
			}
		}
		stored := uint32(binary.BigEndian.Uint16(block[cluster%per*2:]))
		used := c.counts[i] &^ exclusive
		switch {
		case used > 1 && c.counts[i]&exclusive != 0:
			return c.corrupt("cluster %d is used %d times", cluster, used)
		case stored < used:
			return c.corrupt("cluster %d is used %d times and its reference count is %d", cluster, used, stored)
		case stored > used:
			return c.corrupt("cluster %d leaks: it is used %d times and its reference count is %d", cluster, used, stored)
		}
	}
	return nil
}
