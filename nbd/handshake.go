package nbd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
)

// allocation is the context that tells which areas hold data.
const allocation = "base:allocation"

// agreed is what the handshake has come to.
type agreed struct {
	export
	structured bool
	context    uint32 // id of base:allocation
	allocation bool   // the server tells which areas hold data
}

// handshake is the way from a connection to an export.
type handshake struct {
	conn   io.ReadWriter
	name   string // of the server
	export string

	got  agreed
	wide bool // zeros follow the answer to EXPORT_NAME
}

// shake runs the handshake within the time that ctx and patience leave.
func shake(ctx context.Context, conn net.Conn, o Options) (agreed, error) {
	_ = conn.SetDeadline(time.Now().Add(o.Patience)) // of a connection that is closed: the next read tells
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	h := handshake{conn: conn, name: o.Name, export: o.Export}
	err := h.run()
	if !stop() {
		return h.got, ctx.Err()
	}
	_ = conn.SetDeadline(time.Time{})
	return h.got, err
}

func (h *handshake) run() error {
	if err := h.hello(); err != nil {
		return h.failed("greeting", err)
	}
	h.got.unit, h.got.most = 1, maxRead
	if err := h.options(); err != nil {
		return err
	}
	if err := h.judge(); err != nil {
		return &Error{Name: h.name, Stage: "export " + safetext.Bounded(fmt.Sprintf("%q", h.export), maxText), Kind: ErrUnsupported, Err: err}
	}
	return nil
}

// options asks for all that a read can use, and enters the transmission.
func (h *handshake) options() error {
	reply, err := h.ask(optStructured, nil, nil)
	if err != nil {
		return err
	}
	if h.got.structured = reply == repAck; h.got.structured {
		if err := h.contexts(); err != nil {
			return err
		}
	}
	data := named(h.export, 0, 1, 0, infoBlockSize)
	described := false
	reply, err = h.ask(optGo, data, func(r optReply, p []byte) error {
		if r.kind != repInfo {
			return fmt.Errorf("a reply of type %d", r.kind)
		}
		described = described || len(p) >= 2 && be.Uint16(p) == infoExport
		return parseInfo(p, &h.got.export)
	})
	switch {
	case err != nil:
		return err
	case reply == repUnsupported:
		return h.byName()
	case reply == repTLS, reply == repPlatform:
		return &Error{Name: h.name, Stage: "option GO", Kind: ErrUnsupported, Code: reply}
	case reply != repAck:
		return &Error{Name: h.name, Stage: "option GO", Kind: ErrNoExport, Code: reply}
	case !described:
		return h.strange("option GO", errors.New("the export is not described"))
	}
	return nil
}

// contexts asks for base:allocation. A server without it is as good.
func (h *handshake) contexts() error {
	query := be.AppendUint32(be.AppendUint32(nil, 1), uint32(len(allocation)))
	found := false
	reply, err := h.ask(optMetaContext, named(h.export, append(query, allocation...)...), func(r optReply, p []byte) error {
		if r.kind != repMetaContext {
			return fmt.Errorf("a reply of type %d", r.kind)
		}
		id, name, err := parseContext(p)
		switch {
		case err != nil:
			return err
		case name != allocation || found:
			return fmt.Errorf("the context %s, which was not asked for", safetext.Bounded(fmt.Sprintf("%q", name), maxText))
		}
		found, h.got.context = true, id
		return nil
	})
	h.got.allocation = found && reply == repAck
	return err
}

