package streamvmdk

import (
	"fmt"
	"iter"
	"os"
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
