package disk

import (
	"fmt"
	"os"

	"github.com/hyper2kvm/hyper2kvm/disk/internal/inflate"
)

// zlibHead and zlibTail are the parts of a zlib stream around its deflate data.
const (
	zlibHead = 2
	zlibTail = 4 // Adler-32
)

// GrainSize is 64 KiB, a cluster, with [Qcow2Options.Compress], otherwise 0.
func (w *Qcow2) GrainSize() int64 {
	if w.o.Compress {
		return clusterSize
	}
	return 0
}

// FitsGrain tells whether a cluster's compressed data is shorter than the
// cluster, as the format demands, and of a length that 64 KiB can have.
func (w *Qcow2) FitsGrain(zlibLen int) bool {
	n := zlibLen - zlibHead - zlibTail
	return n >= minZip && n < clusterSize
}

// WriteGrains stores grains as compressed clusters: what is between the zlib
// header and the Adler-32 is appended to the file. It does not look at the data
// beyond the header.
func (w *Qcow2) WriteGrains(g []Grain) error {
	total := 0
	for i := range g {
		off, z := g[i].Offset, g[i].Zlib
		if err := checkRange(w.path, off, clusterSize, w.capacity); err != nil {
			return err
		}
		if off%clusterSize != 0 || !w.FitsGrain(len(z)) {
			return fmt.Errorf("write %s: %d bytes of grain at %d do not fit a compressed cluster", w.path, len(z), off)
		}
		if err := inflate.CheckHeader(z); err != nil {
			return fmt.Errorf("write %s: grain at %d: %w: %w", w.path, off, err, ErrCorrupt)
		}
		total += len(z) - zlibHead - zlibTail
	}
	buf, _ := w.gather.Get().(*[]byte)
	defer w.gather.Put(buf)
	if cap(*buf) < total {
		*buf = make([]byte, 0, max(total, batchData))
	}
	p := (*buf)[:0]
	var start int64 // in the file, of what p holds
	for len(g) > 0 {
		var at [spanClusters]int64
		n := min(len(g), spanClusters)
		if err := w.placeGrains(at[:n], g[:n]); err != nil {
			return fileError("write", w.path, err)
		}
		for i := range n {
			if len(p) > 0 && at[i] != start+int64(len(p)) {
				if err := w.writeZipped(p, start); err != nil {
					return err
				}
				p = p[:0]
			}
			if len(p) == 0 {
				start = at[i]
			}
			p = append(p, g[i].Zlib[zlibHead:len(g[i].Zlib)-zlibTail]...)
		}
		g = g[n:]
	}
	return w.writeZipped(p, start)
}

func (w *Qcow2) writeZipped(p []byte, at int64) error {
	if _, err := w.f.WriteAt(p, at); err != nil {
		return fileError("write", w.path, err)
	}
	return nil
}

// placeGrains finds places in the file for grains.
func (w *Qcow2) placeGrains(at []int64, g []Grain) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return os.ErrClosed
	}
	for i := range g {
		cluster := g[i].Offset / clusterSize
		n := len(g[i].Zlib) - zlibHead - zlibTail
		old, err := w.lookup(cluster)
		if err != nil {
			return err
		}
		if old != 0 {
			if err := w.refer(old, -1); err != nil {
				return err
			}
		}
		if at[i], err = w.takeZipped(n); err != nil {
			return err
		}
		entry := zipEntry(at[i], n)
		if err := w.refer(entry, 1); err != nil {
			return err
		}
		if err := w.set(cluster, entry); err != nil {
			return err
		}
	}
	return nil
}

// takeZipped returns a place for n bytes of compressed data: behind the last,
// if the clusters there are free.
func (w *Qcow2) takeZipped(n int) (int64, error) {
	for w.zipAt+int64(n) > w.zipEnd {
		c, err := w.take()
		if err != nil {
			return 0, err
		}
		if c*clusterSize != w.zipEnd {
			w.zipAt, w.zipEnd = c*clusterSize, c*clusterSize
		}
		w.zipEnd += clusterSize
	}
	at := w.zipAt
	w.zipAt += int64(n)
	return at, nil
}
