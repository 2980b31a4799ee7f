package disk

import (
	"errors"
	"fmt"
	"syscall"
)

// Identities of the errors of this package, for [errors.Is].
var (
	// ErrTruncated: the stream ends before it is complete, whatever the
	// transport said (F-NFC-8, F-NFC-10).
	ErrTruncated = errors.New("VMDK stream is truncated")
	// ErrCorrupt: the data contradicts its format or itself.
	ErrCorrupt = errors.New("data is corrupt")
	// ErrUnsupported: the data is well formed as far as it was read, but of a
	// version or kind that this package does not handle.
	ErrUnsupported = errors.New("format is not supported")
	// ErrCapacity: the disk's capacity is not the expected one, or above
	// [Options.MaxCapacity].
	ErrCapacity = errors.New("unexpected disk capacity")
	// ErrNotResumable: a part file holds no usable checkpoint, or a [Position]
	// does not fit. Start again from the beginning.
	ErrNotResumable = errors.New("cannot be resumed")
)

// StreamError is an error at a place in a stream-optimized VMDK. It wraps one
// of this package's identities, or the error that the reader returned.
type StreamError struct {
	Offset int64 // bytes from the start of the stream to the structure at fault
	LBA    int64 // sector of the grain concerned, or -1
	Err    error
}

// Error names the place, then the wrapped error.
func (e *StreamError) Error() string {
	s := fmt.Sprintf("VMDK stream at byte %d", e.Offset)
	if e.LBA >= 0 {
		s += fmt.Sprintf(", sector %d of the disk", e.LBA)
	}
	return s + ": " + e.Err.Error()
}

// Unwrap returns the wrapped error.
func (e *StreamError) Unwrap() error { return e.Err }

// fileError adds to an error of an operation on a file what to do about it.
func fileError(op, path string, err error) error {
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
