package migrate

import (
	"context"
	"io"
	"slices"
	"sort"

	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// mergeGap is the longest hole, in bytes, that is read rather than asked
// around: a request costs more than its bytes.
const mergeGap = 256 << 10

// layout says which areas of a disk are read, and where each of their bytes is
// when they stand one after another without the holes: packed.
type layout struct {
	areas []vsphere.Area // in order, apart by more than mergeGap
	ends  []int64        // packed end of each
	total int64          // bytes of all of them
}

// newLayout reads the areas, which are in order and do not overlap.
func newLayout(areas []vsphere.Area) layout {
	var l layout
	for _, a := range areas {
		if n := len(l.areas); n > 0 {
			last := &l.areas[n-1]
			if gap := a.Offset - last.Offset - last.Length; gap <= mergeGap {
				last.Length += gap + a.Length
				continue
			}
		}
		l.areas = append(l.areas, a)
	}
	for _, a := range l.areas {
		l.total += a.Length
		l.ends = append(l.ends, l.total)
	}
	return l
}

// at returns the piece of the disk that begins at packed byte pos, which is
// less than l.total: as much of it as lies in one area.
func (l layout) at(pos int64) vsphere.Area {
	i := sort.Search(len(l.ends), func(i int) bool { return l.ends[i] > pos })
	left := l.ends[i] - pos
	return vsphere.Area{Offset: l.areas[i].Offset + l.areas[i].Length - left, Length: left}
}

// packed returns how many bytes of the areas lie before byte off of the disk.
func (l layout) packed(off int64) int64 {
	i, _ := slices.BinarySearchFunc(l.areas, off, func(a vsphere.Area, off int64) int {
		if a.Offset+a.Length <= off {
			return -1
		}
		return 1
	})
	if i == len(l.areas) {
		return l.total
	}
	return l.ends[i] - l.areas[i].Length + max(off-l.areas[i].Offset, 0)
}

// areaSource is the areas of an object, packed, as an object of their own: so
// one reader takes them all with its workers, however small each of them is.
type areaSource struct {
	layout
	base transfer.Source
	size int64 // of the whole object, in bytes
}

// Probe asks about the whole object.
func (s areaSource) Probe(ctx context.Context) (transfer.Info, error) { return s.base.Probe(ctx) }

// Expect makes every answer agree with the whole object's size and with the
// validator of info.
func (s areaSource) Expect(info transfer.Info) transfer.Source {
	if e, ok := s.base.(interface {
		Expect(transfer.Info) transfer.Source
	}); ok {
		info.Size = s.size
		s.base = e.Expect(info)
	}
	return s
}

// Open asks for n packed bytes from off, with a ranged request for each area
// that they touch; the second and later ones are sent when they are reached.
func (s areaSource) Open(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	end := s.total
	if n >= 0 {
		end = min(end, off+n)
	}
	body := &areaBody{next: func() (io.ReadCloser, error) {
		if off >= end {
			return nil, io.EOF
		}
		piece := s.at(off)
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
