package atomicfile

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// renameNoReplace renames where nothing has the new name. The error is
// [errors.ErrUnsupported] where kernel or file system cannot, as NFS.
func renameNoReplace(oldpath, newpath string) error {
	var err error
	for {
		err = unix.Renameat2(unix.AT_FDCWD, oldpath, unix.AT_FDCWD, newpath, unix.RENAME_NOREPLACE)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err == nil {
		return nil
	}
	renamed := &os.LinkError{Op: "rename", Old: oldpath, New: newpath, Err: err}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, renamed)
	}
	return renamed
}
