//go:build !linux

package migrate

import "os"

// openDirect opens a file for ordinary I/O, where there is no other.
func openDirect(path string, flags int, mode os.FileMode) (f *os.File, direct bool, err error) {
	f, err = os.OpenFile(path, flags, mode)
	return f, false, err
}

// clearDirect has nothing to do.
func clearDirect(*os.File) error { return nil }
