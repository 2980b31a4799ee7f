package disk

import "io"

// Writer is an image being written. WriteAt may be called by several goroutines
// at once, for areas that do not overlap; offsets are bytes of the virtual disk,
// and what is never written reads as zeros.
//
// After a failure to write or sync the file, neither Checkpoint nor Commit ever
// succeeds: the system reports a lost page once. The part file can be resumed from
// the last Checkpoint that did succeed.
type Writer interface {
	io.WriterAt
	// Checkpoint makes everything durable whose WriteAt returned before the
	// call: after a crash, OpenRaw or qcow2.Open resumes from there.
	Checkpoint() error
	// Commit completes the image under the part file's name, makes it durable
	// and closes it.
	Commit() error
	// Close gives the writer up and keeps the part file as it is, for OpenRaw
	// or qcow2.Open to resume from the last Checkpoint. After a successful
	// Commit, Discard or Close it does nothing, so it can be deferred.
	Close() error
	// Discard closes and removes the part file. After a successful
	// Commit, Discard or Close it does nothing, so it can be deferred.
	Discard() error
}

// Grain is a compressed piece of a disk.
type Grain struct {
	Offset int64  // bytes from the start of the disk, a multiple of the grain size
	Zlib   []byte // zlib stream (RFC 1950) of the piece
}

// GrainWriter is a [Writer] that can take grains without inflating them.
// [DecodeStream] uses it when GrainSize equals the stream's grain size.
type GrainWriter interface {
	Writer
	// GrainSize is the number of bytes of disk in a grain that WriteGrains
	// takes; 0 if it takes none.
	GrainSize() int64
	// FitsGrain tells whether a whole grain with so many bytes of zlib stream
	// can be stored as it is. If not, it has to be written with WriteAt.
	FitsGrain(zlibLen int) bool
	// WriteGrains stores whole grains that fit. It may be called by several
	// goroutines, for different grains. It keeps nothing of g.
	WriteGrains(g []Grain) error
}
