package qcow2

import (
	"errors"
	"fmt"
	"os"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/block"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/part"
	"github.com/hyper2kvm/hyper2kvm/internal/directio"
)

// Options are the options of [Create] and [Open]. The zero value works.
type Options struct {
	// Compress takes grains of 64 KiB as they are: their deflate data becomes
	// that of a compressed cluster, without being inflated. What is written
	// with WriteAt is stored plainly. It may differ between Create and Open.
	Compress bool
}

// Writer writes a qcow2 image of version 3. It implements [disk.GrainWriter].
//
// Clusters are taken in the order in which they are first written, at the end
// of the file; a cluster that was never written, or only with zeros, takes no
// space. Writes need not be aligned. A compressed cluster can be replaced as a
// whole, not in part, and not across a Checkpoint if a crash is to be survived.
type Writer struct {
	file part.File
	o    Options
	layout

	// Guarded by file.Mu:
	l1      []uint64 // level 1 table
	refs    []uint64 // refcount table
	pages   *tableCache
	next    int64 // number of the next cluster never used
	dataAt  int64 // where the next compressed data goes, in bytes
	dataEnd int64 // end of the clusters taken for it
	stage   stage
	gen     uint64 // of the last checkpoint
	failed  error  // why the tables in memory cannot be relied on any more
}

// Create is [CreateAt] for a path.
func Create(path string, capacity int64, o Options) (*Writer, error) {
	return CreateAt(disk.Path(path), capacity, o)
}

// CreateAt makes a part file, replacing what is there, for a disk of capacity
// bytes, a multiple of 512. It is no qcow2 image before Commit.
func CreateAt(at disk.At, capacity int64, o Options) (*Writer, error) {
	if err := block.CheckCapacity(capacity); err != nil {
		return nil, err
	}
	f, err := part.Create(at)
	if err != nil {
		return nil, part.Error("create", at.String(), err)
	}
	return create(at, f, capacity, o)
}

// create begins an image in an empty file, which it takes over.
func create(at disk.At, f *directio.File, capacity int64, o Options) (*Writer, error) {
	w := newWriter(at, f, capacity, o)
	if err := w.start(); err != nil {
		_ = part.Discard(w.file.F, at)
		return nil, part.Error("create", at.String(), err)
	}
	return w, nil
}

func newWriter(at disk.At, f *directio.File, capacity int64, o Options) *Writer {
	w := &Writer{file: part.File{At: at, Path: at.String(), F: f}, o: o, layout: layOut(capacity), pages: newTableCache(f)}
	w.l1 = make([]uint64, w.l1Entries)
	w.refs = make([]uint64, w.refBlocks)
	return w
}

// start takes the clusters at fixed places.
func (w *Writer) start() error {
	w.next = w.firstFree
	if err := w.takeBlock(0); err != nil {
		return err
	}
	for c := range w.firstFree {
		if err := w.addRef(c, 1); err != nil {
			return err
		}
	}
	return nil
}

// take returns the number of a cluster that was never used, whose reference
// count is zero. The first such cluster in each 2 GiB of the file becomes the
// refcount block of these 2 GiB instead.
func (w *Writer) take() (int64, error) {
	if b := w.next / blockRefs; b >= w.refBlocks || w.refs[b] == 0 {
		if err := w.takeBlock(b); err != nil {
			return 0, err
		}
	}
	c := w.next
	w.next++
	return c, nil
}

// takeBlock makes the next cluster refcount block number b.
func (w *Writer) takeBlock(b int64) error {
	if b >= w.refBlocks {
		return fmt.Errorf("image is larger than its refcount table allows: %w", block.ErrUnsupported)
	}
	c := w.next
	if _, err := w.pages.get(c*clusterSize, true); err != nil {
		return err
	}
	w.refs[b] = uint64(c * clusterSize)
	w.next++
	return w.addRef(c, 1)
}

// addRef adds by to a cluster's reference count.
func (w *Writer) addRef(c int64, by int) error {
	p, err := w.refPage(c)
	if err != nil {
		return err
	}
	n := int(p.ref(c%blockRefs)) + by
	if n < 0 || n > maxRefcountV3 {
		return corruptError(w.file.Path, "cluster %d would have %d references", c, n)
	}
	p.setRef(c%blockRefs, uint16(n))
	return nil
}

// level2 returns the page with the entry of a cluster of the disk. Without
// create it is nil when there is none.
func (w *Writer) level2(cluster int64, create bool) (*page, error) {
	i := cluster / l2Entries
	if off := int64(w.l1[i] & offsetMask); off != 0 {
		return w.pages.get(off, false)
	}
	if !create {
		return nil, nil
	}
	c, err := w.take()
	if err != nil {
		return nil, err
	}
	if err := w.addRef(c, 1); err != nil {
		return nil, err
	}
	w.l1[i] = uint64(c*clusterSize) | flagCopied
	return w.pages.get(c*clusterSize, true)
}

