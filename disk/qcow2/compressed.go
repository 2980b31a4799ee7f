package qcow2

import (
	"fmt"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/block"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/inflate"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/part"
)

// zlibHead is the length of a zlib stream's header, which is not stored: a
// compressed cluster begins with deflate data. The Adler-32 behind that data is
// stored, though nobody who reads the image looks at it, for [CheckData].
const zlibHead = 2

// GrainSize is 64 KiB, a cluster, with [Options.Compress], otherwise 0.
func (w *Writer) GrainSize() int64 {
	if w.o.Compress {
		return clusterSize
	}
	return 0
}

// FitsGrain tells whether a cluster's compressed data is shorter than the
// cluster, as the format demands, and of a length that 64 KiB can have.
func (w *Writer) FitsGrain(zlibLen int) bool {
	n := zlibLen - zlibHead
	return n >= minCompressed && n < clusterSize
}

// WriteGrains stores grains as compressed clusters: what follows the zlib header,
// deflate data and its Adler-32, is appended to the file. It does not look at the
// data: [CheckData] does, when the image is complete. Some of it may be written by a later call, a Checkpoint or
// Commit, which then return the error.
func (w *Writer) WriteGrains(g []disk.Grain) error {
	for i := range g {
		off, z := g[i].Offset, g[i].Zlib
		if err := w.file.CheckRange(off, clusterSize, w.capacity); err != nil {
			return err
		}
		if off%clusterSize != 0 || !w.FitsGrain(len(z)) {
			return fmt.Errorf("write %s: %d bytes of grain at %d do not fit a compressed cluster", w.file.Path, len(z), off)
		}
		if err := inflate.CheckHeader(z); err != nil {
			return fmt.Errorf("write %s: grain at %d: %w: %w", w.file.Path, off, err, block.ErrCorrupt)
		}
	}
	full, err := w.placeGrains(g)
	if werr := w.stage.write(w.file.F, full); err == nil {
		err = werr
	}
	return part.Error("write", w.file.Path, err)
}

// placeGrains finds places in the file for grains and puts their data into the
// stage. It returns what has to be written now, even when it fails.
func (w *Writer) placeGrains(g []disk.Grain) (full []*stagedBlock, err error) {
	w.file.Mu.Lock()
	defer w.file.Mu.Unlock()
	if err := w.usable(); err != nil {
		return nil, err
	}
	defer func() { w.spoil(err) }()
	for i := range g {
		cluster := g[i].Offset / clusterSize
		z := g[i].Zlib[zlibHead:]
		old, err := w.lookup(cluster)
		if err != nil {
			return full, err
		}
		if old != 0 {
			if err := w.refer(old, -1); err != nil {
				return full, err
			}
		}
		at, err := w.takeCompressed(len(z))
		if err != nil {
			return full, err
		}
		full = w.stage.put(full, z, at)
		entry := compressedEntry(at, len(z))
		if err := w.refer(entry, 1); err != nil {
			return full, err
		}
		if err := w.set(cluster, entry); err != nil {
			return full, err
		}
	}
	return full, nil
}

// takeCompressed returns a place for n bytes of compressed data: behind the last if
// there is room, or where the clusters there are free. Clusters are taken by the
// run, so that clusters of other kinds, taken in between, do not cut what could
// be one write.
func (w *Writer) takeCompressed(n int) (int64, error) {
	for w.dataAt+int64(n) > w.dataEnd {
		for range runClusters {
			c, err := w.take()
			if err != nil {
				return 0, err
			}
			if c*clusterSize != w.dataEnd {
				w.dataAt, w.dataEnd = c*clusterSize, c*clusterSize
			}
			w.dataEnd += clusterSize
		}
	}
	at := w.dataAt
	w.dataAt += int64(n)
	return at, nil
}

// trimRun gives clusters back that were taken for compressed data and got
// none, when they are the last.
func (w *Writer) trimRun() {
	if w.dataEnd == w.next*clusterSize {
		w.next = (w.dataAt + clusterSize - 1) / clusterSize
		w.dataEnd = w.next * clusterSize
	}
}
