package migrate

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// openDirect opens a file for direct I/O, and for ordinary I/O where its file
// system has no other.
func openDirect(path string, flags int, mode os.FileMode) (f *os.File, direct bool, err error) {
	f, err = os.OpenFile(path, flags|unix.O_DIRECT, mode)
	if err == nil {
		return f, true, nil
	}
	if !errors.Is(err, unix.EINVAL) {
		return nil, false, err
	}
	f, err = os.OpenFile(path, flags, mode)
	return f, false, err
}

// clearDirect makes the file's I/O ordinary.
func clearDirect(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
		if err == nil {
			_, err = unix.FcntlInt(fd, unix.F_SETFL, flags&^unix.O_DIRECT)
		}
		set = err
	})
	return errors.Join(err, set)
}
