package nfc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/inflight"
	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// Times of a session. What the host is waited for while it is asked for something is
// [Options.Stall].
const (
	goodbye  = 3 * time.Second // for closing file and session in good order
	lastWait = time.Second     // for the host to hang up, or to say what it was about to say
)

// session is one connection with one file open, on which several reads are in flight.
// One goroutine takes the answers apart.
type session struct {
	*inflight.Line[uint32, ask]
	conn net.Conn
	host string
	file file
	code Compression
	once sync.Once // closes
}

// call is a request that waits for its answer.
type call = inflight.Call[uint32, ask]

// ask is what a request asks for, and what has come of it.
type ask struct {
	kind   uint32
	off    int64          // read: where
	buf    []byte         // read: what for; the session's until done
	cover  transfer.Cover // read: what has come
	chunks int            // allocated: how many
	extra  []byte         // allocated: the bitmap
	reply  []byte         // payload of the last reply
}

// newSession goes on with conn, whose handshake is over.
func newSession(conn net.Conn, host string, o Options) *session {
	ended := func(err error) error { return broken(host, "session", err) }
	return &session{Line: inflight.NewLine[uint32, ask](conn, o.Depth, o.Stall, ended), conn: conn, host: host, code: o.Compression}
}

// exchange sends a request and waits for its answer.
func (s *session) exchange(ctx context.Context, a ask, payload []byte, extra string) (*ask, error) {
	c, err := s.Send(a, func(id uint32) []byte { return request(a.kind, id, payload, extra) })
	if err != nil {
		return nil, err
	}
	if err := c.Wait(ctx); err != nil {
		return nil, err
	}
	return &c.Of, nil
}

// read asks for len(buf) bytes from off on, of whole sectors and at most readSize.
// It waits for its turn if wait is true; otherwise it returns nil when it is not its turn.
func (s *session) read(ctx context.Context, off int64, buf []byte, wait bool) (transfer.Pending, error) {
	c, err := s.Ask(ctx, ask{kind: typeIO, off: off, buf: buf}, wait, func(id uint32) []byte {
		return request(typeIO, id, readPayload(s.file.handle, s.code, off, uint32(len(buf))), "")
	})
	if c == nil {
		return nil, err
	}
	return c, nil
}

// take reads one message and gives it to whom it answers.
func (s *session) take() error {
	var head [headerSize]byte
	if _, err := io.ReadFull(s.In, head[:]); err != nil {
		return err
	}
	h, err := parseHeader(head[:])
	if err != nil {
		return s.strange(err)
	}
	c := s.Waiting(h.op)
	switch {
	case c == nil:
		return s.strange(fmt.Errorf("an answer to request %d, which nobody waits for", h.op))
	case h.kind != c.Of.kind && h.kind != typeError:
		return s.strange(fmt.Errorf("an answer of type %d to a request of type %d", h.kind, c.Of.kind))
	}
	payload := make([]byte, h.size)
	if _, err := io.ReadFull(s.In, payload); err != nil {
		return err
	}
	over, err := true, error(nil)
	switch h.kind {
	case typeError:
		return s.refuse(c, payload)
	case typeIO:
		over, err = s.place(c, payload)
	case typeAllocated:
		err = s.bitmap(c, payload)
	}
	if err != nil {
		return err
	}
	c.Of.reply = payload
	if over {
		s.Answer(c, nil)
	}
	return nil
}

// strange says that the host does not keep to the protocol.
func (s *session) strange(err error) error {
	return &Error{Host: s.host, Stage: "session", Kind: ErrProtocol, Err: err}
}

// refuse reads an error message, which is about c and ends the session (F-902-7).
func (s *session) refuse(c *call, payload []byte) error {
	r, err := parseRefusal(payload)
	if err != nil {
		return s.strange(err)
	}
	text := make([]byte, r.text)
	if _, err := io.ReadFull(s.In, text); err != nil {
		return err
	}
	e := &Error{Host: s.host, Stage: c.Of.stage(), Code: r.code, Text: printable(string(text), "")}
	e.Kind = kindOf(r.code, e.Text)
	return s.condemn(c, e)
}

// condemn ends the session with refusal as the answer to c, and returns what the other
// requests are told: they may have been in order, and why the session ended is all that a
// person learns where one of them is the last to be tried.
func (s *session) condemn(c *call, refusal *Error) error {
	over := &Error{Host: s.host, Stage: "session", Kind: ErrOver, Err: errors.New("the host refused another request: " + refusal.what())}
	s.Condemn(c, refusal, over)
	return over
}

// stage words what a asks for.
func (a *ask) stage() string {
	switch a.kind {
	case typeOpenSession:
		return "open a session"
	case typeOpenFile:
		return "open the file"
	case typeIO:
		return fmt.Sprintf("read %d bytes at %d", len(a.buf), a.off)
	case typeAllocated:
		return "list the allocated blocks"
	}
	return fmt.Sprintf("request of type %d", a.kind)
}

