//go:build unix

package streamvmdk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// nextData returns the first data at or after pos; Start == size when none is left.
func nextData(f *os.File, pos, size int64) (Extent, error) {
	start, err := f.Seek(pos, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return Extent{size, size}, nil
	case errors.Is(err, unix.EINVAL):
		return Extent{pos, size}, nil // the filesystem cannot tell: all of it is data
	case err != nil:
		return Extent{}, err
	}
	end, err := f.Seek(start, unix.SEEK_HOLE)
	if err != nil {
		return Extent{}, err
	}
	return Extent{start, min(end, size)}, nil
}
