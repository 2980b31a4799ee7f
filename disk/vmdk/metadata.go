package vmdk

import (
	"encoding/binary"
	"fmt"

	"github.com/hyper2kvm/hyper2kvm/disk/internal/block"
)

// readFront consumes everything before the first grain: the descriptor and, in
// LayoutFront, the directory and the tables.
func (s *Reader) readFront(h *header) error {
	if h.descriptorSize > 0 && (s.geo.Layout == LayoutTail || h.descriptorOffset < h.gdOffset) {
		if err := s.readDescriptor(h); err != nil {
			return err
		}
	}
	if s.geo.Layout == LayoutFront {
		if err := s.readFrontTables(h); err != nil {
			return err
		}
	}
	return s.skipTo(int64(h.overHead))
}

func (s *Reader) readDescriptor(h *header) error {
	at := int64(h.descriptorOffset) * block.SectorSize
	if err := s.skipTo(int64(h.descriptorOffset)); err != nil {
		return err
	}
	var text []byte
	err := s.src.each(int64(h.descriptorSize)*block.SectorSize, 1, func(p []byte) error {
		text = append(text, p...)
		return nil
	})
	if err == nil {
		err = checkDescriptor(text)
	}
	if err != nil {
		return s.fail(at, -1, err)
	}
	return nil
}

// readFrontTables reads the directory and, in its order, the tables.
func (s *Reader) readFrontTables(h *header) error {
	if err := s.skipTo(int64(h.gdOffset)); err != nil {
		return err
	}
	at := s.src.offset()
	var dir []uint32
	err := s.src.each(s.geo.tables()*4, 4, func(p []byte) error {
		for ; len(p) > 0; p = p[4:] {
			dir = append(dir, binary.LittleEndian.Uint32(p))
		}
		return nil
	})
	if err != nil {
		return s.fail(at, -1, err)
	}
	for i, sector := range dir {
		if sector == 0 {
			continue
		}
		if uint64(sector)*block.SectorSize+tableBytes > h.overHead*block.SectorSize {
			return s.fail(at, -1, fmt.Errorf("grain table %d is at sector %d, not before the grains: %w", i, sector, block.ErrCorrupt))
		}
		if err := s.skipTo(int64(sector)); err != nil {
			return err
		}
		p, err := s.src.peek(tableBytes)
		if err != nil {
			return s.fail(s.src.offset(), -1, err)
		}
		s.pos.Tables.list(p, int64(i))
		s.src.lo += tableBytes
	}
	return nil
}

// skipTo consumes everything before a sector of the stream.
func (s *Reader) skipTo(sector int64) error {
	at := s.src.offset()
	n := sector*block.SectorSize - at
	if n < 0 {
		return s.fail(at, -1, fmt.Errorf("structures overlap or are out of order at sector %d of the stream: %w", sector, block.ErrCorrupt))
	}
	if err := s.src.skip(n); err != nil {
		return s.fail(s.src.offset(), -1, err)
	}
	return nil
}

// metadata takes in a metadata marker with so many sectors of content.
func (s *Reader) metadata(at int64, kind uint32, sectors uint64) error {
	content := at/block.SectorSize + 1
	var err error
	switch {
	case kind == markerProgress && sectors <= maxSlack:
		err = s.src.skip(block.SectorSize * int64(1+sectors))
	case s.geo.Layout == LayoutFront:
		err = fmt.Errorf("unknown marker of type %d among the grains: %w", kind, block.ErrCorrupt)
	case s.foot:
		err = fmt.Errorf("marker of type %d after the footer: %w", kind, block.ErrCorrupt)
	case kind == markerTable && sectors == tableBytes/block.SectorSize:
		err = s.tailTable(content)
	case kind == markerDirectory && sectors*block.SectorSize >= uint64(s.geo.tables()*4) && sectors*block.SectorSize <= uint64(s.geo.tables()*4+maxSlack*block.SectorSize):
		err = s.tailDirectory(content, int64(sectors)*block.SectorSize)
	case kind == markerFooter && sectors == 1:
		err = s.footer()
	default:
		err = fmt.Errorf("marker of type %d with %d sectors: %w", kind, sectors, block.ErrCorrupt)
	}
	if err != nil {
		return s.fail(at, -1, err)
	}
	return nil
}

// tailTable reads a table of LayoutTail with its marker.
func (s *Reader) tailTable(sector int64) error {
	p, err := s.src.peek(block.SectorSize + tableBytes)
	if err != nil {
		return err
	}
	s.src.lo += block.SectorSize + tableBytes
	return s.pos.Tables.confirm(p[block.SectorSize:], sector)
}

// tailDirectory reads the directory of LayoutTail with its marker. Only the
// last few directories are kept for the footer to choose from.
func (s *Reader) tailDirectory(sector, size int64) error {
	if err := s.src.skip(block.SectorSize); err != nil {
		return err
	}
	d := directory{sector: sector}
	first := int64(0)
	need := s.geo.tables() * 4
	err := s.src.each(need, 4, func(p []byte) error {
		d.sum += s.pos.Tables.listDirectory(p, first)
		first += int64(len(p) / 4)
		return nil
	})
	if err != nil {
		return err
	}
	if len(s.found) == 4 {
		s.found = s.found[:copy(s.found, s.found[1:])]
	}
	s.found = append(s.found, d)
	return s.src.skip(size - need)
}

// footer reads the footer with its marker: a header that knows where the
// directory is.
func (s *Reader) footer() error {
	p, err := s.src.peek(2 * block.SectorSize)
	if err != nil {
		return err
	}
	f, err := parseHeader(p[block.SectorSize:])
	if err != nil {
		return fmt.Errorf("footer: %w", err)
	}
	if g := f.geometry(); g.Capacity != s.geo.Capacity || g.GrainSize != s.geo.GrainSize || f.gdOffset == gdAtEnd {
		return fmt.Errorf("footer contradicts the header: %w", block.ErrCorrupt)
	}
	s.src.lo += 2 * block.SectorSize
	s.pos.Tables.Directory = int64(f.gdOffset)
	s.foot = true
	return nil
}
