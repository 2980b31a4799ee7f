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

// Handle is what a File needs of an open file. [OpenFile] has the operating
// system's; tests have some that fail.
type Handle interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Name() string
	Stat() (os.FileInfo, error)
	Truncate(size int64) error
	Sync() error
	// StartWriteback asks for n bytes at off to be written to the device and does
	// not wait. Its error is that of a write that failed, now or earlier.
	StartWriteback(off, n int64) error
}

// File is a file whose long, aligned writes are direct. Where the file system
// has no direct writes, or refuses one, they are ordinary.
//
// The first failure to write, sync, truncate or close it is final: the same
// error comes from each of these from then on, and nothing is written or synced
// any more. The system reports a failed write-back once, to one sync; a later
// one that succeeds says nothing of the pages that were lost.
type File struct {
	h        Handle
	direct   writerAtCloser // nil where there is none
	unusable atomic.Bool
	failure  atomic.Pointer[error] // the first one

	mu     sync.Mutex // guards the area of recent writes through the page cache
	lo, hi int64
	n      int64
}

type writerAtCloser interface {
	io.WriterAt
	io.Closer
}

// OpenFile opens a file for reading and writing, with the flags of [os.OpenFile].
func OpenFile(at At, flag int, perm os.FileMode) (*File, error) {
	f, err := at.OpenFile(flag, perm)
	if err != nil {
		return nil, err
	}
	return &File{h: osFile{f}, direct: openDirect(at, f)}, nil
}

// NewFile makes a File of a file open for reading and writing, which is closed
// with it.
func NewFile(f *os.File) *File {
	return &File{h: osFile{f}, direct: openDirect(Path(f.Name()), f)}
}

// Over makes a File of a Handle, without direct writes.
func Over(h Handle) *File { return &File{h: h} }

// osFile is the Handle of an operating system's file.
type osFile struct{ *os.File }

// Name is the path that the file was opened by.
func (f *File) Name() string { return f.h.Name() }

// Stat tells the file's size and mode.
func (f *File) Stat() (os.FileInfo, error) { return f.h.Stat() }

// ReadAt implements [io.ReaderAt].
func (f *File) ReadAt(p []byte, off int64) (int, error) { return f.h.ReadAt(p, off) }

// Err is the failure that ended the use of the file, nil if there was none.
func (f *File) Err() error {
	if first := f.failure.Load(); first != nil {
		return *first
	}
	return nil
}

// keep makes err the file's failure, if it is one and the first.
func (f *File) keep(err error) error {
	if err != nil {
		first := err // a variable of its own, so that a success allocates nothing
		f.failure.CompareAndSwap(nil, &first)
	}
	return err
}

// WriteAt implements [io.WriterAt].
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	if err := f.Err(); err != nil {
		return 0, err
	}
	n, err := f.writeAt(p, off)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, f.keep(err)
}

func (f *File) writeAt(p []byte, off int64) (int, error) {
	if f.direct != nil && len(p) >= least && !f.unusable.Load() && aligned(p, off) {
		n, err := f.direct.WriteAt(p, off)
		if err == nil || !notDirect(err) {
			return n, err
		}
		f.unusable.Store(true)
	}
	n, err := f.h.WriteAt(p, off)
	if err == nil {
		err = f.wrote(off, n)
	}
	return n, err
}

// Truncate changes the file's size in bytes.
func (f *File) Truncate(size int64) error {
	if err := f.Err(); err != nil {
		return err
	}
	return f.keep(f.h.Truncate(size))
}

// Sync makes everything durable whose WriteAt returned before the call. It fails
// also when a write fails meanwhile.
func (f *File) Sync() error {
	if err := f.Err(); err != nil {
		return err
	}
	if err := f.keep(f.h.Sync()); err != nil {
		return err
	}
	return f.Err()
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
func (f *File) wrote(off int64, n int) error {
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
		return f.h.StartWriteback(lo, hi-lo)
	}
	return nil
}

// Close closes the file, also after a failure, which it does not repeat.
func (f *File) Close() error {
	err := f.h.Close()
	if f.direct != nil {
		if derr := f.direct.Close(); err == nil {
			err = derr
		}
	}
	return f.keep(err)
}
