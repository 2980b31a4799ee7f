// Package part holds what every image writer does with its part file: make it,
// close it once, commit or discard it, and say what to do about errors.
package part

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/hyper2kvm/hyper2kvm/internal/directio"
)

// mode is that of part files, and so of images, less the umask: like that of any
// other file, it is the administrator's to choose.
const mode = 0o666

// File is the part file of an image writer, which closes once.
type File struct {
	At   directio.At
	Path string // At's, for errors
	F    *directio.File

	Mu     sync.Mutex // guards Closed, and what a writer says
	Closed bool
}

// Create makes an empty file, replacing what is there.
func Create(at directio.At) (*directio.File, error) {
	return directio.OpenFile(at, os.O_RDWR|os.O_CREATE|os.O_TRUNC, mode)
}

// Open opens the file that is there.
func Open(at directio.At) (*directio.File, error) { return directio.OpenFile(at, os.O_RDWR, mode) }

// Close closes the part file and keeps it.
func (p *File) Close() error {
	return p.end(func() error { return Error("close", p.Path, closeOnce(p.F)) })
}

// Discard closes the part file and removes it.
func (p *File) Discard() error {
	return p.end(func() error { return Discard(p.F, p.At) })
}

// Complete makes the file an image by commit, which closes it. When that fails,
// the file can still be closed or discarded.
func (p *File) Complete(commit func() error) error {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	if p.Closed {
		return Error("commit", p.Path, os.ErrClosed)
	}
	if err := commit(); err != nil {
		return Error("commit", p.Path, err)
	}
	p.Closed = true
	return nil
}

// end does the last thing that happens to the file, unless it has ended.
func (p *File) end(last func() error) error {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	if p.Closed {
		return nil
	}
	p.Closed = true
	return last()
}

// CheckRange tells whether n bytes at off lie within a disk.
func (p *File) CheckRange(off int64, n int, capacity int64) error {
	if off < 0 || int64(n) > capacity || off > capacity-int64(n) {
		return fmt.Errorf("write %s: %d bytes at %d are outside the disk of %d bytes", p.Path, n, off, capacity)
	}
	return nil
}

// Discard closes and removes a part file.
func Discard(f io.Closer, at directio.At) error {
	err := closeOnce(f)
	if rerr := at.Remove(); err == nil {
		err = rerr
	}
	return Error("discard", at.String(), err)
}

// closeOnce closes a file that a commit may have closed, in vain.
func closeOnce(f io.Closer) error {
	err := f.Close()
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// Error adds to an error of an operation on a file its place and what to do about
// it. A nil err stays nil.
func Error(op, path string, err error) error {
	if known := (*os.PathError)(nil); errors.As(err, &known) && strings.HasSuffix(path, known.Path) && known.Error() == err.Error() {
		err = known.Err // it would name the file a second time
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%s %s: the file system is full; free some space or choose another output directory: %w", op, path, err)
	case errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%s %s: the disk quota is used up; free some space or choose another output directory: %w", op, path, err)
	case errors.Is(err, syscall.EFBIG):
		return fmt.Errorf("%s %s: the file system does not allow files of this size; choose another output directory: %w", op, path, err)
	}
	return fmt.Errorf("%s %s: %w", op, path, err)
}
