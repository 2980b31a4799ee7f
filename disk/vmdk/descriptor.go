package vmdk

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/disk/internal/block"
)

// DescriptorMagic begins the file of a descriptor.
const DescriptorMagic = "# Disk DescriptorFile"

// MaxDescriptor is the longest descriptor that is read, in bytes.
const MaxDescriptor = maxDescriptor

// maxExtents bounds the extents of a disk: 64 TiB in pieces of 2 GiB, and as many
// again.
const maxExtents = 1 << 16

// ExtentKind says how an extent keeps its part of the disk.
type ExtentKind string

// Kinds of extents that can be read.
const (
	ExtentFlat   ExtentKind = "FLAT"   // as it is, in a file, from an offset on
	ExtentVMFS   ExtentKind = "VMFS"   // the same, as ESXi calls it
	ExtentSparse ExtentKind = "SPARSE" // in grains: see [OpenSparse]
	ExtentZero   ExtentKind = "ZERO"   // nothing but zeros, without a file
)

// Extent is a part of a disk, as a descriptor has it.
type Extent struct {
	Kind   ExtentKind
	Size   int64  // bytes of the disk, above 0
	File   string // as the descriptor names it; empty for [ExtentZero]
	Offset int64  // bytes from the start of the file to the first of a flat extent
	Line   int    // of the descriptor, from 1
}

// Descriptor is the text that says what a disk is made of.
type Descriptor struct {
	CreateType string // as "monolithicFlat"; may be empty
	Extents    []Extent
}

// Capacity is the size of the disk in bytes.
func (d Descriptor) Capacity() int64 {
	var n int64
	for _, e := range d.Extents {
		n += e.Size
	}
	return n
}

// ParseDescriptor reads a descriptor (Virtual Disk Format 5.0). Errors name the line
// and wrap disk.ErrCorrupt or disk.ErrUnsupported.
func ParseDescriptor(text []byte) (Descriptor, error) {
	if i := bytes.IndexByte(text, 0); i >= 0 {
		text = text[:i]
	}
	var d Descriptor
	if len(text) > maxDescriptor {
		return d, fmt.Errorf("VMDK descriptor of more than %d bytes: %w", maxDescriptor, block.ErrCorrupt)
	}
	if err := checkDescriptor(text); err != nil {
		return d, err
	}
	number, total := 0, int64(0)
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSpace(line)
		if key, value, ok := strings.Cut(line, "="); ok && strings.EqualFold(strings.TrimSpace(key), "createType") {
			d.CreateType = strings.Trim(strings.TrimSpace(value), `"`)
			continue
		}
		if !extentLine(line) {
			continue
		}
		e, err := parseExtent(line)
		if err == nil && (len(d.Extents) == maxExtents || e.Size > block.MaxCapacity-total) {
			err = fmt.Errorf("the disk is larger than %d bytes, or has more than %d extents: %w", int64(block.MaxCapacity), maxExtents, block.ErrCapacity)
		}
		if err != nil {
			return d, fmt.Errorf("VMDK descriptor, line %d: %w", number, err)
		}
		e.Line = number
		total += e.Size
		d.Extents = append(d.Extents, e)
	}
	return d, nil
}

// extentLine says whether a line describes an extent: it begins with how that may be
// accessed.
func extentLine(line string) bool {
	word, _, _ := strings.Cut(line, " ")
	return word == "RW" || word == "RDONLY" || word == "NOACCESS"
}

// parseExtent reads a line such as: RW 4192256 SPARSE "disk-s001.vmdk" 0.
func parseExtent(line string) (Extent, error) {
	corrupt := func(format string, a ...any) (Extent, error) {
		return Extent{}, fmt.Errorf(format+": %w", append(a, block.ErrCorrupt)...)
	}
	before, quoted, hasFile := strings.Cut(line, `"`)
	words := strings.Fields(before)
	if len(words) != 3 {
		return corrupt("an extent is given as ACCESS SECTORS TYPE \"FILE\" OFFSET, this is %.80q", line)
	}
	sectors, err := strconv.ParseInt(words[1], 10, 64)
	if err != nil || sectors < 1 || sectors > block.MaxCapacity/block.SectorSize {
		return corrupt("extent of %.40q sectors", words[1])
	}
	e := Extent{Kind: ExtentKind(words[2]), Size: sectors * block.SectorSize}
	rest := ""
	if hasFile {
		if e.File, rest, hasFile = strings.Cut(quoted, `"`); !hasFile {
			return corrupt("the name of the extent's file does not end: %.80q", line)
		}
	}
	switch e.Kind {
	case ExtentZero:
		return e, nil
	case ExtentFlat, ExtentVMFS, ExtentSparse:
	default:
		return Extent{}, fmt.Errorf("extent of type %.40q; FLAT, VMFS, SPARSE and ZERO can be read: %w", words[2], block.ErrUnsupported)
	}
	if words[0] == "NOACCESS" {
		return Extent{}, fmt.Errorf("extent that may not be read (NOACCESS): %w", block.ErrUnsupported)
	}
	if e.File == "" {
		return corrupt("extent without a file")
	}
	if after := strings.Fields(rest); len(after) > 0 && e.Kind != ExtentSparse {
		offset, err := strconv.ParseInt(after[0], 10, 64)
		if err != nil || offset < 0 || offset > block.MaxCapacity/block.SectorSize {
			return corrupt("extent that begins at sector %.40q of its file", after[0])
		}
		e.Offset = offset * block.SectorSize
	}
	return e, nil
}
