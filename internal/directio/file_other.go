//go:build !linux

package directio

import "os"

// openDirect returns nil: writes go through the page cache.
func openDirect(At, *os.File) writerAtCloser { return nil }

// notDirect is never asked.
func notDirect(error) bool { return false }

// StartWriteback does nothing where the kernel cannot be asked.
func (osFile) StartWriteback(int64, int64) error { return nil }
