package nbd

import (
	"errors"
	"fmt"
	"io"
)

// greet is the server's side of a handshake. It returns the export that the client has
// chosen, or nil when it wants none.
func (c *client) greet() (*Served, error) {
	hello := be.AppendUint64(be.AppendUint64(nil, magicServer), magicOption)
	if _, err := c.conn.Write(be.AppendUint16(hello, flagFixed|flagNoZeroes)); err != nil {
		return nil, err
	}
	var p [16]byte
	if _, err := io.ReadFull(c.in, p[:4]); err != nil {
		return nil, err
	}
	flags := be.Uint32(p[:])
	if flags&^(flagFixed|flagNoZeroes) != 0 {
		return nil, fmt.Errorf("a client with flags %#x", flags)
	}
	for range maxWords {
		if _, err := io.ReadFull(c.in, p[:]); err != nil {
			return nil, err
		}
		o, err := parseOption(p[:])
		if err != nil {
			return nil, err
		}
		data := make([]byte, o.size)
		if _, err := io.ReadFull(c.in, data); err != nil {
			return nil, err
		}
		if o.kind == optExportName {
			return c.byName(string(data), flags&flagNoZeroes == 0)
		}
		e, done, err := c.option(o.kind, data)
		if err != nil || done {
			return e, err
		}
	}
	return nil, errors.New("a client that does not come to an end of its options")
}

// option answers an option. done ends the handshake.
func (c *client) option(kind uint32, data []byte) (e *Served, done bool, err error) {
	switch kind {
	case optAbort:
		return nil, true, c.reply(kind, repAck, nil)
	case optList:
		return nil, false, c.list(data)
	case optInfo, optGo:
		name, wanted, err := parseChoice(data)
		if err != nil {
			return nil, false, c.reply(kind, repInvalid, nil)
		}
		if e = c.export(name); e == nil {
			return nil, false, c.reply(kind, repUnknown, nil)
		}
		if err := c.reply(kind, repInfo, be.AppendUint16(be.AppendUint64(be.AppendUint16(nil, infoExport), uint64(e.Size)), servedFlags)); err != nil {
			return nil, false, err
		}
		if wanted[infoBlockSize] {
			if err := c.reply(kind, repInfo, servedBlocks()); err != nil {
				return nil, false, err
			}
		}
		return e, kind == optGo, c.reply(kind, repAck, nil)
	}
	return nil, false, c.reply(kind, repUnsupported, nil)
}

// list names the exports.
func (c *client) list(data []byte) error {
	if len(data) != 0 {
		return c.reply(optList, repInvalid, nil)
	}
	for _, e := range c.exports {
		if err := c.reply(optList, repServer, named(e.Name)); err != nil {
			return err
		}
	}
	return c.reply(optList, repAck, nil)
}

// byName answers EXPORT_NAME, which has no answer for a name that there is not.
func (c *client) byName(name string, wide bool) (*Served, error) {
	e := c.export(name)
	if e == nil {
		return nil, errors.New("a client that wants an export that there is not")
	}
	p := be.AppendUint16(be.AppendUint64(nil, uint64(e.Size)), servedFlags)
	if wide {
		p = append(p, make([]byte, wideZeroes)...)
	}
	_, err := c.conn.Write(p)
	return e, err
}

// export is the one of that name, or nil.
func (c *client) export(name string) *Served {
	for i, e := range c.exports {
		if e.Name == name {
			return &c.exports[i]
		}
	}
	return nil
}

func (c *client) reply(option, kind uint32, data []byte) error {
	p := be.AppendUint32(be.AppendUint32(be.AppendUint64(nil, magicReply), option), kind)
	p = be.AppendUint32(p, uint32(len(data)))
	_, err := c.conn.Write(append(p, data...))
	return err
}
