package landing

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// dataAreas lists the areas of a file of that size which are no holes, in their order.
// A file system that does not know of holes has one area.
func dataAreas(f *os.File, size int64) (areas []area, err error) {
	for at := int64(0); at < size; {
		data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
			return []area{{0, size}}, nil
		}
		if err != nil {
			return nil, err
		}
		hole, err := unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return nil, err
		}
		hole = min(hole, size)
		areas = append(areas, area{data, hole - data})
		at = hole
	}
	return areas, nil
}
