package disk

import (
	"fmt"
	"os"

	"github.com/hyper2kvm/hyper2kvm/internal/directio"
)

// Qcow2Options are the options of [CreateQcow2] and [OpenQcow2]. The zero value
// works.
type Qcow2Options struct {
	// Compress takes grains of 64 KiB as they are: their deflate data becomes
	// that of a compressed cluster, without being inflated. What is written
	// with WriteAt is stored plainly. It may differ between Create and Open.
	Compress bool
}

// Qcow2 writes a qcow2 image of version 3. It implements [Writer] and
// [GrainWriter].
//
// Clusters are taken in the order in which they are first written, at the end
// of the file; a cluster that was never written, or only with zeros, takes no
// space. Writes need not be aligned. A compressed cluster can be replaced as a
// whole, not in part, and not across a Checkpoint if a crash is to be survived.
type Qcow2 struct {
	partFile
	o Qcow2Options
	qcow2Layout

	// Guarded by mu:
	l1     []uint64 // level 1 table
	refs   []uint64 // refcount table
	pages  *pageCache
	next   int64 // number of the next cluster never used
	zipAt  int64 // where the next compressed data goes, in bytes
	zipEnd int64 // end of the clusters taken for it
	zip    zipStage
	gen    uint64 // of the last checkpoint
}

// CreateQcow2 makes a part file at path, replacing what is there, for a disk of
// capacity bytes, a multiple of 512. It is no qcow2 image before Commit.
func CreateQcow2(path string, capacity int64, o Qcow2Options) (*Qcow2, error) {
	if err := checkCapacity(capacity); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, partMode)
	if err != nil {
		return nil, fileError("create", path, err)
	}
	w := newQcow2(path, directio.NewFile(f), capacity, o)
	if err := w.start(); err != nil {
		_ = discard(w.f, path)
		return nil, fileError("create", path, err)
	}
	return w, nil
}

func newQcow2(path string, f *directio.File, capacity int64, o Qcow2Options) *Qcow2 {
	w := &Qcow2{partFile: partFile{path: path, f: f}, o: o, qcow2Layout: layoutQcow2(capacity), pages: newPageCache(f.File)}
	w.l1 = make([]uint64, w.l1Entries)
	w.refs = make([]uint64, w.refBlocks)
	return w
}

// start takes the clusters at fixed places.
func (w *Qcow2) start() error {
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
func (w *Qcow2) take() (int64, error) {
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
func (w *Qcow2) takeBlock(b int64) error {
	if b >= w.refBlocks {
		return fmt.Errorf("image is larger than its refcount table allows: %w", ErrUnsupported)
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
func (w *Qcow2) addRef(c int64, by int) error {
	p, err := w.refPage(c)
	if err != nil {
		return err
	}
	n := int(p.ref(c%blockRefs)) + by
	if n < 0 || n > maxRefcountV3 {
		return qcow2Error(w.path, "cluster %d would have %d references", c, n)
	}
	p.setRef(c%blockRefs, uint16(n))
	return nil
}

// level2 returns the page with the entry of a cluster of the disk. Without
// create it is nil when there is none.
func (w *Qcow2) level2(cluster int64, create bool) (*page, error) {
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
func (w *Qcow2) lookup(cluster int64) (uint64, error) {
	p, err := w.level2(cluster, false)
	if p == nil || err != nil {
		return 0, err
	}
	return p.entry(cluster % l2Entries), nil
}

// set changes the level 2 entry of a cluster of the disk.
func (w *Qcow2) set(cluster int64, entry uint64) error {
	p, err := w.level2(cluster, true)
	if err != nil {
		return err
	}
	p.setEntry(cluster%l2Entries, entry)
	return nil
}

// span is a piece of a write that is contiguous in the file.
type span struct {
	host int64 // offset in the file; negative: nothing to write
	n    int
}

// spanClusters is how many clusters are looked up at a time.
const spanClusters = 16

// WriteAt implements [io.WriterAt].
func (w *Qcow2) WriteAt(p []byte, off int64) (int, error) {
	if err := checkRange(w.path, off, len(p), w.capacity); err != nil {
		return 0, err
	}
	done := 0
	for done < len(p) {
		var room [spanClusters]span
		spans, err := w.place(room[:0], p[done:], off+int64(done))
		if err != nil {
			return done, fileError("write", w.path, err)
		}
		for _, s := range spans {
			if s.host >= 0 {
				if _, err := w.f.WriteAt(p[done:done+s.n], s.host); err != nil {
					return done, fileError("write", w.path, err)
				}
			}
			done += s.n
		}
	}
	return done, nil
}

// place finds or takes clusters for the beginning of p and returns the pieces.
func (w *Qcow2) place(spans []span, p []byte, off int64) ([]span, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, os.ErrClosed
	}
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
func (w *Qcow2) clusterFor(p []byte, off int64) (int64, error) {
	cluster, in := off/clusterSize, off%clusterSize
	entry, err := w.lookup(cluster)
	if err != nil {
		return 0, err
	}
	switch {
	case entry == 0 && isZero(p):
		return -1, nil
	case entry == 0:
	case entry&flagZipped == 0:
		return int64(entry&offsetMask) + in, nil
	case int64(len(p)) != min(clusterSize, w.capacity-cluster*clusterSize):
		return 0, fmt.Errorf("%d bytes at %d would change a part of a compressed cluster: %w", len(p), off, ErrUnsupported)
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
func (w *Qcow2) refer(entry uint64, by int) error {
	first := int64(entry&offsetMask) / clusterSize
	last := first
	if entry&flagZipped != 0 {
		_, start, end := zipExtent(entry, clusterBits)
		first, last = start/clusterSize, (end-1)/clusterSize
	}
	for c := first; c <= last; c++ {
		if err := w.addRef(c, by); err != nil {
			return err
		}
	}
	return nil
}
