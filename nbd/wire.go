package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
	"github.com/hyper2kvm/hyper2kvm/transfer"
)

var be = binary.BigEndian

// Magic numbers.
const (
	magicServer     = 0x4e42444d41474943 // NBDMAGIC
	magicOption     = 0x49484156454f5054 // IHAVEOPT
	magicOldstyle   = 0x00420281861253
	magicReply      = 0x3e889045565a9
	magicRequest    = 0x25609513
	magicSimple     = 0x67446698
	magicStructured = 0x668e33ef
)

// Flags of the handshake, the same for both ends.
const (
	flagFixed    = 1 << 0
	flagNoZeroes = 1 << 1
)

// Options.
const (
	optExportName  = 1
	optGo          = 7
	optStructured  = 8
	optMetaContext = 10
)

// Types of replies to options. Those with errorBit are errors.
const (
	repAck         = 1
	repInfo        = 3
	repMetaContext = 4
	errorBit       = 1 << 31

	repUnsupported = errorBit + 1
	repPolicy      = errorBit + 2
	repInvalid     = errorBit + 3
	repPlatform    = errorBit + 4
	repTLS         = errorBit + 5
	repUnknown     = errorBit + 6
	repShutdown    = errorBit + 7
	repBlockSize   = errorBit + 8
	repTooBig      = errorBit + 9
)

// What a reply of type repInfo is about.
const (
	infoExport    = 0
	infoBlockSize = 3
)

// Transmission flags.
const (
	flagHasFlags     = 1 << 0
	flagCanMultiConn = 1 << 8
)

// Commands.
const (
	cmdRead        = 0
	cmdDisconnect  = 2
	cmdBlockStatus = 7
)

// Chunks of structured replies. Those with chunkError are errors.
const (
	flagDone         = 1 << 0
	chunkNone        = 0
	chunkData        = 1
	chunkHole        = 2
	chunkBlockStatus = 5
	chunkError       = 1 << 15 // a bit
)

// flagZero is the one of base:allocation that counts: the area reads as zeros. A hole
// alone may hold anything.
const flagZero = 1 << 1

// Limits, in bytes unless said otherwise.
const (
	maxRead      = transfer.PieceSize // of one read
	sector       = 512
	maxName      = 4096     // of a name or a text, as the protocol has it
	maxOption    = 64 << 10 // of a reply to an option
	maxOptions   = 1024     // replies to one option
	maxUnit      = 64 << 10 // the largest minimum block size
	maxExtents   = 1 << 20  // extents in one answer: as many as nbdkit gives
	maxChunks    = 64 << 10 // chunks in one answer
	maxSize      = 1 << 62  // of an export
	requestSize  = 28
	simpleSize   = 16
	chunkSize    = 20
	optReplySize = 20
)

// request puts a request together.
func request(command uint16, cookie uint64, off int64, n uint32) []byte {
	p := make([]byte, requestSize)
	be.PutUint32(p, magicRequest)
	be.PutUint16(p[6:], command)
	be.PutUint64(p[8:], cookie)
	be.PutUint64(p[16:], uint64(off))
	be.PutUint32(p[24:], n)
	return p
}

// option puts an option of the handshake together.
func option(kind uint32, data []byte) []byte {
	p := make([]byte, 16, 16+len(data))
	be.PutUint64(p, magicOption)
	be.PutUint32(p[8:], kind)
	be.PutUint32(p[12:], uint32(len(data)))
	return append(p, data...)
}

// named is an export's name with what follows it.
func named(name string, rest ...byte) []byte {
	p := be.AppendUint32(nil, uint32(len(name)))
	return append(append(p, name...), rest...)
}

// optReply is the head of a reply to an option.
type optReply struct {
	option, kind, size uint32
}

func parseOptReply(p []byte) (optReply, error) {
	r := optReply{option: be.Uint32(p[8:]), kind: be.Uint32(p[12:]), size: be.Uint32(p[16:])}
	switch {
	case be.Uint64(p) != magicReply:
		return r, errors.New("a reply to an option without its magic number")
	case r.size > maxOption:
		return r, fmt.Errorf("a reply to an option of %d bytes", r.size)
	}
	return r, nil
}

// export is what a server says of an export.
type export struct {
	size  int64
	flags uint16
	unit  int64 // reads begin and end at multiples of it; a power of two
	most  int64 // bytes of one read
}

