// Package directiotest has a file for tests that fails, and loses data, when it
// is told to.
package directiotest

import (
	"os"
	"sync"
)

// Op is a use of the file that can fail.
type Op struct {
	Kind     string // write, sync, truncate, writeback or close
	Off, Len int64  // bytes, of a write and of a write-back; Off of a truncation is the new size
	Nth      int    // how many of its kind there were, this one included
}

// File is a file like an operating system's, whose uses fail as a test decides.
// A sync that fails loses what was written since the last one that did not: the
// file has its earlier bytes again, and the next sync succeeds, as with Linux.
type File struct {
	*os.File
	fail func(Op) error

	mu       sync.Mutex
	done     map[string]int
	unsynced []saved
}

// saved are the bytes that a write has replaced.
type saved struct {
	off int64
	old []byte
}

// New makes a File of f. Every use is shown to fail first; with an error of its
// it does not take place.
func New(f *os.File, fail func(Op) error) *File {
	return &File{File: f, fail: fail, done: make(map[string]int)}
}

// Done is how many uses of a kind there were.
func (f *File) Done(kind string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.done[kind]
}

// ask counts a use and returns what it fails with.
func (f *File) ask(kind string, off, n int64) error {
	f.mu.Lock()
	f.done[kind]++
	op := Op{Kind: kind, Off: off, Len: n, Nth: f.done[kind]}
	f.mu.Unlock()
	return f.fail(op)
}

// WriteAt implements io.WriterAt.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	if err := f.ask("write", off, int64(len(p))); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old := make([]byte, len(p))
	_, _ = f.ReadAt(old, off) // what lies behind the end were zeros
	f.unsynced = append(f.unsynced, saved{off, old})
	return f.File.WriteAt(p, off)
}

// Sync makes what was written durable or, when it fails, loses it.
func (f *File) Sync() error {
	err := f.ask("sync", 0, 0)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		for i := len(f.unsynced) - 1; i >= 0; i-- {
			if _, werr := f.File.WriteAt(f.unsynced[i].old, f.unsynced[i].off); werr != nil {
				return werr
			}
		}
	}
	f.unsynced = nil
	return err
}

// Truncate changes the size.
func (f *File) Truncate(size int64) error {
	if err := f.ask("truncate", size, 0); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

// StartWriteback does nothing, unless it fails.
func (f *File) StartWriteback(off, n int64) error { return f.ask("writeback", off, n) }

// Close closes the file, also when it fails.
func (f *File) Close() error {
	err := f.ask("close", 0, 0)
	if cerr := f.File.Close(); err == nil {
		err = cerr
	}
	return err
}
