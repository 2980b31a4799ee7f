//go:build unix

package vmdkfile

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// nextData returns the next area of a file from off on, before end, that is not a hole;
// end twice when there is none.
func nextData(f *os.File, off, end int64) (from, to int64, err error) {
	from, err = f.Seek(off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return end, end, nil
	case err != nil: // the file system cannot tell: all of it is data
		return off, end, nil //nolint:nilerr // as above
	case from >= end:
		return end, end, nil
	}
	if to, err = f.Seek(from, unix.SEEK_HOLE); err != nil {
		return from, end, nil //nolint:nilerr // as above
	}
	return from, min(to, end), nil
}
