package nbd

import (
	"errors"
	"fmt"
)

// What only a server says and hears.
const (
	optAbort = 2
	optList  = 3
	optInfo  = 6

	repServer = 2

	cmdWrite = 1

	flagReadOnly = 1 << 1
	servedFlags  = flagHasFlags | flagReadOnly | flagCanMultiConn

	wideZeroes = 124 // bytes behind the answer to EXPORT_NAME

	codePermission = 1
	codeIO         = 5
	codeInvalid    = 22
)

// servedBlocks is what the server says of the sizes of reads.
func servedBlocks() []byte {
	p := be.AppendUint32(be.AppendUint16(nil, infoBlockSize), 1)
	return be.AppendUint32(be.AppendUint32(p, 64<<10), maxAsked)
}

// said is the head of an option of a client.
type said struct{ kind, size uint32 }

func parseOption(p []byte) (said, error) {
	o := said{kind: be.Uint32(p[8:]), size: be.Uint32(p[12:])}
	switch {
	case be.Uint64(p) != magicOption:
		return o, errors.New("an option without its magic number")
	case o.size > maxOption:
		return o, fmt.Errorf("an option of %d bytes", o.size)
	}
	return o, nil
}

// parseChoice reads the data of GO and INFO: the export's name, and what the client wants
// to know of it.
func parseChoice(p []byte) (name string, wanted map[uint16]bool, err error) {
	bad := errors.New("a choice that does not add up")
	if len(p) < 4 {
		return "", nil, bad
	}
	n := be.Uint32(p)
	if n > maxName || int64(len(p)) < 4+int64(n)+2 {
		return "", nil, bad
	}
	name, p = string(p[4:4+n]), p[4+n:]
	if count := int(be.Uint16(p)); len(p) != 2+2*count {
		return "", nil, bad
	}
	wanted = map[uint16]bool{}
	for p = p[2:]; len(p) > 0; p = p[2:] {
		wanted[be.Uint16(p)] = true
	}
	return name, wanted, nil
}

// asked is a request of a client.
type asked struct {
	flags, command uint16
	cookie, off    uint64
	length         uint32
}

// parseRequest reads a request. What a client would write is bounded, because it has to
// be read before the next request.
func parseRequest(p []byte) (asked, error) {
	r := asked{
		flags: be.Uint16(p[4:]), command: be.Uint16(p[6:]),
		cookie: be.Uint64(p[8:]), off: be.Uint64(p[16:]), length: be.Uint32(p[24:]),
	}
	switch {
	case be.Uint32(p) != magicRequest:
		return r, errors.New("a request without its magic number")
	case r.command == cmdWrite && r.length > maxAsked:
		return r, fmt.Errorf("a write of %d bytes", r.length)
	}
	return r, nil
}

// Requests that would change something, other than cmdWrite.
const (
	cmdTrim        = 4
	cmdWriteZeroes = 6
	cmdResize      = 8
)

// refusal is the error that r gets from an export of size bytes, 0 if it is to be done.
func (r asked) refusal(size int64) uint32 {
	switch r.command {
	case cmdRead:
	case cmdWrite, cmdTrim, cmdWriteZeroes, cmdResize:
		return codePermission
	default:
		return codeInvalid
	}
	if r.flags != 0 || r.length == 0 || r.length > maxAsked ||
		r.off > uint64(size) || uint64(r.length) > uint64(size)-r.off {
		return codeInvalid
	}
	return 0
}

// simpleReply is the head of an answer.
func simpleReply(code uint32, cookie uint64) []byte {
	return be.AppendUint64(be.AppendUint32(be.AppendUint32(nil, magicSimple), code), cookie)
}
