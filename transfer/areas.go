package transfer

import (
	"context"
	"io"
	"slices"
	"sort"
)

// Area is a part of an object: Length bytes from byte Offset on.
type Area struct {
	Offset int64
	Length int64
}

// end is the first byte after the area.
func (a Area) end() int64 { return a.Offset + a.Length }

// MergeGap is the longest hole between two areas, in bytes, that is read rather
// than asked around: a request costs more than its bytes.
const MergeGap = 256 << 10

// Areas are the parts of a sparse object that are read. Standing one after
// another without the holes between them they are packed: packed byte 0 is the
// first byte of the first area, packed byte Total()-1 the last byte of the last
// one. The zero value has no areas.
type Areas struct {
	areas []Area  // in order, apart by more than MergeGap
	ends  []int64 // packed end of each
}

// NewAreas returns the areas of list, which are in order and do not overlap.
// Those with a hole of at most [MergeGap] between them become one, with the hole.
func NewAreas(list []Area) Areas {
	var out Areas
	for _, a := range list {
		if n := len(out.areas); n > 0 {
			if last := &out.areas[n-1]; a.Offset-last.end() <= MergeGap {
				last.Length = a.end() - last.Offset
				continue
			}
		}
		out.areas = append(out.areas, a)
	}
	total := int64(0)
	for _, a := range out.areas {
		total += a.Length
		out.ends = append(out.ends, total)
	}
	return out
}

// Total is how many bytes all areas have.
func (a Areas) Total() int64 {
	if len(a.ends) == 0 {
		return 0
	}
	return a.ends[len(a.ends)-1]
}

// At returns the part of the object that begins at packed byte pos, which is
// less than Total: as much of it as lies in one area.
func (a Areas) At(pos int64) Area {
	i := sort.Search(len(a.ends), func(i int) bool { return a.ends[i] > pos })
	left := a.ends[i] - pos
	return Area{Offset: a.areas[i].end() - left, Length: left}
}

// Packed returns how many bytes of the areas lie before byte off of the object.
func (a Areas) Packed(off int64) int64 {
	i, _ := slices.BinarySearchFunc(a.areas, off, func(a Area, off int64) int {
		if a.end() <= off {
			return -1
		}
		return 1
	})
	if i == len(a.areas) {
		return a.Total()
	}
	return a.ends[i] - a.areas[i].Length + max(off-a.areas[i].Offset, 0)
}

// Source returns the packed areas of base, an object of size bytes, as an object
// of their own: so one reader takes them all with its workers, however small
// each of them is. The [Info] that [NewReader] is given with it has Total for
// its Size.
func (a Areas) Source(base Source, size int64) Source {
	return areaSource{Areas: a, base: base, size: size}
}

type areaSource struct {
	Areas
	base Source
	size int64 // of the whole object, in bytes
}

// Probe asks about the whole object.
func (s areaSource) Probe(ctx context.Context) (Info, error) { return s.base.Probe(ctx) }

// Expect makes every answer agree with the whole object's size and with the
// validator of info.
func (s areaSource) Expect(info Info) Source {
	if e, ok := s.base.(interface {
		Expect(Info) Source
	}); ok {
		info.Size = s.size
		s.base = e.Expect(info)
	}
	return s
}

// Open asks for n packed bytes from off, with a ranged request for each area
// that they touch; the second and later ones are sent when they are reached.
func (s areaSource) Open(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	end := s.Total()
	if n >= 0 {
		end = min(end, off+n)
	}
	body := &areaBody{next: func() (io.ReadCloser, error) {
		if off >= end {
			return nil, io.EOF
		}
		piece := s.At(off)
		piece.Length = min(piece.Length, end-off)
		r, err := s.base.Open(ctx, piece.Offset, piece.Length)
		off += piece.Length
		return r, err
	}}
	first, err := body.next()
	if err != nil && err != io.EOF {
		return nil, err
	}
	body.cur = first
	return body, nil
}

// areaBody reads one answer after the other.
type areaBody struct {
	cur  io.ReadCloser                 // nil between two
	next func() (io.ReadCloser, error) // io.EOF after the last
}

func (b *areaBody) Read(p []byte) (int, error) {
	for {
		if b.cur == nil {
			cur, err := b.next()
			if err != nil {
				return 0, err
			}
			b.cur = cur
		}
		n, err := b.cur.Read(p)
		if err == io.EOF {
			err = b.Close()
			if n == 0 && err == nil {
				continue
			}
		}
		return n, err
	}
}

// Close ends the answer that is being read.
func (b *areaBody) Close() error {
	if b.cur == nil {
		return nil
	}
	cur := b.cur
	b.cur = nil
	return cur.Close()
}
