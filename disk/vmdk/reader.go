package vmdk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/hyper2kvm/hyper2kvm/disk/internal/block"
)

// Types of metadata markers. Type 4 is not in the specification: hosts send it
// to show that a long hole is being passed.
const (
	markerEnd       = 0
	markerTable     = 1
	markerDirectory = 2
	markerFooter    = 3
	markerProgress  = 4
)

// markerHead is the length of the fields of a marker, in bytes. A grain's data
// begins at its byte 12; metadata begins in the sector after the marker.
const (
	markerHead = 16
	grainHead  = 12
)

// maxSlack is how many sectors longer than needed a directory may be, and how
// many a progress marker may have.
const maxSlack = 2048

// Options are the options of [NewReader]. The zero value works.
type Options struct {
	// Capacity is the disk's expected capacity in bytes; 0 accepts any.
	Capacity int64
	// MaxCapacity refuses larger disks; 0 is disk.MaxCapacity.
	MaxCapacity int64
	// Tee receives the bytes of the stream as they are consumed, such as a hash
	// or a file. It has received exactly Position.StreamOffset bytes (from the
	// start of the stream or, with Resume, in addition to those before) when
	// Checkpoint returns, and all when Next has returned io.EOF.
	Tee io.Writer
	// Resume begins in the middle: the reader's first byte is the stream's
	// byte Resume.StreamOffset.
	Resume *Position
}

// GrainMarker is a grain's marker.
type GrainMarker struct {
	LBA    int64 // sector of the disk, a multiple of the grain size
	Size   int   // bytes of compressed data
	Offset int64 // bytes from the start of the stream to the marker
}

// Reader walks over the grains of a stream-optimized VMDK and checks its
// structure. It is for one goroutine.
type Reader struct {
	src   *source
	geo   Geometry
	pos   Position    // StreamOffset is that of the last marker
	left  int64       // bytes of the current grain and its padding not yet consumed
	body  int         // of these, bytes of compressed data
	foot  bool        // the footer was seen
	found []directory // the last few grain directories met
	err   error       // sticky
}

// directory is a grain directory met in the stream.
type directory struct {
	sector int64
	sum    uint64
}

// NewReader reads header, descriptor and, in [LayoutFront], the tables.
// Errors are [*StreamError].
func NewReader(r io.Reader, o Options) (*Reader, error) {
	if o.Resume != nil {
		return resumeStream(r, o)
	}
	s := &Reader{src: newSource(r, o.Tee, 0)}
	p, err := s.src.peek(block.SectorSize)
	if err != nil {
		return nil, s.fail(0, -1, err)
	}
	h, err := parseHeader(p)
	if err != nil {
		return nil, s.fail(0, -1, err)
	}
	s.src.lo += block.SectorSize
	s.setGeometry(h.geometry())
	if err := s.checkCapacity(o); err != nil {
		return nil, err
	}
	if h.gdOffset != gdAtEnd {
		s.pos.Tables.Directory = int64(h.gdOffset)
	}
	if err := s.readFront(&h); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Reader) setGeometry(g Geometry) {
	s.geo, s.pos.Geometry = g, g
}

// resumeStream makes a Reader that begins at a Position.
func resumeStream(r io.Reader, o Options) (*Reader, error) {
	p := *o.Resume
	g := p.Geometry
	bad := p.StreamOffset < block.SectorSize || p.StreamOffset%block.SectorSize != 0 ||
		(g.Layout != LayoutFront && g.Layout != LayoutTail) ||
		g.Capacity < 0 || g.Capacity > block.MaxCapacity || g.Capacity%block.SectorSize != 0 ||
		g.GrainSize < minGrain || g.GrainSize > maxGrain || g.GrainSize&(g.GrainSize-1) != 0 ||
		p.LBA < 0 || p.LBA%(g.GrainSize/block.SectorSize) != 0 || p.Grains < 0
	if bad {
		return nil, fmt.Errorf("stream position at byte %d is not one of a checkpoint: %w", p.StreamOffset, block.ErrNotResumable)
	}
	s := &Reader{src: newSource(r, o.Tee, p.StreamOffset), pos: p, geo: g}
	s.pos.Tables.Used = append([]byte(nil), p.Tables.Used...)
	s.pos.Tables.Pending = append([]PendingTable(nil), p.Tables.Pending...)
	return s, s.checkCapacity(o)
}

