package vmdk

// Layout says where a stream-optimized VMDK keeps its grain directory.
type Layout string

// Layouts of a stream.
const (
	LayoutTail  Layout = "tail"  // after the grains, with an end-of-stream marker: ESXi
	LayoutFront Layout = "front" // before the grains, without one: qemu-img
)

// Geometry is what a stream's header says about the disk.
type Geometry struct {
	Layout    Layout `json:"layout"`
	Version   int    `json:"version"`
	Capacity  int64  `json:"capacity"`   // bytes, a multiple of 512
	GrainSize int64  `json:"grain_size"` // bytes, a power of two
}

// Position is a place between two grains from which reading can be resumed: open
// the stream at StreamOffset and pass the Position as [Options].Resume. It is
// meant to be kept as JSON, beside an identity of the stream (such as an
// ETag): a Position of another stream gives errors or a wrong disk.
type Position struct {
	Geometry
	StreamOffset int64 `json:"stream_offset"` // bytes from the start of the stream
	LBA          int64 `json:"lba"`           // every grain before this sector is done
	Counts       `json:"counts"`
	Tables       TableSums `json:"tables"`
}

// Counts are sums over the grains of a stream. ZeroGrains and DataBytes are
// counted by disk.DecodeStream with a writer only.
type Counts struct {
	Grains     int64 `json:"grains"`      // grains in the stream
	ZeroGrains int64 `json:"zero_grains"` // of these, left as holes because all zeros
	DataBytes  int64 `json:"data_bytes"`  // bytes of disk written
}
