//go:build unix

package volume

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

func free(dir string) (int64, error) {
	n, _, err := usage(dir)
	return n, err
}

func usage(dir string) (free, size int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	block := int64(s.Bsize) //nolint:unconvert // its type differs between systems
	return int64(s.Bavail) * block, int64(s.Blocks) * block, nil
}

func of(path string) (string, error) {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return "", &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return strconv.FormatUint(uint64(s.Dev), 10), nil //nolint:unconvert // its type differs between systems
}

func allocated(file fs.FileInfo) int64 {
	if s, ok := file.Sys().(*syscall.Stat_t); ok {
		return s.Blocks * 512
	}
	return file.Size()
}

func full(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}
