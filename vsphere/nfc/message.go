package nfc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Messages of the AIO layer: a header of 16 bytes (magic, type, length of the
// payload, number of the request), the payload, and what some types have behind it,
// which the length does not count (F-902-15). All numbers are little-endian.
const (
	magic      = 0xA100DA7A
	headerSize = 16
)

// Types of messages. An encoder is there for those alone that read.
const (
	typeError        = 1
	typeOpenSession  = 2
	typeCloseSession = 3
	typeOpenFile     = 4
	typeCloseFile    = 5
	typeIO           = 7
	typeSockOpts     = 9
	typeAllocated    = 13
	typeResPool      = 22
)

// payloadSize is the length of the payload of a request and of its reply, in bytes.
var payloadSize = map[uint32]int{
	typeError: 16, typeOpenSession: 16, typeCloseSession: 16, typeOpenFile: 60, typeCloseFile: 16,
	typeIO: 44, typeSockOpts: 12, typeAllocated: 48, typeResPool: 4,
}

// Bounds of what a host may send, in bytes.
const (
	maxPayload   = 4096     // real ones have at most 60
	maxErrorText = 64 << 10 // of an error message
	maxFragment  = 2 << 20  // of the disk, in one fragment
	fragmentTail = 64 << 10 // by which a coded fragment may be longer than what it stands for
)

var le = binary.LittleEndian

// header is the head of a message.
type header struct {
	kind uint32
	size uint32 // of the payload
	op   uint32
}

func (h header) append(b []byte) []byte {
	b = le.AppendUint32(b, magic)
	b = le.AppendUint32(b, h.kind)
	b = le.AppendUint32(b, h.size)
	return le.AppendUint32(b, h.op)
}

// parseHeader reads headerSize bytes.
func parseHeader(b []byte) (header, error) {
	if le.Uint32(b) != magic {
		return header{}, fmt.Errorf("a message begins with %08x", le.Uint32(b))
	}
	h := header{le.Uint32(b[4:]), le.Uint32(b[8:]), le.Uint32(b[12:])}
	want, known := payloadSize[h.kind]
	switch {
	case !known:
		return h, fmt.Errorf("a message of type %d", h.kind)
	case h.size > maxPayload, h.kind != typeCloseFile && h.kind != typeCloseSession && int(h.size) < want: // of these two there are shorter forms
		return h, fmt.Errorf("a message of type %d with %d bytes", h.kind, h.size)
	}
	return h, nil
}

// request makes a message of a payload and what follows it.
func request(kind, op uint32, payload []byte, extra string) []byte {
	b := make([]byte, 0, headerSize+len(payload)+len(extra))
	b = header{kind, uint32(len(payload)), op}.append(b)
	return append(append(b, payload...), extra...)
}

func openSessionPayload(buffer, count uint32) []byte {
	p := make([]byte, payloadSize[typeOpenSession])
	le.PutUint32(p[4:], buffer)
	le.PutUint32(p[8:], count)
	return p
}

func resPoolPayload() []byte { return le.AppendUint32(nil, 1) }

// Of an open: the kind of file, and the only flags that this client knows.
const (
	fileIsDisk   = 2
	flagReadOnly = 0x1e
)

func openFilePayload(path string) []byte {
	p := make([]byte, payloadSize[typeOpenFile])
	le.PutUint32(p, uint32(len(path)))
	le.PutUint32(p[16:], fileIsDisk)
	le.PutUint32(p[20:], flagReadOnly)
	return p
}

// file is what an open has given.
type file struct {
	handle   uint64
	capacity int64 // bytes
}

// parseOpenFile reads the reply to an open.
func parseOpenFile(p []byte) (file, error) {
	if status := le.Uint64(p); status != 0 {
		return file{}, &statusError{status}
	}
	f := file{handle: le.Uint64(p[8:])}
	capacity, sector := le.Uint64(p[28:]), le.Uint32(p[36:])
	switch {
	case f.handle == 0 || capacity == 0:
		return file{}, errors.New("the host opened nothing")
	case sector != 0 && sector != sectorSize:
		return file{}, fmt.Errorf("sectors of %d bytes", sector)
	case capacity > math.MaxInt64/2 || capacity%sectorSize != 0:
		return file{}, fmt.Errorf("a capacity of %d bytes", capacity)
	}
	f.capacity = int64(capacity)
	return f, nil
}

// statusError is a status other than good in an ordinary reply.
type statusError struct{ status uint64 }

func (e *statusError) Error() string { return fmt.Sprintf("status %d (0x%x)", e.status, e.status) }

// handlePayload is that of closing a file; of closing a session with handle 0.
func handlePayload(handle uint64) []byte {
	return le.AppendUint64(le.AppendUint64(nil, handle), 0)
}

// Compression asks the host to code fragments (F-902-16).
type Compression uint32

// Codings that a host is asked for. The zero value of [Options] is SkipZeros, which
// costs the host next to nothing and brings holes for nearly nothing.
const (
	raw       Compression = 0
	zlibbed   Compression = 1
	skipZeros Compression = 3
)

const sectorSize = 512

// readPayload asks for n bytes of the disk from off on. The direction is 1: this
// client has no way to write.
func readPayload(handle uint64, code Compression, off int64, n uint32) []byte {
	p := make([]byte, payloadSize[typeIO])
	le.PutUint64(p, handle)
	le.PutUint32(p[8:], 1)
	le.PutUint32(p[12:], uint32(code))
	le.PutUint64(p[16:], uint64(off))
	le.PutUint64(p[24:], uint64(n))
	le.PutUint32(p[32:], n)
	le.PutUint32(p[36:], n)
	return p
}

// fragment is the head of a part of the answer to a read.
type fragment struct {
	code Compression
	off  uint64 // of the request
	of   uint32 // length of the request in bytes
	at   uint32 // where in the request it begins
	n    uint32 // bytes of the disk
	wire uint32 // bytes that follow
}

// parseFragment reads the payload of a reply to a read of n bytes from off on.
// What it returns is within that read and within bounds.
func parseFragment(p []byte, off int64, n uint32) (fragment, error) {
	if status := le.Uint64(p); status != 0 {
		return fragment{}, &statusError{status}
	}
	f := fragment{
		code: Compression(le.Uint32(p[12:])), off: le.Uint64(p[16:]), of: le.Uint32(p[24:]),
		at: le.Uint32(p[28:]), n: le.Uint32(p[32:]), wire: le.Uint32(p[36:]),
	}
	switch {
	case f.off != uint64(off) || f.of != n:
		return f, fmt.Errorf("a fragment of %d bytes at %d, asked were %d at %d", f.of, f.off, n, off)
	case f.n == 0:
		return f, errors.New("an empty fragment")
	case f.at >= n || f.n > n-f.at || f.n > maxFragment:
		return f, fmt.Errorf("a fragment of %d bytes at %d of %d", f.n, f.at, n)
	case f.wire > f.n+fragmentTail:
		return f, fmt.Errorf("a fragment of %d bytes that comes as %d", f.n, f.wire)
	case f.code == raw && f.wire != f.n:
		return f, fmt.Errorf("a raw fragment of %d bytes that comes as %d", f.n, f.wire)
	}
	return f, nil
}

// refusal is the payload of an error message.
type refusal struct {
	code uint64
	text uint32 // its length in bytes
}

func parseRefusal(p []byte) (refusal, error) {
	r := refusal{le.Uint64(p), le.Uint32(p[12:])}
	if r.text > maxErrorText {
		return r, fmt.Errorf("an error with %d bytes of text", r.text)
	}
	return r, nil
}