// unanswered tells what a status, or nonsense, in an ordinary reply means for c.
func (s *session) unanswered(c *call, err error) error {
	var status *statusError
	if !errors.As(err, &status) {
		return s.strange(err)
	}
	e := &Error{Host: s.host, Stage: c.Of.stage(), Code: status.status, Kind: kindOf(status.status, "")}
	return s.condemn(c, e)
}

// place reads one fragment of a read to where it belongs.
func (s *session) place(c *call, payload []byte) (whole bool, err error) {
	o := &c.Of
	f, err := parseFragment(payload, o.off, uint32(len(o.buf)))
	if err != nil {
		return false, s.unanswered(c, err)
	}
	if f.code != raw && f.code != s.code {
		return false, s.strange(fmt.Errorf("a fragment coded as %d", f.code))
	}
	if err := o.cover.Add(f.at, f.n); err != nil {
		return false, s.strange(err)
	}
	dst := o.buf[f.at : f.at+f.n]
	if f.code == raw {
		if _, err := io.ReadFull(s.In, dst); err != nil {
			return false, err
		}
		return o.cover.Whole(uint32(len(o.buf))), nil
	}
	wire, release := scratch(int(f.wire))
	defer release()
	if _, err := io.ReadFull(s.In, wire); err != nil {
		return false, err
	}
	if err := decode(dst, wire, f.code); err != nil {
		return false, s.strange(err)
	}
	return o.cover.Whole(uint32(len(o.buf))), nil
}

func (s *session) bitmap(c *call, payload []byte) error {
	o := &c.Of
	n, err := parseAllocated(payload, o.chunks)
	if err != nil {
		return s.unanswered(c, err)
	}
	o.extra = make([]byte, n)
	_, err = io.ReadFull(s.In, o.extra)
	return err
}

// open opens a session with that buffer, and the file at path.
func (s *session) open(ctx context.Context, buffer, count uint32, path string) error {
	for _, step := range []struct {
		kind    uint32
		payload []byte
	}{
		{typeOpenSession, openSessionPayload(buffer, count)},
		{typeSockOpts, make([]byte, payloadSize[typeSockOpts])},
		{typeResPool, resPoolPayload()},
	} {
		if _, err := s.exchange(ctx, ask{kind: step.kind}, step.payload, ""); err != nil {
			return err
		}
	}
	o, err := s.exchange(ctx, ask{kind: typeOpenFile}, openFilePayload(path), path)
	if err != nil {
		return err
	}
	f, err := parseOpenFile(o.reply)
	if err != nil {
		e := &Error{Host: s.host, Stage: o.stage(), Kind: ErrRefused, Err: err}
		if status := (*statusError)(nil); errors.As(err, &status) {
			e.Code, e.Kind, e.Err = status.status, kindOf(status.status, ""), nil
		}
		return e
	}
	s.file = f
	return nil
}

// Close closes file and session at the host, as far as the host still listens: one
// that is abandoned keeps its lock and memory there for half an hour (F-902-18). It
// returns when nothing of the session is left.
func (s *session) Close() {
	s.once.Do(func() {
		if s.farewell() {
			_ = s.conn.Close()
		} else {
			s.lastWords()
		}
		<-s.Ended()
	})
}

// farewell ends a session that is alive in good order. It reports whether it could.
func (s *session) farewell() bool {
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	if !s.Quiesce(ctx) {
		return false
	}
	if s.file.handle != 0 {
		if _, err := s.exchange(ctx, ask{kind: typeCloseFile}, handlePayload(s.file.handle), ""); err != nil {
			return false
		}
	}
	if _, err := s.exchange(ctx, ask{kind: typeCloseSession}, handlePayload(0), ""); err != nil {
		return false
	}
	_ = s.Say(lastWait, complete) // the host may have hung up
	select {
	case <-s.Ended():
	case <-time.After(lastWait):
	}
	return true
}

// complete is what is said last; it has no number.
func complete(uint32) []byte { return classic(classicComplete) }

// lastWords sends what closes a session whose answers cannot be followed any more,
// gives the host a moment to act on it, and hangs up.
func (s *session) lastWords() {
	s.Fail(&Error{Host: s.host, Stage: "session", Kind: ErrOver})
	<-s.Ended()
	defer s.conn.Close()
	words := []func(uint32) []byte{
		func(id uint32) []byte { return request(typeCloseSession, id, handlePayload(0), "") }, complete,
	}
	if s.file.handle != 0 {
		words = slices.Insert(words, 0, func(id uint32) []byte { return request(typeCloseFile, id, handlePayload(s.file.handle), "") })
	}
	for _, w := range words {
		if err := s.Say(lastWait, w); err != nil {
			return
		}
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(lastWait))
	_, _ = io.Copy(io.Discard, s.conn)
}
