package nbd

import (
	"bytes"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scripted is a connection that says what it was given, and then ends.
type scripted struct {
	net.Conn
	in *bytes.Reader
}

func newScripted(in []byte) *scripted { return &scripted{in: bytes.NewReader(in)} }

func (c *scripted) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c *scripted) Write(p []byte) (int, error)      { return len(p), nil }
func (c *scripted) SetReadDeadline(time.Time) error  { return nil }
func (c *scripted) SetWriteDeadline(time.Time) error { return nil }
func (c *scripted) SetDeadline(time.Time) error      { return nil }
func (c *scripted) Close() error                     { return nil }

// reply puts a reply to an option together, as a server does.
func reply(kind, answer uint32, data []byte) []byte {
	p := be.AppendUint64(nil, magicReply)
	p = be.AppendUint32(be.AppendUint32(be.AppendUint32(p, kind), answer), uint32(len(data)))
	return append(p, data...)
}

// greeting is what a server says first.
func greeting(flags uint16) []byte {
	p := be.AppendUint64(be.AppendUint64(nil, magicServer), magicOption)
	return be.AppendUint16(p, flags)
}

// described is the information about an export.
func described(size uint64, flags uint16) []byte {
	return be.AppendUint16(be.AppendUint64(be.AppendUint16(nil, infoExport), size), flags)
}

// blocks is the information about block sizes.
func blocks(least, most uint32) []byte {
	return be.AppendUint32(be.AppendUint32(be.AppendUint32(be.AppendUint16(nil, infoBlockSize), least), least), most)
}

// chunk puts a chunk of a structured reply together.
func chunk(flags, kind uint16, cookie uint64, payload ...byte) []byte {
	p := be.AppendUint32(nil, magicStructured)
	p = be.AppendUint64(be.AppendUint16(be.AppendUint16(p, flags), kind), cookie)
	return append(be.AppendUint32(p, uint32(len(payload))), payload...)
}

// data is the payload of a chunk of data.
func data(at uint64, p ...byte) []byte { return append(be.AppendUint64(nil, at), p...) }

// hole is the payload of a chunk of zeros.
func hole(at uint64, n uint32) []byte { return be.AppendUint32(be.AppendUint64(nil, at), n) }

// refusal is the payload of an error.
func refusal(code uint32, text string) []byte {
	return append(be.AppendUint16(be.AppendUint32(nil, code), uint16(len(text))), text...)
}

// status is the payload of a block status, of lengths and flags in turn.
func status(id uint32, extents ...uint32) []byte {
	p := be.AppendUint32(nil, id)
	for _, n := range extents {
		p = be.AppendUint32(p, n)
	}
	return p
}

// simple puts a simple reply together.
func simple(code uint32, cookie uint64, p ...byte) []byte {
	head := be.AppendUint32(be.AppendUint32(nil, magicSimple), code)
	return append(be.AppendUint64(head, cookie), p...)
}
