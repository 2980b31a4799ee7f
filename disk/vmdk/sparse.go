package vmdk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/hyper2kvm/hyper2kvm/disk/internal/block"
)

// Kind is what a file that holds a VMDK, or a part of one, is.
type Kind int

// The kinds of files.
const (
	KindUnknown    Kind = iota
	KindStream          // stream-optimized: see [NewReader]
	KindSparse          // a hosted sparse extent: see [OpenSparse]
	KindDescriptor      // a descriptor, which names the files of the disk
	KindESX             // a sparse extent of ESXi's own kind (COWD, SEsparse), as of snapshots; cannot be read
)

// KindOf tells what a file is from its first [SectorSize] bytes, or all that it has.
func KindOf(head []byte) Kind {
	switch {
	case len(head) >= block.SectorSize && string(head[:4]) == vmdkMagic:
		if flags := binary.LittleEndian.Uint32(head[8:]); flags&(flagCompressed|flagMarkers) != 0 {
			return KindStream
		}
		return KindSparse
	case len(head) >= 4 && string(head[:4]) == "COWD", len(head) >= 8 && binary.LittleEndian.Uint64(head) == seSparseMagic:
		return KindESX
	case len(head) >= len(DescriptorMagic) && string(head[:len(DescriptorMagic)]) == DescriptorMagic:
		return KindDescriptor
	}
	return KindUnknown
}

// SectorSize is the unit of a VMDK's addresses, in bytes.
const SectorSize = block.SectorSize

// seSparseMagic begins an SEsparse extent.
const seSparseMagic = 0x00000000cafebabe

// flagZeroed: an entry 1 of a grain table is a grain of zeros.
const flagZeroed = 1 << 2

// zeroedGrain is that entry.
const zeroedGrain = 1

// Sparse is a hosted sparse extent (monolithicSparse, twoGbMaxExtentSparse): grains
// that are not compressed, found through tables, in any order. It is for one
// goroutine.
type Sparse struct {
	r         io.ReaderAt
	size      int64 // of the file
	capacity  int64
	grain     int64
	zeroed    bool
	directory []uint32
	loaded    int64    // number of the table in entries, -1 for none
	entries   []uint32 // of that table; nil when it lists no grain
	grains    int64    // that were found in tables so far, to recognise ones that are listed twice
	counted   []uint64 // bitmap of tables that are counted in grains
	text      []byte   // the embedded descriptor, nil when there is none
}

// OpenSparse reads the header and the grain directory of a file of size bytes. Errors
// are [*StreamError].
func OpenSparse(r io.ReaderAt, size int64) (*Sparse, error) {
	head := make([]byte, block.SectorSize)
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, sparseError(0, -1, err)
	}
	h, err := decodeHeader(head)
	if err == nil {
		err = h.checkSparse()
	}
	if err != nil {
		return nil, sparseError(0, -1, err)
	}
	g := h.geometry()
	s := &Sparse{r: r, size: size, capacity: g.Capacity, grain: g.GrainSize, zeroed: h.flags&flagZeroed != 0, loaded: -1}
	if h.descriptorSize > 0 {
		at := int64(h.descriptorOffset) * block.SectorSize
		s.text = make([]byte, h.descriptorSize*block.SectorSize)
		if err := s.read(s.text, at); err != nil {
			return nil, sparseError(at, -1, fmt.Errorf("embedded descriptor: %w", err))
		}
		if err := checkDescriptor(s.text); err != nil {
			return nil, sparseError(at, -1, err)
		}
	}
	at := int64(h.gdOffset) * block.SectorSize
	if s.directory, err = s.words(at, g.tables()); err != nil {
		return nil, sparseError(at, -1, fmt.Errorf("grain directory: %w", err))
	}
	s.counted = make([]uint64, (g.tables()+63)/64)
	return s, nil
}

// checkSparse is check for a hosted sparse extent.
func (h *header) checkSparse() error {
	if h.flags&(flagCompressed|flagMarkers) != 0 {
		return fmt.Errorf("a stream-optimized VMDK (flags %#x) where a sparse extent belongs: %w", h.flags, block.ErrUnsupported)
	}
	if h.gdOffset == gdAtEnd {
		return fmt.Errorf("sparse extent without a grain directory: %w", block.ErrCorrupt)
	}
	like := *h
	like.flags |= flagCompressed | flagMarkers
	like.compression = compressDeflate
	return like.check()
}

// Capacity is the size of what the extent holds, in bytes.
func (s *Sparse) Capacity() int64 { return s.capacity }

// Descriptor is the text that is embedded in the extent; nil when there is none.
func (s *Sparse) Descriptor() []byte { return s.text }