// parseInfo reads the payload of a repInfo into e.
func parseInfo(p []byte, e *export) error {
	if len(p) < 2 {
		return errors.New("information of no kind")
	}
	switch kind := be.Uint16(p); kind {
	case infoExport:
		if len(p) != 12 {
			return fmt.Errorf("an export described in %d bytes", len(p))
		}
		return e.describe(be.Uint64(p[2:]), be.Uint16(p[10:]))
	case infoBlockSize:
		if len(p) != 14 {
			return fmt.Errorf("block sizes in %d bytes", len(p))
		}
		unit, most := int64(be.Uint32(p[2:])), int64(be.Uint32(p[10:]))
		if unit == 0 || unit&(unit-1) != 0 || unit > maxUnit || most < unit {
			return fmt.Errorf("blocks from %d to %d bytes", unit, most)
		}
		e.unit, e.most = unit, most
	}
	return nil
}

// describe notes size and transmission flags.
func (e *export) describe(size uint64, flags uint16) error {
	switch {
	case size > maxSize:
		return fmt.Errorf("an export of %d bytes", size)
	case flags&flagHasFlags == 0:
		return errors.New("an export without flags")
	}
	e.size, e.flags = int64(size), flags
	return nil
}

// header is the head of a reply: a simple one, or a chunk of a structured one.
type header struct {
	simple bool
	code   uint32 // simple: the error, 0 for none
	flags  uint16
	kind   uint16
	cookie uint64
	size   uint32 // structured: of the payload
}

func parseSimple(p []byte) header {
	return header{simple: true, flags: flagDone, code: be.Uint32(p[4:]), cookie: be.Uint64(p[8:])}
}

func parseChunk(p []byte) (header, error) {
	h := header{flags: be.Uint16(p[4:]), kind: be.Uint16(p[6:]), cookie: be.Uint64(p[8:]), size: be.Uint32(p[16:])}
	low, high := uint32(0), uint32(0)
	switch {
	case h.kind == chunkNone:
		if h.flags&flagDone == 0 {
			return h, errors.New("an empty chunk that is not the last")
		}
	case h.kind == chunkData:
		low, high = 9, 8+maxRead
	case h.kind == chunkHole:
		low, high = 12, 12
	case h.kind == chunkBlockStatus:
		low, high = 12, 4+8*maxExtents
	case h.kind&chunkError != 0:
		low, high = 6, 6+maxName+8
	default:
		return h, fmt.Errorf("a chunk of type %d", h.kind)
	}
	if h.size < low || h.size > high {
		return h, fmt.Errorf("a chunk of type %d with %d bytes", h.kind, h.size)
	}
	return h, nil
}

// place tells where in a read of n bytes from off on a chunk of length bytes at at
// belongs.
func place(off int64, n int, at uint64, length uint32) (int, error) {
	if length == 0 || at < uint64(off) || at-uint64(off) > uint64(n) || uint64(length) > uint64(n)-(at-uint64(off)) {
		return 0, fmt.Errorf("a chunk of %d bytes at %d, asked for were %d at %d", length, at, n, off)
	}
	return int(at - uint64(off)), nil
}

// parseError reads the payload of an error chunk. A type that is not known has the same
// beginning.
func parseError(p []byte) (code uint32, text string, err error) {
	n := int(be.Uint16(p[4:]))
	if n > len(p)-6 {
		return 0, "", fmt.Errorf("an error whose text of %d bytes is not there", n)
	}
	return be.Uint32(p), safetext.Bounded(string(p[6:6+n]), maxText), nil
}

// extent is a part of an answer to a block status.
type extent struct {
	length int64
	zero   bool
}

// parseExtents reads the payload of a block status with the context's id; the extents
// are the beginning of n bytes, or all of them, and the last may go beyond them.
func parseExtents(p []byte, id uint32, n int64) ([]extent, error) {
	if got := be.Uint32(p); got != id {
		return nil, fmt.Errorf("a status of context %d, which was not asked for", got)
	}
	p = p[4:]
	if len(p) == 0 || len(p)%8 != 0 {
		return nil, fmt.Errorf("a status in %d bytes", len(p))
	}
	var out []extent
	for left := n; len(p) > 0; p = p[8:] {
		length := int64(be.Uint32(p))
		if length == 0 || left <= 0 {
			return nil, fmt.Errorf("an extent of %d bytes where %d are left", length, left)
		}
		out = append(out, extent{min(length, left), be.Uint32(p[4:])&flagZero != 0})
		left -= length
	}
	return out, nil
}

// parseContext reads the payload of a repMetaContext.
func parseContext(p []byte) (id uint32, name string, err error) {
	if len(p) < 4 || len(p) > 4+maxName {
		return 0, "", fmt.Errorf("a context in %d bytes", len(p))
	}
	return be.Uint32(p), string(p[4:]), nil
}