// lookup returns the level 2 entry of a cluster of the disk, 0 for none.
func (w *Writer) lookup(cluster int64) (uint64, error) {
	p, err := w.level2(cluster, false)
	if p == nil || err != nil {
		return 0, err
	}
	return p.entry(cluster % l2Entries), nil
}

// set changes the level 2 entry of a cluster of the disk.
func (w *Writer) set(cluster int64, entry uint64) error {
	p, err := w.level2(cluster, true)
	if err != nil {
		return err
	}
	p.setEntry(cluster%l2Entries, entry)
	return nil
}

// errPartly refuses a write before it has changed anything.
var errPartly = errors.New("would change a part of a compressed cluster")

// usable tells why the image cannot be written any further, if so.
func (w *Writer) usable() error {
	switch {
	case w.file.Closed:
		return os.ErrClosed
	case w.failed != nil:
		return w.failed
	}
	return w.file.F.Err()
}

// spoil ends the use of the image after an error in the midst of changing its
// tables: no checkpoint and no commit may vouch for them.
func (w *Writer) spoil(err error) {
	if err != nil && w.failed == nil && !errors.Is(err, errPartly) {
		w.failed = err
	}
}

// span is a piece of a write that is contiguous in the file.
type span struct {
	host int64 // offset in the file; negative: nothing to write
	n    int
}

// spanClusters is how many clusters are looked up at a time.
const spanClusters = 16

// WriteAt implements [io.WriterAt].
func (w *Writer) WriteAt(p []byte, off int64) (int, error) {
	if err := w.file.CheckRange(off, len(p), w.capacity); err != nil {
		return 0, err
	}
	done := 0
	for done < len(p) {
		var room [spanClusters]span
		spans, err := w.place(room[:0], p[done:], off+int64(done))
		if err != nil {
			return done, part.Error("write", w.file.Path, err)
		}
		for _, s := range spans {
			if s.host >= 0 {
				if _, err := w.file.F.WriteAt(p[done:done+s.n], s.host); err != nil {
					return done, part.Error("write", w.file.Path, err)
				}
			}
			done += s.n
		}
	}
	return done, nil
}

// place finds or takes clusters for the beginning of p and returns the pieces.
func (w *Writer) place(spans []span, p []byte, off int64) (_ []span, err error) {
	w.file.Mu.Lock()
	defer w.file.Mu.Unlock()
	if err := w.usable(); err != nil {
		return nil, err
	}
	defer func() { w.spoil(err) }()
	for range spanClusters {
		if len(p) == 0 {
			break
		}
		in := off % clusterSize
		n := int(min(int64(len(p)), clusterSize-in))
		host, err := w.clusterFor(p[:n], off)
		if err != nil {
			return nil, err
		}
		if k := len(spans) - 1; k >= 0 && (host >= 0) == (spans[k].host >= 0) && (host < 0 || spans[k].host+int64(spans[k].n) == host) {
			spans[k].n += n
		} else {
			spans = append(spans, span{host: host, n: n})
		}
		p, off = p[n:], off+int64(n)
	}
	return spans, nil
}

// clusterFor returns where in the file p belongs, which does not cross a
// cluster's end, or -1 if it is zeros where there are zeros already. A cluster
// that is new in the file reads as zeros where it is not written.
func (w *Writer) clusterFor(p []byte, off int64) (int64, error) {
	cluster, in := off/clusterSize, off%clusterSize
	entry, err := w.lookup(cluster)
	if err != nil {
		return 0, err
	}
	switch {
	case entry == 0 && block.IsZero(p):
		return -1, nil
	case entry == 0:
	case entry&flagCompressed == 0:
		return int64(entry&offsetMask) + in, nil
	case int64(len(p)) != min(clusterSize, w.capacity-cluster*clusterSize):
		return 0, fmt.Errorf("%d bytes at %d %w: %w", len(p), off, errPartly, block.ErrUnsupported)
	default:
		if err := w.refer(entry, -1); err != nil {
			return 0, err
		}
	}
	c, err := w.take()
	if err != nil {
		return 0, err
	}
	if err := w.addRef(c, 1); err != nil {
		return 0, err
	}
	return c*clusterSize + in, w.set(cluster, uint64(c*clusterSize)|flagCopied)
}

// refer adds by to the reference count of every cluster that an entry uses.
func (w *Writer) refer(entry uint64, by int) error {
	first := int64(entry&offsetMask) / clusterSize
	last := first
	if entry&flagCompressed != 0 {
		_, start, end := compressedExtent(entry, clusterBits)
		first, last = start/clusterSize, (end-1)/clusterSize
	}
	for c := first; c <= last; c++ {
		if err := w.addRef(c, by); err != nil {
			return err
		}
	}
	return nil
}
