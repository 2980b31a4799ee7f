package sqlite

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// lockRange locks a byte of f where no data can be, and reports whether nobody
// else has it. The lock belongs to f.
func lockRange(f *os.File) (bool, error) {
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{
		Type: unix.F_WRLCK, Whence: io.SeekStart, Start: 1 << 62, Len: 1,
	})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return true, nil
}

// unlockRange gives the lock of [lockRange] up. Closing f alone would not do while
// another goroutine is starting a program, which has f open, too, until it runs.
func unlockRange(f *os.File) error {
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{
		Type: unix.F_UNLCK, Whence: io.SeekStart, Start: 1 << 62, Len: 1,
	})
}

// readOnly reports whether the file system of path must not be written.
func readOnly(path string) bool {
	var s unix.Statfs_t
	return unix.Statfs(path, &s) == nil && s.Flags&unix.ST_RDONLY != 0
}
