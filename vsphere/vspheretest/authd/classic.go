package authd

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
)

var le = binary.LittleEndian

// messageSize is the length of every classic message.
const messageSize = 264

// harmful are the classic messages that change something on a host: put, put several,
// DDB set, delete, rename, copy (with anything in it), create directory, unmap.
var harmful = []uint32{1, 27, 30, 31, 32, 34, 40, 42, 44}

// classic is the handshake after the last TLS session has begun.
type classic struct {
	srv    *Server
	conn   net.Conn
	grant  Grant
	tag    string
	tagged bool
	clear  bool // without TLS there are no records

	pending []byte // of records that were read
}

// rest is what was read and is none of the handshake's.
func (c *classic) rest() io.Reader { return bytes.NewReader(c.pending) }

// record reads one TLS record, or what comes at once without TLS.
func (c *classic) record() bool {
	buf := make([]byte, 32<<10)
	n, err := c.conn.Read(buf)
	c.pending = append(c.pending, buf[:n]...)
	return err == nil && len(c.pending) <= 64<<10
}

// next takes the next message. One that stood behind another in a record is looked at
// only when the next record comes (F-902-11).
func (c *classic) next() ([]byte, bool) {
	if !c.clear && !c.record() {
		return nil, false
	}
	return c.bytes(messageSize)
}

// bytes takes n bytes, which may have come already.
func (c *classic) bytes(n int) ([]byte, bool) {
	for len(c.pending) < n {
		if !c.record() {
			return nil, false
		}
	}
	b := c.pending[:n:n]
	c.pending = c.pending[n:]
	return b, true
}

// send sends a message: fields at offsets of 4 bytes from the type on.
func (c *classic) send(kind uint32, fields ...uint32) bool {
	m := make([]byte, messageSize)
	le.PutUint32(m, kind)
	for i, f := range fields {
		le.PutUint32(m[4+4*i:], f)
	}
	_, err := c.conn.Write(m)
	return err == nil
}

// refuse ends the connection as hosts do.
func (c *classic) refuse() bool {
	c.send(4)
	return false
}

// run is false when the connection is over.
func (c *classic) run() bool {
	version, late := cmp.Or(c.srv.cfg.Version, 11), false
	if c.grant.Strike("late-36") {
		late = true
	}
	var ready bool // 33 has come
	for {
		m, ok := c.next()
		if !ok {
			return false
		}
		kind := le.Uint32(m)
		if slices.Contains(harmful, kind) || kind == 33 && !zero(m[4:]) {
			c.srv.cfg.Violation(fmt.Sprintf("classic message %d", kind))
			return c.refuse()
		}
		if c.grant.Strike(fmt.Sprintf("refuse-%d", kind)) {
			return c.refuse()
		}
		switch {
		case kind == 43:
			if !c.tagged || !bytes.Equal(m[4:4+len(c.tag)], []byte(c.tag)) || !zero(m[4+len(c.tag):]) {
				return c.refuse()
			}
			c.tagged, c.tag = false, "" // it has come
		case kind == 33 && !c.tagged:
			ready = true
			if !late && !c.status() {
				return false
			}
		case kind == 51 && ready:
			switch {
			case c.grant.Strike("close-51"):
				return false
			case c.grant.Strike("version-2"):
				version = 2
			case c.grant.Strike("version-9"):
				version = 9
			}
			if late && !c.status() || !c.send(51, version, 0) {
				return false
			}
		case kind == 54 && ready:
			if !c.names(m) {
				return c.refuse()
			}
		case kind == 55 && ready:
		case kind == 52 && ready:
			return c.aio()
		case kind == 8: // a ping is not answered
		default:
			return c.refuse()
		}
	}
}

// status says that the session is set up.
func (c *classic) status() bool {
	if c.grant.Strike("old-36") {
		return c.send(36)
	}
	return c.send(36, 0, 0, 0, 1)
}

// names reads who the client is, and what for. The names may stand in the record of
// their message or in records of their own.
func (c *classic) names(m []byte) bool {
	client, mode := le.Uint32(m[4:]), le.Uint32(m[8:])
	if client > 1024 || mode > 1024 {
		return false
	}
	names, ok := c.bytes(int(client + mode))
	return ok && string(names[client:]) == "nbdmode"
}

// aio begins the next layer.
func (c *classic) aio() bool {
	switch {
	case c.grant.Strike("silent-52"):
		_, _ = io.Copy(io.Discard, c.conn)
		return false
	case c.grant.Strike("error-20"):
		text := "AIO is not to be had\x00"
		m := make([]byte, messageSize, messageSize+len(text))
		le.PutUint32(m, 20)
		le.PutUint32(m[4:], 1)
		le.PutUint32(m[8:], 5)
		le.PutUint32(m[12:], uint32(len(text)))
		_, _ = c.conn.Write(append(m, text...))
		return false
	}
	return c.send(52)
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