func (s *Reader) checkCapacity(o Options) error {
	most := o.MaxCapacity
	if most == 0 {
		most = block.MaxCapacity
	}
	var err error
	switch have := s.geo.Capacity; {
	case have > most:
		err = fmt.Errorf("the disk's capacity is %d bytes, at most %d are accepted: %w", have, most, block.ErrCapacity)
	case o.Capacity != 0 && have != o.Capacity:
		err = fmt.Errorf("the disk's capacity is %d bytes, not %d as expected: %w", have, o.Capacity, block.ErrCapacity)
	default:
		return nil
	}
	return s.fail(0, -1, err)
}

// Geometry is what the header says of the disk.
func (s *Reader) Geometry() Geometry { return s.geo }

// Counts are the sums so far.
func (s *Reader) Counts() Counts { return s.pos.Counts }

// Offset is the number of bytes of the stream consumed so far.
func (s *Reader) Offset() int64 { return s.src.offset() }

// Next goes to the next grain, past what was not read of the current one. It
// returns io.EOF when the stream is complete: its end was found, the tables
// list just the grains that were seen, and nothing follows but zeros. Other
// errors are [*StreamError].
func (s *Reader) Next() (GrainMarker, error) {
	if s.err != nil {
		return GrainMarker{}, s.err
	}
	if err := s.skipGrain(); err != nil {
		return GrainMarker{}, err
	}
	for {
		at := s.src.offset()
		p, err := s.src.peek(markerHead)
		if err == io.EOF && len(p) == 0 && s.geo.Layout == LayoutFront {
			return GrainMarker{}, s.end()
		}
		if err != nil {
			return GrainMarker{}, s.fail(at, -1, err)
		}
		value := binary.LittleEndian.Uint64(p)
		size := binary.LittleEndian.Uint32(p[8:])
		if size > 0 {
			return s.grain(at, value, size)
		}
		kind := binary.LittleEndian.Uint32(p[12:])
		if kind == markerEnd && value == 0 {
			return GrainMarker{}, s.end()
		}
		if err := s.metadata(at, kind, value); err != nil {
			return GrainMarker{}, err
		}
	}
}

// grain takes in a grain's marker.
func (s *Reader) grain(at int64, value uint64, size uint32) (GrainMarker, error) {
	sectors := s.geo.GrainSize / block.SectorSize
	lba := int64(value)
	var err error
	switch {
	case s.foot:
		err = fmt.Errorf("grain after the footer: %w", block.ErrCorrupt)
	case value >= uint64(s.geo.Capacity/block.SectorSize):
		err = fmt.Errorf("grain at sector %d is outside the disk of %d sectors: %w", value, s.geo.Capacity/block.SectorSize, block.ErrCorrupt)
	case lba%sectors != 0:
		err = fmt.Errorf("grain is not aligned to %d sectors: %w", sectors, block.ErrCorrupt)
	case lba < s.pos.LBA:
		err = fmt.Errorf("grain is out of order, sector %d was reached before: %w", s.pos.LBA, block.ErrCorrupt)
	case int64(size) > int64(MaxCompressed(s.geo.GrainSize)):
		err = fmt.Errorf("grain of %d bytes claims %d compressed: %w", s.geo.GrainSize, size, block.ErrCorrupt)
	default:
		err = s.pos.Tables.grain(s.geo.Layout, lba/sectors, at/block.SectorSize)
	}
	if err != nil {
		if value > block.MaxCapacity/block.SectorSize {
			lba = -1
		}
		return GrainMarker{}, s.fail(at, lba, err)
	}
	s.src.lo += grainHead
	s.body = int(size)
	s.left = block.RoundUp(int64(size)+grainHead, block.SectorSize) - grainHead
	s.pos.LBA = lba + sectors
	s.pos.Grains++
	return GrainMarker{LBA: lba, Size: int(size), Offset: at}, nil
}

// MaxCompressed is the most bytes that a grain may take: stored blocks of the
// least efficient deflate there is, with room to spare.
func MaxCompressed(grainSize int64) int { return int(grainSize + grainSize/4 + block.SectorSize) }

