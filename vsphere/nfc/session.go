package nfc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/panics"
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
	conn  net.Conn
	in    *bufio.Reader // over the session's Read
	host  string
	stall time.Duration
	file  file
	code  Compression
	slots chan struct{} // one for each read in flight

	free  func() // gives back its place under the limits
	users int    // guarded by Reader.mu

	wmu  sync.Mutex // one request at a time, numbered as they go out
	next uint32

	mu   sync.Mutex
	ops  map[uint32]*op
	err  error         // why it has ended
	dead chan struct{} // closed once err is set

	ended chan struct{} // closed when nobody reads any more
	once  sync.Once     // closes
}

// op is a request that waits for its answer.
type op struct {
	kind   uint32
	id     uint32
	off    int64          // read: where
	buf    []byte         // read: what for; the session's until done
	cover  transfer.Cover // read: what has come
	chunks int            // allocated: how many
	extra  []byte         // allocated: the bitmap
	reply  []byte         // payload of the last reply
	done   chan struct{}
	err    error // once done
}

// newSession goes on with conn, whose handshake is over. in reads from it, and has
// nothing buffered that is not the session's.
func newSession(conn net.Conn, host string, o Options) *session {
	s := &session{
		conn: conn, host: host, stall: o.Stall, code: o.Compression, free: func() {},
		slots: make(chan struct{}, o.Depth), ops: make(map[uint32]*op),
		dead: make(chan struct{}), ended: make(chan struct{}),
	}
	s.in = bufio.NewReaderSize(s, 128<<10)
	return s
}

// Read reads from the connection. While something is asked for, the host has
// s.stall for the next byte.
func (s *session) Read(p []byte) (int, error) {
	s.mu.Lock()
	s.arm()
	s.mu.Unlock()
	return s.conn.Read(p)
}

// arm sets the time for the next byte. s.mu is held.
func (s *session) arm() {
	var until time.Time
	switch {
	case s.err != nil:
		until = time.Unix(1, 0)
	case len(s.ops) > 0:
		until = time.Now().Add(s.stall)
	}
	_ = s.conn.SetReadDeadline(until) // of a connection that is closed: the read tells
}

// run takes answers apart until the session ends.
func (s *session) run() {
	defer close(s.ended)
	s.fail(panics.Catch(func() error {
		for {
			if err := s.take(); err != nil {
				return err
			}
		}
	}))
}

// fail ends the session, and with it what is in flight.
func (s *session) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = broken(s.host, "session", err)
	close(s.dead)
	for id, o := range s.ops {
		delete(s.ops, id)
		s.finish(o, s.err)
	}
	s.arm() // wakes who reads
}

// finish tells who waits for o. s.mu is held, and o not among s.ops any more.
func (s *session) finish(o *op, err error) {
	if o.err == nil {
		o.err = err
	}
	if o.kind == typeIO {
		<-s.slots
	}
	close(o.done)
}

// alive says whether the session can be asked.
func (s *session) alive() bool {
	select {
	case <-s.dead:
		return false
	default:
		return true
	}
}

// submit sends a request. Its answer comes by o.done.
func (s *session) submit(o *op, payload []byte, extra string) error {
	o.done = make(chan struct{})
	s.wmu.Lock()
	defer s.wmu.Unlock()
	s.mu.Lock()
	if s.err != nil {
		err := s.err
		s.mu.Unlock()
		return err
	}
	for s.ops[s.next] != nil { // after 2³² requests
		s.next++
	}
	o.id = s.next
	s.next++
	s.ops[o.id] = o
	if len(s.ops) == 1 { // what is asked for later does not give the earlier more time
		s.arm()
	}
	s.mu.Unlock()
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.stall))
	if _, err := s.conn.Write(request(o.kind, o.id, payload, extra)); err != nil {
		s.fail(broken(s.host, "request", err))
	}
	return nil
}