// read fills p from the file's byte off on.
func (s *Sparse) read(p []byte, off int64) error {
	if off > s.size || int64(len(p)) > s.size-off {
		return fmt.Errorf("%d bytes at byte %d, in a file of %d: %w", len(p), off, s.size, block.ErrTruncated)
	}
	_, err := s.r.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		err = block.ErrTruncated
	}
	return err
}

// words reads n little-endian numbers at byte off of the file.
func (s *Sparse) words(off, n int64) ([]uint32, error) {
	if off > s.size || n*4 > s.size-off { // before so much memory is taken
		return nil, fmt.Errorf("%d bytes at byte %d, in a file of %d: %w", n*4, off, s.size, block.ErrTruncated)
	}
	p := make([]byte, n*4)
	if err := s.read(p, off); err != nil {
		return nil, err
	}
	out := make([]uint32, n)
	for i := range out {
		out[i] = binary.LittleEndian.Uint32(p[4*i:])
	}
	return out, nil
}

// at is where in the file the grain with number n of the extent is; 0 where the extent
// has only zeros.
func (s *Sparse) at(n int64) (int64, error) {
	table := n / tableEntries
	lba := n * s.grain / block.SectorSize
	if s.loaded != table {
		if err := s.load(table); err != nil {
			return 0, sparseError(int64(s.directory[table])*block.SectorSize, lba, err)
		}
	}
	if s.entries == nil {
		return 0, nil
	}
	sector := s.entries[n%tableEntries]
	if sector == 0 || s.zeroed && sector == zeroedGrain {
		return 0, nil
	}
	off := int64(sector) * block.SectorSize
	if end := off + min(s.grain, s.capacity-n*s.grain); end > s.size {
		return 0, sparseError(off, lba, fmt.Errorf("a grain ends at byte %d, the file at %d: %w", end, s.size, block.ErrTruncated))
	}
	return off, nil
}

// load reads a grain table.
func (s *Sparse) load(table int64) error {
	s.loaded, s.entries = table, nil
	sector := s.directory[table]
	if sector == 0 {
		return nil
	}
	entries, err := s.words(int64(sector)*block.SectorSize, tableEntries)
	if err != nil {
		s.loaded = -1
		return fmt.Errorf("grain table %d: %w", table, err)
	}
	if err := s.count(table, entries); err != nil {
		return err
	}
	for _, sector := range entries {
		if sector != 0 && (!s.zeroed || sector != zeroedGrain) {
			s.entries = entries
			break
		}
	}
	return nil
}

// count refuses a file that would have more in its grains than it has bytes: some are
// listed twice.
func (s *Sparse) count(table int64, entries []uint32) error {
	if s.counted[table/64]&(1<<(table%64)) != 0 {
		return nil
	}
	s.counted[table/64] |= 1 << (table % 64)
	for _, sector := range entries {
		if sector != 0 && (!s.zeroed || sector != zeroedGrain) {
			s.grains++
		}
	}
	if s.grains > s.size/s.grain+1 {
		return fmt.Errorf("the tables list %d grains of %d bytes, more than a file of %d bytes has: %w", s.grains, s.grain, s.size, block.ErrCorrupt)
	}
	return nil
}

// NextData returns the next area from off on that may hold something else than zeros,
// within the extent. At the end start is the capacity.
func (s *Sparse) NextData(off int64) (start, end int64, err error) {
	for n := off / s.grain; n*s.grain < s.capacity; {
		at, err := s.at(n)
		if err != nil {
			return 0, 0, err
		}
		if at != 0 {
			return max(off, n*s.grain), min((n+1)*s.grain, s.capacity), nil
		}
		if n++; s.entries == nil && s.loaded >= 0 { // none in all of this table
			n = (s.loaded + 1) * tableEntries
		}
	}
	return s.capacity, s.capacity, nil
}

// ReadAt implements [io.ReaderAt], for the one goroutine only.
func (s *Sparse) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		if off >= s.capacity {
			return n, io.EOF
		}
		in := off % s.grain
		size := min(int64(len(p)-n), s.grain-in, s.capacity-off)
		piece := p[n : n+int(size)]
		at, err := s.at(off / s.grain)
		switch {
		case err != nil:
			return n, err
		case at == 0:
			clear(piece)
		default:
			if err := s.read(piece, at+in); err != nil {
				return n, sparseError(at+in, off/block.SectorSize, err)
			}
		}
		n += int(size)
		off += size
	}
	return n, nil
}

// sparseError is the error of a place in a file.
func sparseError(at, lba int64, err error) error {
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("it ends there: %w", block.ErrTruncated)
	}
	return &StreamError{Offset: at, LBA: lba, Err: err}
}
