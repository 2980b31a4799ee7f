package streamvmdk

import (
	"errors"
	"fmt"
	"iter"
	"os"

	"golang.org/x/sys/unix"
)

// Extent is a range of a disk that may hold data: [Start, End) in bytes.
type Extent struct{ Start, End int64 }

// Extents yields the ranges of f that hold data, in ascending order, rounded
// outwards to unit bytes, joined where they touch, and cut at size. What lies
// between them reads as zeros. A filesystem that knows no holes yields one
// extent for the whole file. The file's offset is moved.
func Extents(f *os.File, size, unit int64) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		var pending Extent
		for pos := int64(0); pos < size; {
			raw, err := nextData(f, pos, size)
			if err != nil {
				yield(Extent{}, fmt.Errorf("find the holes of %s: %w", f.Name(), err))
				return
			}
			if raw.Start >= size {
				break
			}
			pos = raw.End
			e := Extent{raw.Start / unit * unit, min(roundUp(raw.End, unit), size)}
			switch {
			case pending.End == 0:
				pending = e
			case e.Start <= pending.End:
				pending.End = max(pending.End, e.End)
			default:
				if !yield(pending, nil) {
					return
				}
				pending = e
			}
		}
		if pending.End > 0 {
			yield(pending, nil)
		}
	}
}

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
