package atomicfile

import (
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// renameNoReplace renames where nothing has the new name. The error is
// [errors.ErrUnsupported] where kernel or file system cannot, as NFS.
func renameNoReplace(dir *os.Root, from, to string) (err error) {
	fromDir, err := dir.Open(path.Dir(from))
	if err != nil {
		return err
	}
	defer func() { _ = fromDir.Close() }()
	toDir, err := dir.Open(path.Dir(to))
	if err != nil {
		return err
	}
	defer func() { _ = toDir.Close() }()
	for {
		err = unix.Renameat2(int(fromDir.Fd()), path.Base(from), int(toDir.Fd()), path.Base(to), unix.RENAME_NOREPLACE)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err == nil {
		return nil
	}
	renamed := &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, renamed)
	}
	return renamed
}
