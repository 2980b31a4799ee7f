package streamvmdk

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

const (
	// SectorSize is the unit of every offset in the format, in bytes.
	SectorSize = 512
	// GrainSize is what one grain covers of the disk, in bytes.
	GrainSize = 128 * SectorSize

	tableEntries    = 512 // grains a grain table covers
	tableSectors    = tableEntries * 4 / SectorSize
	descriptorStart = 1
	descriptorSize  = 20  // sectors
	overhead        = 128 // sectors before the first grain marker
	markerSize      = 12  // LBA (8) and length (4) before a grain's data

	magic       = 0x564d444b // "KDMV" as a little-endian number
	version     = 3
	flagNewline = 1 << 0
	flagGrains  = 1 << 16 // grains are compressed
	flagMarkers = 1 << 17 // markers stand before metadata
	deflate     = 1
	gdAtEnd     = ^uint64(0)

	markerEOS       = 0
	markerTable     = 1
	markerDirectory = 2
	markerFooter    = 3
)

// header is the sparse extent header, which also serves as the footer. Fields
// are in file order; sizes and offsets count sectors.
type header struct {
	Magic            uint32
	Version          uint32
	Flags            uint32
	Capacity         uint64
	GrainSize        uint64
	DescriptorOffset uint64
	DescriptorSize   uint64
	NumGTEsPerGT     uint32
	RgdOffset        uint64
	GdOffset         uint64
	OverHead         uint64
	UncleanShutdown  uint8
	SingleEndLine    byte
	NonEndLine       byte
	DoubleEndLine1   byte
	DoubleEndLine2   byte
	Compression      uint16
	Pad              [433]byte
}

// headerSector returns the 512 bytes of a header or footer.
func headerSector(capacity, gdOffset uint64) []byte {
	var b bytes.Buffer
	// Writing a fixed-size value into a bytes.Buffer cannot fail.
	_ = binary.Write(&b, binary.LittleEndian, header{
		Magic: magic, Version: version, Flags: flagNewline | flagGrains | flagMarkers,
		Capacity: capacity, GrainSize: GrainSize / SectorSize,
		DescriptorOffset: descriptorStart, DescriptorSize: descriptorSize,
		NumGTEsPerGT: tableEntries, GdOffset: gdOffset, OverHead: overhead,
		SingleEndLine: '\n', NonEndLine: ' ', DoubleEndLine1: '\r', DoubleEndLine2: '\n',
		Compression: deflate,
	})
	return b.Bytes()
}

// markerSector returns a metadata marker: sectors that follow, zero, its type.
func markerSector(sectors uint64, kind uint32) []byte {
	b := make([]byte, SectorSize)
	binary.LittleEndian.PutUint64(b[0:], sectors)
	binary.LittleEndian.PutUint32(b[12:], kind)
	return b
}

// preamble returns everything that stands before the first grain.
func preamble(capacity uint64) []byte {
	b := make([]byte, overhead*SectorSize)
	copy(b, headerSector(capacity, gdAtEnd))
	copy(b[descriptorStart*SectorSize:], descriptor(capacity))
	return b
}

func descriptor(capacity uint64) string {
	const heads, sectors = 255, 63
	cylinders := max(1, capacity/(heads*sectors))
	return fmt.Sprintf(`# Disk DescriptorFile
version=1
CID=7e1f57ea
parentCID=ffffffff
createType="streamOptimized"

# Extent description
RDONLY %d SPARSE "generated-stream.vmdk"

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
ddb.geometry.cylinders = "%d"
ddb.geometry.heads = "%d"
ddb.geometry.sectors = "%d"
ddb.virtualHWVersion = "19"
`, capacity, cylinders, heads, sectors)
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