// hello reads the server's first words, and answers them.
func (h *handshake) hello() error {
	var p [18]byte
	if _, err := io.ReadFull(h.conn, p[:16]); err != nil {
		return err
	}
	switch {
	case be.Uint64(p[:]) != magicServer:
		return h.strange("greeting", errors.New("it is no NBD server"))
	case be.Uint64(p[8:]) == magicOldstyle:
		return &Error{Name: h.name, Stage: "greeting", Kind: ErrUnsupported, Err: errors.New("it speaks the old form of the protocol")}
	case be.Uint64(p[8:]) != magicOption:
		return h.strange("greeting", errors.New("it is no NBD server"))
	}
	if _, err := io.ReadFull(h.conn, p[16:]); err != nil {
		return err
	}
	flags := uint32(be.Uint16(p[16:]))
	if flags&flagFixed == 0 {
		return &Error{Name: h.name, Stage: "greeting", Kind: ErrUnsupported, Err: errors.New("it does not speak the fixed newstyle form of the protocol")}
	}
	h.wide = flags&flagNoZeroes == 0
	_, err := h.conn.Write(be.AppendUint32(nil, flags&(flagFixed|flagNoZeroes)))
	return err
}

// ask sends an option and reads what the server replies. Each reply but the last goes
// to take. The type of the last is returned, which may be an error's.
func (h *handshake) ask(kind uint32, data []byte, take func(optReply, []byte) error) (uint32, error) {
	stage := fmt.Sprintf("option %d", kind)
	if _, err := h.conn.Write(option(kind, data)); err != nil {
		return 0, h.failed(stage, err)
	}
	for range maxOptions {
		var head [optReplySize]byte
		if _, err := io.ReadFull(h.conn, head[:]); err != nil {
			return 0, h.failed(stage, err)
		}
		r, err := parseOptReply(head[:])
		if err == nil && r.option != kind {
			err = fmt.Errorf("a reply to option %d", r.option)
		}
		if err != nil {
			return 0, h.strange(stage, err)
		}
		payload := make([]byte, r.size)
		if _, err := io.ReadFull(h.conn, payload); err != nil {
			return 0, h.failed(stage, err)
		}
		switch {
		case r.kind == repAck:
			return r.kind, nil
		case r.kind&errorBit != 0:
			if len(payload) > 0 && kind == optGo && r.kind != repUnsupported { // it says why
				k := ErrNoExport
				if r.kind == repTLS || r.kind == repPlatform {
					k = ErrUnsupported
				}
				return r.kind, &Error{Name: h.name, Stage: "option GO", Kind: k, Code: r.kind, Text: safetext.Bounded(string(payload), maxText)}
			}
			return r.kind, nil
		case take == nil:
			return 0, h.strange(stage, fmt.Errorf("a reply of type %d", r.kind))
		}
		if err := take(r, payload); err != nil {
			return 0, h.strange(stage, err)
		}
	}
	return 0, h.strange(stage, fmt.Errorf("more than %d replies", maxOptions))
}

// byName enters the transmission as servers without GO want it. A server that has no
// such export hangs up.
func (h *handshake) byName() error {
	const stage = "option EXPORT_NAME"
	if _, err := h.conn.Write(option(optExportName, []byte(h.export))); err != nil {
		return h.failed(stage, err)
	}
	size := 10
	if h.wide {
		size += 124
	}
	p := make([]byte, size)
	if _, err := io.ReadFull(h.conn, p); err != nil {
		if err == io.EOF {
			return &Error{Name: h.name, Stage: stage, Kind: ErrNoExport}
		}
		return h.failed(stage, err)
	}
	if err := h.got.describe(be.Uint64(p), be.Uint16(p[8:])); err != nil {
		return h.strange(stage, err)
	}
	return nil
}

// judge says why the export cannot be read. Reads are of whole sectors where the export
// is: servers that want this do not all say so.
func (h *handshake) judge() error {
	e := &h.got.export
	if e.size%sector == 0 && e.most >= sector {
		e.unit = max(e.unit, sector)
	}
	e.most = min(e.most, maxRead) / e.unit * e.unit
	if e.size%e.unit != 0 {
		return fmt.Errorf("its size, %d bytes, is no multiple of its blocks of %d", e.size, e.unit)
	}
	return nil
}

func (h *handshake) strange(stage string, err error) error {
	return &Error{Name: h.name, Stage: stage, Kind: ErrProtocol, Err: err}
}

func (h *handshake) failed(stage string, err error) error { return broken(h.name, stage, err) }
