//go:build !linux

package directio

import "os"

// openDirect returns nil: writes go through the page cache.
func openDirect(string) writerAtCloser { return nil }

// notDirect is never asked.
func notDirect(error) bool { return false }

// startWriteback does nothing where the kernel cannot be asked.
func startWriteback(*os.File, int64, int64) {}
