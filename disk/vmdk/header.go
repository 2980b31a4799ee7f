package vmdk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/disk/internal/block"
)

// Values of the sparse extent header, Virtual Disk Format 5.0.
const (
	vmdkMagic = "KDMV"

	flagNewlines   = 1 << 0  // the newline detection bytes are valid
	flagCompressed = 1 << 16 // grains are compressed
	flagMarkers    = 1 << 17 // grains and metadata have markers

	compressDeflate = 1
	gdAtEnd         = 1<<64 - 1 // header.gdOffset when the footer has the real one

	tableEntries = 512              // grain table entries in a grain table
	tableBytes   = tableEntries * 4 // bytes of a grain table

	minGrain      = 4 << 10 // bytes
	maxGrain      = 2 << 20
	maxDescriptor = 1 << 20
	maxTables     = 4 << 20 // 128 TiB in grains of 64 KiB
)

// header is the sparse extent header. Offsets and sizes are sectors.
type header struct {
	version          uint32
	flags            uint32
	capacity         uint64
	grainSize        uint64
	descriptorOffset uint64
	descriptorSize   uint64
	tableEntries     uint32
	gdOffset         uint64
	overHead         uint64
	newlines         [4]byte
	compression      uint16
}

// parseHeader takes a header or footer of a stream apart. The error wraps
// disk.ErrCorrupt or disk.ErrUnsupported.
func parseHeader(p []byte) (header, error) {
	h, err := decodeHeader(p)
	if err != nil {
		return h, err
	}
	return h, h.check()
}

// decodeHeader takes a header apart, whatever kind of extent it is of.
func decodeHeader(p []byte) (header, error) {
	le := binary.LittleEndian
	if string(p[:4]) != vmdkMagic {
		return header{}, fmt.Errorf("no VMDK header (it begins with %q, not %q): %w", p[:4], vmdkMagic, block.ErrCorrupt)
	}
	h := header{
		version:          le.Uint32(p[4:]),
		flags:            le.Uint32(p[8:]),
		capacity:         le.Uint64(p[12:]),
		grainSize:        le.Uint64(p[20:]),
		descriptorOffset: le.Uint64(p[28:]),
		descriptorSize:   le.Uint64(p[36:]),
		tableEntries:     le.Uint32(p[44:]),
		gdOffset:         le.Uint64(p[56:]),
		overHead:         le.Uint64(p[64:]),
		newlines:         [4]byte(p[73:77]),
		compression:      le.Uint16(p[77:]),
	}
	return h, nil
}

func (h *header) check() error {
	unsupported := func(format string, a ...any) error {
		return fmt.Errorf(format+": %w", append(a, block.ErrUnsupported)...)
	}
	corrupt := func(format string, a ...any) error {
		return fmt.Errorf(format+": %w", append(a, block.ErrCorrupt)...)
	}
	grain := h.grainSize * block.SectorSize
	switch {
	case h.version < 1 || h.version > 3:
		return unsupported("VMDK version %d (1 to 3 are known)", h.version)
	case h.flags&flagNewlines != 0 && h.newlines != [4]byte{'\n', ' ', '\r', '\n'}:
		return corrupt("line ends in the header are changed, as by a transfer in text mode")
	case h.flags&flagCompressed == 0 || h.flags&flagMarkers == 0:
		return unsupported("sparse VMDK that is not stream-optimized (flags %#x)", h.flags)
	case h.compression != compressDeflate:
		return unsupported("compression algorithm %d (1, deflate, is known)", h.compression)
	case h.capacity > block.MaxCapacity/block.SectorSize:
		return corrupt("capacity of %d sectors", h.capacity)
	case h.grainSize > maxGrain/block.SectorSize || grain < minGrain || grain&(grain-1) != 0:
		return corrupt("grain size of %d sectors", h.grainSize)
	case h.tableEntries != tableEntries:
		return unsupported("grain tables of %d entries (%d are known)", h.tableEntries, tableEntries)
	case h.descriptorSize > maxDescriptor/block.SectorSize:
		return corrupt("embedded descriptor of %d sectors", h.descriptorSize)
	case h.overHead < 1 || h.overHead > block.MaxCapacity/block.SectorSize:
		return corrupt("grains that begin at sector %d of the stream", h.overHead)
	case h.descriptorSize > 0 && (h.descriptorOffset < 1 || h.descriptorOffset > h.overHead || h.descriptorSize > h.overHead-h.descriptorOffset):
		return corrupt("embedded descriptor at sectors %d+%d, grains from %d", h.descriptorOffset, h.descriptorSize, h.overHead)
	case h.gdOffset == 0 || (h.gdOffset != gdAtEnd && h.gdOffset > block.MaxCapacity/block.SectorSize):
		return corrupt("grain directory at sector %d", h.gdOffset)
	case h.capacity/h.grainSize/tableEntries > maxTables:
		return unsupported("disk of %d sectors in grains of %d", h.capacity, h.grainSize)
	}
	return nil
}

// geometry is what the header says of the disk.
func (h *header) geometry() Geometry {
	g := Geometry{
		Layout:    LayoutTail,
		Version:   int(h.version),
		Capacity:  int64(h.capacity) * block.SectorSize,
		GrainSize: int64(h.grainSize) * block.SectorSize,
	}
	if h.gdOffset < h.overHead {
		g.Layout = LayoutFront
	}
	return g
}

// checkDescriptor refuses descriptors of disks whose content is not all in this
// stream.
func checkDescriptor(text []byte) error {
	if i := bytes.IndexByte(text, 0); i >= 0 {
		text = text[:i]
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if strings.EqualFold(strings.TrimSpace(key), "parentCID") {
			if v := strings.TrimSpace(value); !strings.EqualFold(v, "ffffffff") {
				return fmt.Errorf("delta disk (parentCID %.16q), which has no content of its own; consolidate the VM's snapshots: %w", v, block.ErrUnsupported)
			}
		}
	}
	return nil
}

// tables is how many grain tables cover a disk.
func (g Geometry) tables() int64 {
	per := g.GrainSize * tableEntries
	return (g.Capacity + per - 1) / per
}