// exchange sends a request and waits for its answer.
func (s *session) exchange(ctx context.Context, o *op, payload []byte, extra string) error {
	if err := s.submit(o, payload, extra); err != nil {
		return err
	}
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// read asks for len(buf) bytes from off on, of whole sectors and at most readSize.
// It waits for its turn if wait is true; otherwise o is nil when it is not its turn.
func (s *session) read(ctx context.Context, off int64, buf []byte, wait bool) (o *op, err error) {
	if wait {
		select {
		case s.slots <- struct{}{}:
		case <-s.dead:
			return nil, s.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	} else {
		select {
		case s.slots <- struct{}{}:
		default:
			return nil, nil
		}
	}
	o = &op{kind: typeIO, off: off, buf: buf}
	if err := s.submit(o, readPayload(s.file.handle, s.code, off, uint32(len(buf))), ""); err != nil {
		<-s.slots
		return nil, err
	}
	return o, nil
}

// take reads one message and gives it to whom it answers.
func (s *session) take() error {
	var head [headerSize]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		return err
	}
	h, err := parseHeader(head[:])
	if err != nil {
		return s.strange(err)
	}
	s.mu.Lock()
	o := s.ops[h.op]
	s.mu.Unlock()
	switch {
	case o == nil:
		return s.strange(fmt.Errorf("an answer to request %d, which nobody waits for", h.op))
	case h.kind != o.kind && h.kind != typeError:
		return s.strange(fmt.Errorf("an answer of type %d to a request of type %d", h.kind, o.kind))
	}
	payload := make([]byte, h.size)
	if _, err := io.ReadFull(s.in, payload); err != nil {
		return err
	}
	over, err := true, error(nil)
	switch h.kind {
	case typeError:
		return s.refuse(o, payload)
	case typeIO:
		over, err = s.place(o, payload)
	case typeAllocated:
		err = s.bitmap(o, payload)
	}
	if err != nil {
		return err
	}
	o.reply = payload
	if over {
		s.mu.Lock()
		if s.ops[o.id] == o { // else it has failed meanwhile
			delete(s.ops, o.id)
			s.finish(o, nil)
		}
		s.mu.Unlock()
	}
	return nil
}

// strange says that the host does not keep to the protocol.
func (s *session) strange(err error) error {
	return &Error{Host: s.host, Stage: "session", Kind: ErrProtocol, Err: err}
}

// refuse reads an error message, which is about o and ends the session (F-902-7).
func (s *session) refuse(o *op, payload []byte) error {
	r, err := parseRefusal(payload)
	if err != nil {
		return s.strange(err)
	}
	text := make([]byte, r.text)
	if _, err := io.ReadFull(s.in, text); err != nil {
		return err
	}
	e := &Error{Host: s.host, Stage: stageOf(o), Code: r.code, Text: printable(string(text), "")}
	e.Kind = kindOf(r.code, e.Text)
	return s.condemn(o, e)
}

// condemn makes refusal the answer to o, and returns what the other requests are told:
// they may have been in order, and why the session ended is all that a person learns
// where one of them is the last to be tried.
func (s *session) condemn(o *op, refusal *Error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ops[o.id] == o {
		delete(s.ops, o.id)
		s.finish(o, refusal)
	}
	return &Error{Host: s.host, Stage: "session", Kind: ErrOver, Err: errors.New("the host refused another request: " + refusal.what())}
}

// stageOf words what o asks for.
func stageOf(o *op) string {
	switch o.kind {
	case typeOpenSession:
		return "open a session"
	case typeOpenFile:
		return "open the file"
	case typeIO:
		return fmt.Sprintf("read %d bytes at %d", len(o.buf), o.off)
	case typeAllocated:
		return "list the allocated blocks"
	}
	return fmt.Sprintf("request of type %d", o.kind)
}

// unanswered tells what a status, or nonsense, in an ordinary reply means for o.
func (s *session) unanswered(o *op, err error) error {
	var status *statusError
	if !errors.As(err, &status) {
		return s.strange(err)
	}
	e := &Error{Host: s.host, Stage: stageOf(o), Code: status.status, Kind: kindOf(status.status, "")}
	return s.condemn(o, e)
}

// place reads one fragment of a read to where it belongs.
func (s *session) place(o *op, payload []byte) (whole bool, err error) {
	f, err := parseFragment(payload, o.off, uint32(len(o.buf)))
	if err != nil {
		return false, s.unanswered(o, err)
	}
	if f.code != raw && f.code != s.code {
		return false, s.strange(fmt.Errorf("a fragment coded as %d", f.code))
	}
	if err := o.cover.Add(f.at, f.n); err != nil {
		return false, s.strange(err)
	}
	dst := o.buf[f.at : f.at+f.n]
	if f.code == raw {
		if _, err := io.ReadFull(s.in, dst); err != nil {
			return false, err
		}
		return o.cover.Whole(uint32(len(o.buf))), nil
	}
	wire, release := scratch(int(f.wire))
	defer release()
	if _, err := io.ReadFull(s.in, wire); err != nil {
		return false, err
	}
	if err := decode(dst, wire, f.code); err != nil {
		return false, s.strange(err)
	}
	return o.cover.Whole(uint32(len(o.buf))), nil
}

func (s *session) bitmap(o *op, payload []byte) error {
	n, err := parseAllocated(payload, o.chunks)
	if err != nil {
		return s.unanswered(o, err)
	}
	o.extra = make([]byte, n)
	_, err = io.ReadFull(s.in, o.extra)
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
		if err := s.exchange(ctx, &op{kind: step.kind}, step.payload, ""); err != nil {
			return err
		}
	}
	o := &op{kind: typeOpenFile}
	if err := s.exchange(ctx, o, openFilePayload(path), path); err != nil {
		return err
	}
	f, err := parseOpenFile(o.reply)
	if err != nil {
		e := &Error{Host: s.host, Stage: stageOf(o), Kind: ErrRefused, Err: err}
		if status := (*statusError)(nil); errors.As(err, &status) {
			e.Code, e.Kind, e.Err = status.status, kindOf(status.status, ""), nil
		}
		return e
	}
	s.file = f
	return nil
}

