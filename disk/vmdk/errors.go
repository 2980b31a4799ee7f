package vmdk

import "fmt"

// StreamError is an error at a place in a VMDK. It wraps one of
// the identities of package disk, or the error that the reader returned.
type StreamError struct {
	Offset int64 // bytes from the start of the stream or file to the structure at fault
	LBA    int64 // sector of the grain concerned, or -1
	Err    error
}

// Error names the place, then the wrapped error.
func (e *StreamError) Error() string {
	s := fmt.Sprintf("VMDK at byte %d", e.Offset)
	if e.LBA >= 0 {
		s += fmt.Sprintf(", sector %d of the disk", e.LBA)
	}
	return s + ": " + e.Err.Error()
}

// Unwrap returns the wrapped error.
func (e *StreamError) Unwrap() error { return e.Err }
