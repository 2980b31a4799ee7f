package directio

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// openDirect opens a file a second time, for direct writes. It returns nil where
// the file system has none, or where the name has become that of another file.
func openDirect(at At, f *os.File) writerAtCloser {
	direct, err := at.OpenFile(os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return nil
	}
	a, aerr := f.Stat()
	b, berr := direct.Stat()
	if aerr != nil || berr != nil || !os.SameFile(a, b) {
		_ = direct.Close() // nothing was written to it
		return nil
	}
	return direct
}

// notDirect tells whether a direct write failed because it was direct.
func notDirect(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EOPNOTSUPP)
}

// StartWriteback implements [Handle]. That the system cannot be asked is no
// error.
func (f osFile) StartWriteback(off, n int64) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil
	}
	var failed error
	_ = raw.Control(func(fd uintptr) {
		failed = unix.SyncFileRange(int(fd), off, n, unix.SYNC_FILE_RANGE_WRITE)
	})
	for _, lost := range []error{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(failed, lost) {
			return fmt.Errorf("write %s back: %w", f.Name(), failed)
		}
	}
	return nil
}