// close closes file and session at the host, as far as the host still listens: one
// that is abandoned keeps its lock and memory there for half an hour (F-902-18). It
// returns when nothing of the session is left.
func (s *session) close() {
	s.once.Do(func() {
		defer s.free()
		if s.farewell() {
			_ = s.conn.Close()
		} else {
			s.lastWords()
		}
		<-s.ended
	})
}

// farewell ends a session that is alive in good order. It reports whether it could.
func (s *session) farewell() bool {
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	for range cap(s.slots) { // when all are taken, nothing is in flight
		select {
		case s.slots <- struct{}{}:
		case <-s.dead:
			return false
		case <-ctx.Done():
			return false
		}
	}
	if s.file.handle != 0 {
		if err := s.exchange(ctx, &op{kind: typeCloseFile}, handlePayload(s.file.handle), ""); err != nil {
			return false
		}
	}
	if err := s.exchange(ctx, &op{kind: typeCloseSession}, handlePayload(0), ""); err != nil {
		return false
	}
	s.wmu.Lock()
	defer s.wmu.Unlock()
	_, _ = s.conn.Write(classic(classicComplete)) // the host may have hung up
	select {
	case <-s.ended:
	case <-time.After(lastWait):
	}
	return true
}

// lastWords sends what closes a session whose answers cannot be followed any more,
// gives the host a moment to act on it, and hangs up.
func (s *session) lastWords() {
	s.fail(&Error{Host: s.host, Stage: "session", Kind: ErrOver})
	<-s.ended
	defer s.conn.Close()
	s.wmu.Lock()
	defer s.wmu.Unlock()
	_ = s.conn.SetWriteDeadline(time.Now().Add(lastWait))
	words := [][]byte{request(typeCloseSession, s.next+1, handlePayload(0), ""), classic(classicComplete)}
	if s.file.handle != 0 {
		words = slices.Insert(words, 0, request(typeCloseFile, s.next, handlePayload(s.file.handle), ""))
	}
	for _, w := range words {
		if _, err := s.conn.Write(w); err != nil {
			return
		}
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(lastWait))
	_, _ = io.Copy(io.Discard, s.conn)
}
