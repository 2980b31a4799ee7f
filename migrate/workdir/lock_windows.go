package workdir

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// tryLock locks a file until [unlock]. It returns false when another process,
// or another opening of the file, has it locked.
func tryLock(f *os.File) (bool, error) {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, windows.ERROR_LOCK_VIOLATION), errors.Is(err, windows.ERROR_IO_PENDING):
		return false, nil
	}
	return false, &os.PathError{Op: "lock", Path: f.Name(), Err: err}
}

// unlock closes the file, which gives the lock up.
func unlock(f *os.File) error { return f.Close() }
