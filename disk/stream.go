package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
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

// StreamOptions are the options of [NewStreamReader]. The zero value works.
type StreamOptions struct {
	// Capacity is the disk's expected capacity in bytes; 0 accepts any.
	Capacity int64
	// MaxCapacity refuses larger disks; 0 is the package's [MaxCapacity].
	MaxCapacity int64
	// Tee receives the bytes of the stream as they are consumed, such as a hash
	// or a file. It has received exactly Position.StreamOffset bytes (from the
	// start of the stream or, with Resume, in addition to those before) when
	// Checkpoint returns, and all when Next has returned io.EOF.
	Tee io.Writer
	// Resume goes on in the middle: the reader's first byte is the stream's
	// byte Resume.StreamOffset.
	Resume *Position
}

// GrainInfo is a grain's marker.
type GrainInfo struct {
	LBA    int64 // sector of the disk, a multiple of the grain size
	Size   int   // bytes of compressed data
	Offset int64 // bytes from the start of the stream to the marker
}

// StreamReader walks over the grains of a stream-optimized VMDK and checks its
// structure. It is for one goroutine.
type StreamReader struct {
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

// NewStreamReader reads header, descriptor and, in [LayoutFront], the tables.
// Errors are [*StreamError].
func NewStreamReader(r io.Reader, o StreamOptions) (*StreamReader, error) {
	if o.Resume != nil {
		return resumeStream(r, o)
	}
	s := &StreamReader{src: newSource(r, o.Tee, 0)}
	p, err := s.src.peek(sectorSize)
	if err != nil {
		return nil, s.fail(0, -1, err)
	}
	h, err := parseHeader(p)
	if err != nil {
		return nil, s.fail(0, -1, err)
	}
	s.src.lo += sectorSize
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

func (s *StreamReader) setGeometry(g Geometry) {
	s.geo, s.pos.Geometry = g, g
}

// resumeStream makes a StreamReader that goes on at a Position.
func resumeStream(r io.Reader, o StreamOptions) (*StreamReader, error) {
	p := *o.Resume
	g := p.Geometry
	bad := p.StreamOffset < sectorSize || p.StreamOffset%sectorSize != 0 ||
		(g.Layout != LayoutFront && g.Layout != LayoutTail) ||
		g.Capacity < 0 || g.Capacity > MaxCapacity || g.Capacity%sectorSize != 0 ||
		g.GrainSize < minGrain || g.GrainSize > maxGrain || g.GrainSize&(g.GrainSize-1) != 0 ||
		p.LBA < 0 || p.LBA%(g.GrainSize/sectorSize) != 0 || p.Grains < 0
	if bad {
		return nil, fmt.Errorf("stream position at byte %d is not one of a checkpoint: %w", p.StreamOffset, ErrNotResumable)
	}
	s := &StreamReader{src: newSource(r, o.Tee, p.StreamOffset), pos: p, geo: g}
	s.pos.Tables.Used = append([]byte(nil), p.Tables.Used...)
	s.pos.Tables.Pending = append([]PendingTable(nil), p.Tables.Pending...)
	return s, s.checkCapacity(o)
}

func (s *StreamReader) checkCapacity(o StreamOptions) error {
	most := o.MaxCapacity
	if most == 0 {
		most = MaxCapacity
	}
	var err error
	switch have := s.geo.Capacity; {
	case have > most:
		err = fmt.Errorf("the disk's capacity is %d bytes, at most %d are accepted: %w", have, most, ErrCapacity)
	case o.Capacity != 0 && have != o.Capacity:
		err = fmt.Errorf("the disk's capacity is %d bytes, not %d as expected: %w", have, o.Capacity, ErrCapacity)
	default:
		return nil
	}
	return s.fail(0, -1, err)
}

// Geometry is what the header says of the disk.
func (s *StreamReader) Geometry() Geometry { return s.geo }

// Counts are the sums so far.
func (s *StreamReader) Counts() Counts { return s.pos.Counts }

// Offset is the number of bytes of the stream consumed so far.
func (s *StreamReader) Offset() int64 { return s.src.offset() }

// Next goes to the next grain, past what was not read of the current one. It
// returns io.EOF when the stream is complete: its end was found, the tables
// list just the grains that were seen, and nothing follows but zeros. Other
// errors are [*StreamError].
func (s *StreamReader) Next() (GrainInfo, error) {
	if s.err != nil {
		return GrainInfo{}, s.err
	}
	if err := s.skipGrain(); err != nil {
		return GrainInfo{}, err
	}
	for {
		at := s.src.offset()
		p, err := s.src.peek(markerHead)
		if err == io.EOF && len(p) == 0 && s.geo.Layout == LayoutFront {
			return GrainInfo{}, s.end()
		}
		if err != nil {
			return GrainInfo{}, s.fail(at, -1, err)
		}
		value := binary.LittleEndian.Uint64(p)
		size := binary.LittleEndian.Uint32(p[8:])
		if size > 0 {
			return s.grain(at, value, size)
		}
		kind := binary.LittleEndian.Uint32(p[12:])
		if kind == markerEnd && value == 0 {
			return GrainInfo{}, s.end()
		}
		if err := s.metadata(at, kind, value); err != nil {
			return GrainInfo{}, err
		}
	}
}

// grain takes in a grain's marker.
func (s *StreamReader) grain(at int64, value uint64, size uint32) (GrainInfo, error) {
	sectors := s.geo.GrainSize / sectorSize
	lba := int64(value)
	var err error
	switch {
	case s.foot:
		err = fmt.Errorf("grain after the footer: %w", ErrCorrupt)
	case value >= uint64(s.geo.Capacity/sectorSize):
		err = fmt.Errorf("grain at sector %d is outside the disk of %d sectors: %w", value, s.geo.Capacity/sectorSize, ErrCorrupt)
	case lba%sectors != 0:
		err = fmt.Errorf("grain is not aligned to %d sectors: %w", sectors, ErrCorrupt)
	case lba < s.pos.LBA:
		err = fmt.Errorf("grain is out of order, sector %d was reached before: %w", s.pos.LBA, ErrCorrupt)
	case int64(size) > int64(maxCompressed(s.geo.GrainSize)):
		err = fmt.Errorf("grain of %d bytes claims %d compressed: %w", s.geo.GrainSize, size, ErrCorrupt)
	default:
		err = s.pos.Tables.grain(s.geo.Layout, lba/sectors, at/sectorSize)
	}
	if err != nil {
		if value > MaxCapacity/sectorSize {
			lba = -1
		}
		return GrainInfo{}, s.fail(at, lba, err)
	}
	s.src.lo += grainHead
	s.body = int(size)
	s.left = roundUp(int64(size)+grainHead, sectorSize) - grainHead
	s.pos.LBA = lba + sectors
	s.pos.Grains++
	return GrainInfo{LBA: lba, Size: int(size), Offset: at}, nil
}

// maxCompressed is the most bytes that a grain may take: stored blocks of the
// least efficient deflate there is, with room to spare.
func maxCompressed(grainSize int64) int { return int(grainSize + grainSize/4 + sectorSize) }

// ReadGrain reads the compressed data of the grain that Next returned last into
// p, whose length must be its Size. It can be called once for each grain.
func (s *StreamReader) ReadGrain(p []byte) error {
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
func (s *StreamReader) skipGrain() error {
	if err := s.src.skip(s.left); err != nil {
		return s.fail(s.src.offset(), s.lastLBA(), err)
	}
	s.left, s.body = 0, 0
	return nil
}

func (s *StreamReader) lastLBA() int64 { return s.pos.LBA - s.geo.GrainSize/sectorSize }

// Checkpoint goes past the current grain and returns the place after it. Tee
// has then received exactly the bytes before it.
func (s *StreamReader) Checkpoint() (Position, error) {
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
func (s *StreamReader) end() error {
	at := s.src.offset()
	if err := s.complete(); err != nil {
		return s.fail(at, -1, err)
	}
	if s.geo.Layout == LayoutTail {
		if err := s.src.skip(sectorSize); err != nil {
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
		if !isZero(s.src.buf[s.src.lo:s.src.hi]) {
			return s.fail(s.src.offset(), -1, fmt.Errorf("data follows the end of the stream: %w", ErrCorrupt))
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
func (s *StreamReader) complete() error {
	t := &s.pos.Tables
	if s.geo.Layout == LayoutFront {
		switch {
		case s.pos.Grains < t.ListedCount:
			return fmt.Errorf("%d of %d grains are missing: %w", t.ListedCount-s.pos.Grains, t.ListedCount, ErrTruncated)
		case s.pos.Grains > t.ListedCount || t.Seen != t.Listed:
			return fmt.Errorf("the grain tables do not list the grains that are in the stream: %w", ErrCorrupt)
		}
		return nil
	}
	if t.Directory == 0 {
		return fmt.Errorf("end-of-stream marker without a footer before it: %w", ErrCorrupt)
	}
	if len(t.Pending) > 0 {
		return fmt.Errorf("%d grain tables are missing: %w", len(t.Pending), ErrCorrupt)
	}
	for _, d := range s.found {
		if d.sector == t.Directory && d.sum == t.Confirmed {
			return nil
		}
	}
	return fmt.Errorf("no grain directory at sector %d that lists the grain tables in the stream: %w", t.Directory, ErrCorrupt)
}

// fail makes and keeps the error of a place. An io.EOF becomes ErrTruncated; an
// error of the reader stays what it is.
func (s *StreamReader) fail(at, lba int64, err error) error {
	if err == io.EOF {
		err = fmt.Errorf("it ends there: %w", ErrTruncated)
	}
	var se *StreamError
	if !errors.As(err, &se) {
		err = &StreamError{Offset: at, LBA: lba, Err: err}
	}
	s.err = err
	return err
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
