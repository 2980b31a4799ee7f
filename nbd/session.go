package nbd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/inflight"
	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// goodbye is how long the server has to take the request that ends a connection.
const goodbye = time.Second

// session is one connection to an export, with several requests in flight. One goroutine
// takes the answers apart.
type session struct {
	agreed
	*inflight.Line[uint64, ask]
	conn net.Conn
	name string
	once sync.Once // closes
}

// call is a request that waits for its answer, by its cookie.
type call = inflight.Call[uint64, ask]

// ask is what a request asks for, and what has come of it.
type ask struct {
	command uint16
	off     int64
	length  int64          // block status: of the bytes asked about
	buf     []byte         // read: what for; the session's until done
	cover   transfer.Cover // read: what has come
	extents []extent       // block status: the answer
	refused error          // what an error chunk has said
	chunks  int            // that have come
}

// stage words what a asks for.
func (a *ask) stage() string {
	if a.command == cmdBlockStatus {
		return fmt.Sprintf("ask which areas of %d bytes at %d hold data", a.length, a.off)
	}
	return fmt.Sprintf("read %d bytes at %d", len(a.buf), a.off)
}

// newSession goes on with conn, whose handshake is over.
func newSession(conn net.Conn, a agreed, o Options) *session {
	ended := func(err error) error { return broken(o.Name, "connection", err) }
	return &session{agreed: a, Line: inflight.NewLine[uint64, ask](conn, o.Depth, o.Stall, ended), conn: conn, name: o.Name}
}

// read asks for len(buf) bytes from off on. It waits for its turn if wait is true;
// otherwise it returns nil when it is not its turn.
func (s *session) read(ctx context.Context, off int64, buf []byte, wait bool) (transfer.Pending, error) {
	c, err := s.ask(ctx, ask{command: cmdRead, off: off, buf: buf}, wait, uint32(len(buf)))
	if c == nil {
		return nil, err
	}
	return c, nil
}

// status asks which of n bytes from off on hold data; the answer may be about fewer.
func (s *session) status(ctx context.Context, off, n int64) ([]extent, error) {
	c, err := s.ask(ctx, ask{command: cmdBlockStatus, off: off, length: n}, true, uint32(n))
	if err != nil {
		return nil, err
	}
	if err := c.Wait(ctx); err != nil {
		return nil, err
	}
	return c.Of.extents, nil
}

// ask sends the request of a, which is about n bytes.
func (s *session) ask(ctx context.Context, a ask, wait bool, n uint32) (*call, error) {
	return s.Ask(ctx, a, wait, func(cookie uint64) []byte { return request(a.command, cookie, a.off, n) })
}

// take reads one reply, or one chunk of one, and gives it to whom it answers.
func (s *session) take() error {
	h, err := s.header()
	if err != nil {
		return err
	}
	c := s.Waiting(h.cookie)
	if c == nil {
		return s.strange(fmt.Errorf("a reply to request %d, which nobody waits for", h.cookie))
	}
	o := &c.Of
	switch o.chunks++; {
	case o.chunks > maxChunks:
		err = s.strange(errors.New("an answer in too many chunks"))
	case h.simple:
		err = s.simple(o, h)
	default:
		err = s.chunk(o, h)
	}
	if err != nil || h.flags&flagDone == 0 {
		return err
	}
	return s.over(c)
}

// header reads the head of the next reply.
func (s *session) header() (header, error) {
	var p [chunkSize]byte
	if _, err := io.ReadFull(s.In, p[:simpleSize]); err != nil {
		return header{}, err
	}
	switch magic := be.Uint32(p[:]); {
	case magic == magicSimple:
		return parseSimple(p[:]), nil
	case magic != magicStructured || !s.structured:
		return header{}, s.strange(fmt.Errorf("a reply that begins with %#x", magic))
	}
	if _, err := io.ReadFull(s.In, p[simpleSize:]); err != nil {
		return header{}, err
	}
	h, err := parseChunk(p[:])
	if err != nil {
		return h, s.strange(err)
	}
	return h, nil
}

