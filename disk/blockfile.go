package disk

import (
	"os"
	"sync"
	"sync/atomic"
	"unsafe"
)

// directAlign is what offset, length and memory of a direct write are multiples
// of: no usual device has larger blocks. directLeast is the shortest write for
// which it pays.
const (
	directAlign = 4096
	directLeast = 64 << 10
)

// writebackEvery is how many bytes are written through the page cache between
// hints to the kernel to begin writing them back. The disk then works while
// grains are inflated, and a sync finds little left.
const writebackEvery = 8 << 20

// blockFile is a file whose long, aligned writes go around the page cache where
// the system allows it. That saves a copy and leaves a sync little to do: a
// disk is not read again soon, and the page cache has better uses.
type blockFile struct {
	*os.File
	direct   *os.File // nil where there is none
	unusable atomic.Bool

	mu     sync.Mutex // guards the area of recent writes through the page cache
	lo, hi int64
	n      int64
}

// newBlockFile makes a blockFile of an open file.
func newBlockFile(f *os.File) *blockFile {
	return &blockFile{File: f, direct: openDirect(f.Name())}
}

// WriteAt implements [io.WriterAt].
func (b *blockFile) WriteAt(p []byte, off int64) (int, error) {
	if b.direct != nil && len(p) >= directLeast && !b.unusable.Load() && aligned(p, off) {
		n, err := b.direct.WriteAt(p, off)
		if err == nil || !notDirect(err) {
			return n, err
		}
		b.unusable.Store(true)
	}
	n, err := b.File.WriteAt(p, off)
	b.wrote(off, n)
	return n, err
}

// aligned tells whether p can be written directly at off.
func aligned(p []byte, off int64) bool {
	return (uintptr(unsafe.Pointer(unsafe.SliceData(p)))|uintptr(off)|uintptr(len(p)))%directAlign == 0
}

// alignedBuffer returns n bytes that can be written directly.
func alignedBuffer(n int) []byte {
	p := make([]byte, n+directAlign)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(p))) % directAlign
	return p[skip:][:n:n]
}

// wrote notes a write through the page cache.
func (b *blockFile) wrote(off int64, n int) {
	b.mu.Lock()
	if b.n == 0 {
		b.lo, b.hi = off, off
	}
	b.lo, b.hi = min(b.lo, off), max(b.hi, off+int64(n))
	b.n += int64(n)
	lo, hi, due := b.lo, b.hi, b.n >= writebackEvery
	if due {
		b.n = 0
	}
	b.mu.Unlock()
	if due {
		startWriteback(b.File, lo, hi-lo)
	}
}

// Close closes the file.
func (b *blockFile) Close() error {
	err := b.File.Close()
	if b.direct != nil {
		if derr := b.direct.Close(); err == nil {
			err = derr
		}
	}
	return err
}
