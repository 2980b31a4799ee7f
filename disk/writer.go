package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/hyper2kvm/hyper2kvm/internal/directio"
)

// sectorSize is the unit of every address in a VMDK, in bytes.
const sectorSize = 512

// partMode is the mode of part files: a disk's content is nobody else's
// business.
const partMode = 0o600

// Writer is an image being written. WriteAt may be called by several goroutines
// at once, for areas that do not overlap; offsets are bytes of the virtual disk,
// and what is never written reads as zeros.
type Writer interface {
	io.WriterAt
	// Checkpoint makes everything durable whose WriteAt returned before the
	// call: after a crash, OpenRaw or OpenQcow2 goes on from there.
	Checkpoint() error
	// Commit completes the image under the part file's name, makes it durable
	// and closes it.
	Commit() error
	// Close gives the writer up and keeps the part file as it is, for OpenRaw
	// or OpenQcow2 to go on from the last Checkpoint. After a
	// successful Commit, Discard or Close it does nothing, so it can be
	// deferred.
	Close() error
	// Discard closes and removes the part file. After a successful
	// Commit, Discard or Close it does nothing, so it can be deferred.
	Discard() error
}

// partFile is the file of a Writer, which closes once.
type partFile struct {
	path string
	f    *directio.File

	mu     sync.Mutex // guards closed, and what a Writer says
	closed bool
}

// Close closes the part file and keeps it.
func (p *partFile) Close() error {
	return p.end(func() error { return fileError("close", p.path, p.f.Close()) })
}

// Discard closes the part file and removes it.
func (p *partFile) Discard() error {
	return p.end(func() error { return discard(p.f, p.path) })
}

// complete makes the file an image by commit, which closes it. When that fails,
// the file can still be closed or discarded.
func (p *partFile) complete(commit func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fileError("commit", p.path, os.ErrClosed)
	}
	if err := commit(); err != nil {
		return fileError("commit", p.path, err)
	}
	p.closed = true
	return nil
}

// end does the last thing that happens to the file, unless it has ended.
func (p *partFile) end(last func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	return last()
}

// discard closes and removes a part file.
func discard(f io.Closer, path string) error {
	err := f.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	if rerr := os.Remove(path); err == nil {
		err = rerr
	}
	return fileError("discard", path, err)
}

// Grain is a compressed piece of a disk.
type Grain struct {
	Offset int64  // bytes from the start of the disk, a multiple of the grain size
	Zlib   []byte // zlib stream (RFC 1950) of the piece
}

// GrainWriter is a [Writer] that can take grains without inflating them.
// [DecodeStream] uses it when GrainSize equals the stream's grain size.
type GrainWriter interface {
	Writer
	// GrainSize is the number of bytes of disk in a grain that WriteGrains
	// takes; 0 if it takes none.
	GrainSize() int64
	// FitsGrain tells whether a whole grain with so many bytes of zlib stream
	// can be stored as it is. If not, it has to be written with WriteAt.
	FitsGrain(zlibLen int) bool
	// WriteGrains stores whole grains that fit. It may be called by several
	// goroutines, for different grains. It keeps nothing of g.
	WriteGrains(g []Grain) error
}

// checkCapacity refuses sizes that no disk has.
func checkCapacity(capacity int64) error {
	switch {
	case capacity < 0 || capacity%sectorSize != 0:
		return fmt.Errorf("disk of %d bytes: not a whole number of %d-byte sectors: %w", capacity, sectorSize, ErrCapacity)
	case capacity > MaxCapacity:
		return fmt.Errorf("disk of %d bytes: more than %d: %w", capacity, int64(MaxCapacity), ErrCapacity)
	}
	return nil
}

// checkRange tells whether n bytes at off lie within a disk.
func checkRange(path string, off int64, n int, capacity int64) error {
	if off < 0 || int64(n) > capacity || off > capacity-int64(n) {
		return fmt.Errorf("write %s: %d bytes at %d are outside the disk of %d bytes", path, n, off, capacity)
	}
	return nil
}

var zeros [64 << 10]byte

// isZero tells whether p holds zeros only.
func isZero(p []byte) bool {
	for len(p) > len(zeros) {
		if string(p[:len(zeros)]) != string(zeros[:]) {
			return false
		}
		p = p[len(zeros):]
	}
	return string(p) == string(zeros[:len(p)])
}