// simple reads a simple reply to o: what was asked for, or an error.
func (s *session) simple(o *ask, h header) error {
	switch {
	case o.command == cmdRead && s.structured && h.code == 0:
		return s.strange(errors.New("a read answered by a simple reply, although structured ones are agreed"))
	case h.code != 0:
		o.refused = s.refusal(o, h.code, "")
		return nil
	case o.command != cmdRead:
		return s.strange(errors.New("a status answered by a simple reply"))
	}
	if _, err := io.ReadFull(s.In, o.buf); err != nil {
		return err
	}
	return o.cover.Add(0, uint32(len(o.buf)))
}

// chunk reads the payload of one chunk.
func (s *session) chunk(o *ask, h header) error {
	reads := h.kind == chunkData || h.kind == chunkHole
	switch {
	case reads && o.command != cmdRead, h.kind == chunkBlockStatus && (o.command != cmdBlockStatus || o.extents != nil):
		return s.strange(fmt.Errorf("a chunk of type %d in the answer to a request to %s", h.kind, o.stage()))
	case h.kind == chunkData:
		return s.data(o, h)
	}
	payload := make([]byte, h.size)
	if _, err := io.ReadFull(s.In, payload); err != nil {
		return err
	}
	switch h.kind {
	case chunkNone:
	case chunkHole:
		dst, err := s.space(o, be.Uint64(payload), be.Uint32(payload[8:]))
		if err != nil {
			return err
		}
		clear(dst)
	case chunkBlockStatus:
		list, err := parseExtents(payload, s.context, o.length)
		if err != nil {
			return s.strange(err)
		}
		o.extents = list
	default:
		code, text, err := parseError(payload)
		if err != nil {
			return s.strange(err)
		}
		o.refused = s.refusal(o, code, text)
	}
	return nil
}

// data reads bytes to where they belong.
func (s *session) data(o *ask, h header) error {
	var at [8]byte
	if _, err := io.ReadFull(s.In, at[:]); err != nil {
		return err
	}
	dst, err := s.space(o, be.Uint64(at[:]), h.size-8)
	if err != nil {
		return err
	}
	_, err = io.ReadFull(s.In, dst)
	return err
}

// space is where n bytes from at on of the export belong in what o asks for.
func (s *session) space(o *ask, at uint64, n uint32) ([]byte, error) {
	i, err := place(o.off, len(o.buf), at, n)
	if err == nil {
		err = o.cover.Add(uint32(i), n)
	}
	if err != nil {
		return nil, s.strange(err)
	}
	return o.buf[i : i+int(n)], nil
}

// over ends c, after the last chunk.
func (s *session) over(c *call) error {
	o := &c.Of
	err := o.refused
	switch {
	case err != nil:
	case o.command == cmdRead && !o.cover.Whole(uint32(len(o.buf))):
		return s.strange(fmt.Errorf("the answer to a request to %s ends before all of it has come", o.stage()))
	case o.command == cmdBlockStatus && o.extents == nil:
		return s.strange(errors.New("a status without an answer"))
	}
	s.Answer(c, err)
	return nil
}

// refusal is the server's error to o.
func (s *session) refusal(o *ask, code uint32, text string) error {
	return &Error{Name: s.name, Stage: o.stage(), Kind: ErrRead, Code: code, Text: text}
}

func (s *session) strange(err error) error {
	return &Error{Name: s.name, Stage: "connection", Kind: ErrProtocol, Err: err}
}

// Close ends the connection, and returns when nothing of the session is left.
func (s *session) Close() {
	s.once.Do(func() {
		s.Fail(inflight.ErrClosed)
		_ = s.Say(goodbye, func(cookie uint64) []byte { return request(cmdDisconnect, cookie, 0, 0) }) // the server may have hung up
		_ = s.conn.Close()
		<-s.Ended()
	})
}