// ReadGrain reads the compressed data of the grain that Next returned last into
// p, whose length must be its Size. It can be called once for each grain.
func (s *Reader) ReadGrain(p []byte) error {
	if s.err != nil {
		return s.err
	}
	if len(p) != s.body {
		return fmt.Errorf("read grain: buffer of %d bytes for %d", len(p), s.body)
	}
	if err := s.src.readFull(p); err != nil {
		return s.fail(s.src.offset(), s.lastLBA(), err)
	}
	s.left -= int64(s.body)
	s.body = 0
	return s.skipGrain()
}

// skipGrain consumes what is left of the current grain.
func (s *Reader) skipGrain() error {
	if err := s.src.skip(s.left); err != nil {
		return s.fail(s.src.offset(), s.lastLBA(), err)
	}
	s.left, s.body = 0, 0
	return nil
}

func (s *Reader) lastLBA() int64 { return s.pos.LBA - s.geo.GrainSize/block.SectorSize }

// Checkpoint goes past the current grain and returns the place after it. Tee
// has then received exactly the bytes before it.
func (s *Reader) Checkpoint() (Position, error) {
	if s.err != nil {
		return Position{}, s.err
	}
	if err := s.skipGrain(); err != nil {
		return Position{}, err
	}
	if err := s.src.flush(); err != nil {
		return Position{}, s.fail(s.src.offset(), -1, err)
	}
	p := s.pos
	p.StreamOffset = s.src.offset()
	p.Tables.Used = append([]byte(nil), p.Tables.Used...)
	p.Tables.Pending = append([]PendingTable(nil), p.Tables.Pending...)
	return p, nil
}

// end checks that the stream is complete and that zeros only follow.
func (s *Reader) end() error {
	at := s.src.offset()
	if err := s.complete(); err != nil {
		return s.fail(at, -1, err)
	}
	if s.geo.Layout == LayoutTail {
		if err := s.src.skip(block.SectorSize); err != nil {
			return s.fail(s.src.offset(), -1, err)
		}
	}
	for {
		_, err := s.src.peek(1)
		if err == io.EOF {
			break
		}
		if err != nil {
			return s.fail(s.src.offset(), -1, err)
		}
		if !block.IsZero(s.src.buf[s.src.lo:s.src.hi]) {
			return s.fail(s.src.offset(), -1, fmt.Errorf("data follows the end of the stream: %w", block.ErrCorrupt))
		}
		s.src.lo = s.src.hi
	}
	if err := s.src.flush(); err != nil {
		return s.fail(s.src.offset(), -1, err)
	}
	s.err = io.EOF
	return io.EOF
}

// complete tells whether what must come before the end was seen.
func (s *Reader) complete() error {
	t := &s.pos.Tables
	if s.geo.Layout == LayoutFront {
		switch {
		case s.pos.Grains < t.ListedCount:
			return fmt.Errorf("%d of %d grains are missing: %w", t.ListedCount-s.pos.Grains, t.ListedCount, block.ErrTruncated)
		case s.pos.Grains > t.ListedCount || t.Seen != t.Listed:
			return fmt.Errorf("the grain tables do not list the grains that are in the stream: %w", block.ErrCorrupt)
		}
		return nil
	}
	if t.Directory == 0 {
		return fmt.Errorf("end-of-stream marker without a footer before it: %w", block.ErrCorrupt)
	}
	if len(t.Pending) > 0 {
		return fmt.Errorf("%d grain tables are missing: %w", len(t.Pending), block.ErrCorrupt)
	}
	for _, d := range s.found {
		if d.sector == t.Directory && d.sum == t.Confirmed {
			return nil
		}
	}
	return fmt.Errorf("no grain directory at sector %d that lists the grain tables in the stream: %w", t.Directory, block.ErrCorrupt)
}

// fail makes and keeps the error of a place. An io.EOF becomes disk.ErrTruncated; an
// error of the reader stays what it is.
func (s *Reader) fail(at, lba int64, err error) error {
	if err == io.EOF {
		err = fmt.Errorf("it ends there: %w", block.ErrTruncated)
	}
	var se *StreamError
	if !errors.As(err, &se) {
		err = &StreamError{Offset: at, LBA: lba, Err: err}
	}
	s.err = err
	return err
}
