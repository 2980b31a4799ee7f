// Package directio writes files past the page cache (O_DIRECT) where the system
// allows it, and through it where not. Nobody reads a disk soon after it was
// written: copying it into the cache and writing it back from there takes CPU
// time, pushes better things out of the cache, and leaves a sync all the work.
package directio

import (
	"io"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Align is what offset, length and memory of a direct write are multiples of:
// no usual device has larger blocks.
const Align = 4096

// least is the shortest write that is direct: for less it does not pay.
const least = 64 << 10

// writebackEvery is how many bytes are written through the page cache between
// hints to the kernel to begin writing them back. The disk then works while
// grains are inflated, and a sync finds little left.
const writebackEvery = 8 << 20

// File is a file whose long, aligned writes are direct. Where the file system
// has no direct writes, or refuses one, they are ordinary.
type File struct {
	*os.File
	direct   writerAtCloser // nil where there is none
	unusable atomic.Bool

	mu     sync.Mutex // guards the area of recent writes through the page cache
	lo, hi int64
	n      int64
}

type writerAtCloser interface {
	io.WriterAt
	io.Closer
}

// NewFile makes a File of a file open for reading and writing, which is closed
// with it.
func NewFile(f *os.File) *File {
	return &File{File: f, direct: openDirect(f.Name())}
}

// WriteAt implements [io.WriterAt].
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	if f.direct != nil && len(p) >= least && !f.unusable.Load() && aligned(p, off) {
		n, err := f.direct.WriteAt(p, off)
		if err == nil || !notDirect(err) {
			return n, err
		}
		f.unusable.Store(true)
	}
	n, err := f.File.WriteAt(p, off)
	f.wrote(off, n)
	return n, err
}

// aligned tells whether p can be written directly at off.
func aligned(p []byte, off int64) bool {
	return (uintptr(unsafe.Pointer(unsafe.SliceData(p)))|uintptr(off)|uintptr(len(p)))%Align == 0
}

// Buffer returns n bytes at an address that suits direct writes. The garbage
// collector does not move what it has allocated.
func Buffer(n int) []byte {
	p := make([]byte, n+Align)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(p))) % Align
	return p[skip:][:n:n]
}

// wrote notes a write through the page cache.
func (f *File) wrote(off int64, n int) {
	f.mu.Lock()
	if f.n == 0 {
		f.lo, f.hi = off, off
	}
	f.lo, f.hi = min(f.lo, off), max(f.hi, off+int64(n))
	f.n += int64(n)
	lo, hi, due := f.lo, f.hi, f.n >= writebackEvery
	if due {
		f.n = 0
	}
	f.mu.Unlock()
	if due {
		startWriteback(f.File, lo, hi-lo)
	}
}

// Close closes the file.
func (f *File) Close() error {
	err := f.File.Close()
	if f.direct != nil {
		if derr := f.direct.Close(); err == nil {
			err = derr
		}
	}
	return err
}
