package vmdkfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/vmdk"
)

// part is a piece of the disk: an extent.
type part struct {
	off  int64      // bytes of the disk before it
	size int64      // bytes of the disk
	data disk.Image // nil for one of zeros
}

// openFiles bounds how many extents are open at a time.
const openFiles = 40000

// openDescriptor opens the extents that a descriptor names.
func (d *Disk) openDescriptor(dir *os.Root, text []byte) error {
	about, err := vmdk.ParseDescriptor(text)
	if err != nil {
		return err
	}
	if len(about.Extents) == 0 {
		return fmt.Errorf("a descriptor without extents: %w", disk.ErrCorrupt)
	}
	d.Kind, d.Capacity = about.CreateType, about.Capacity()
	if d.Kind == "" {
		d.Kind = "with a descriptor"
	}
	opened := map[string]*extentFile{}
	off := int64(0)
	for _, e := range about.Extents {
		data, err := d.openExtent(dir, e, opened)
		if err != nil {
			return fmt.Errorf("line %d: extent %w", e.Line, err)
		}
		d.parts = append(d.parts, part{off: off, size: e.Size, data: data})
		off += e.Size
	}
	return nil
}

// extentFile is a file with extents, and which of its areas they have.
type extentFile struct {
	f     *os.File
	size  int64
	taken []area
}

type area struct{ start, end int64 }

// take notes that an extent has an area of the file.
func (x *extentFile) take(a area) error {
	if a.end > x.size {
		return fmt.Errorf("bytes %d to %d, of a file of %d: %w", a.start, a.end, x.size, disk.ErrTruncated)
	}
	i, _ := slices.BinarySearchFunc(x.taken, a.start, func(b area, start int64) int {
		if b.end <= start {
			return -1
		}
		return 1
	})
	if i < len(x.taken) && x.taken[i].start < a.end {
		return fmt.Errorf("bytes %d to %d are another extent's, too: %w", a.start, a.end, disk.ErrCorrupt)
	}
	x.taken = slices.Insert(x.taken, i, a)
	return nil
}

// openExtent opens an extent. Files in opened are open already.
func (d *Disk) openExtent(dir *os.Root, e vmdk.Extent, opened map[string]*extentFile) (disk.Image, error) {
	if e.Kind == vmdk.ExtentZero {
		return nil, nil
	}
	x := opened[e.File]
	if x == nil {
		if len(opened) == openFiles {
			return nil, fmt.Errorf("%q: more than %d files: %w", e.File, openFiles, disk.ErrUnsupported)
		}
		f, size, err := regular(dir, e.File)
		if err != nil {
			return nil, err
		}
		d.files = append(d.files, f)
		x = &extentFile{f: f, size: size}
		opened[e.File] = x
	}
	fail := func(err error) (disk.Image, error) { return nil, fmt.Errorf("%q: %w", e.File, err) }
	if e.Kind != vmdk.ExtentSparse {
		if err := x.take(area{e.Offset, e.Offset + e.Size}); err != nil {
			return fail(err)
		}
		return &flat{f: x.f, at: e.Offset, size: e.Size}, nil
	}
	if err := x.take(area{0, x.size}); err != nil {
		return fail(err)
	}
	s, err := vmdk.OpenSparse(x.f, x.size)
	switch {
	case err != nil:
		return fail(err)
	case s.Capacity() < e.Size:
		return fail(fmt.Errorf("it holds %d bytes of the disk, the descriptor says %d: %w", s.Capacity(), e.Size, disk.ErrCorrupt))
	}
	return s, nil
}

// flat is an extent that is a part of a file as it is.
type flat struct {
	f    *os.File
	at   int64 // of its first byte in the file
	size int64
}

// NextData implements [disk.Image].
func (x *flat) NextData(off int64) (start, end int64, err error) {
	start, end, err = nextData(x.f, x.at+off, x.at+x.size)
	return max(start-x.at, off), end - x.at, err
}

// ReadAt implements [io.ReaderAt].
func (x *flat) ReadAt(p []byte, off int64) (int, error) { return x.f.ReadAt(p, x.at+off) }

// image is the content of a disk in extents.
type image Disk

// NextData implements [disk.Image].
func (m *image) NextData(off int64) (start, end int64, err error) {
	for i := m.find(off); i < len(m.parts); i++ {
		p := m.parts[i]
		if p.data == nil {
			continue
		}
		start, end, err = p.data.NextData(max(off-p.off, 0))
		if err != nil {
			return 0, 0, err
		}
		if start < p.size {
			return p.off + start, p.off + min(end, p.size), nil
		}
	}
	return m.Capacity, m.Capacity, nil
}

// ReadAt implements [io.ReaderAt].
func (m *image) ReadAt(b []byte, off int64) (n int, err error) {
	for i := m.find(off); n < len(b); i++ {
		if i >= len(m.parts) {
			return n, io.EOF
		}
		p := m.parts[i]
		in := off + int64(n) - p.off
		piece := b[n : n+int(min(int64(len(b)-n), p.size-in))]
		if p.data == nil {
			clear(piece)
		} else if got, err := p.data.ReadAt(piece, in); got < len(piece) {
			if err == nil || errors.Is(err, io.EOF) {
				err = disk.ErrTruncated
			}
			return n + got, err
		}
		n += len(piece)
	}
	return n, nil
}

// find is the number of the part that off lies in.
func (m *image) find(off int64) int {
	return sort.Search(len(m.parts), func(i int) bool { return m.parts[i].off+m.parts[i].size > off })
}
