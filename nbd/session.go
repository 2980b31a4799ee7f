package nbd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/panics"
	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// goodbye is how long the server has to take the request that ends a connection.
const goodbye = time.Second

// session is one connection to an export, with several requests in flight. One goroutine
// takes the answers apart.
type session struct {
	agreed
	conn  net.Conn
	in    *bufio.Reader // over the session's Read
	name  string
	stall time.Duration
	slots chan struct{} // one for each request in flight

	users int // guarded by Reader.mu

	wmu  sync.Mutex // one request at a time, numbered as they go out
	next uint64

	mu   sync.Mutex
	ops  map[uint64]*op
	err  error         // why it has ended
	dead chan struct{} // closed once err is set

	ended chan struct{} // closed when nobody reads any more
	once  sync.Once     // closes
}

// op is a request that waits for its answer.
type op struct {
	command uint16
	cookie  uint64
	off     int64
	length  int64          // block status: of the bytes asked about
	buf     []byte         // read: what for; the session's until done
	cover   transfer.Cover // read: what has come
	extents []extent       // block status: the answer
	refused error          // what an error chunk has said
	chunks  int            // that have come

	done chan struct{}
	err  error // once done
}

// Done is closed when the answer has come, or will not.
func (o *op) Done() <-chan struct{} { return o.done }

// Err says why it has not come.
func (o *op) Err() error { return o.err }

// stage words what o asks for.
func (o *op) stage() string {
	if o.command == cmdBlockStatus {
		return fmt.Sprintf("ask which areas of %d bytes at %d hold data", o.length, o.off)
	}
	return fmt.Sprintf("read %d bytes at %d", len(o.buf), o.off)
}

// newSession goes on with conn, whose handshake is over.
func newSession(conn net.Conn, a agreed, o Options) *session {
	s := &session{
		agreed: a, conn: conn, name: o.Name, stall: o.Stall, slots: make(chan struct{}, o.Depth),
		ops: make(map[uint64]*op), dead: make(chan struct{}), ended: make(chan struct{}),
	}
	s.in = bufio.NewReaderSize(s, 128<<10)
	return s
}

// Read reads from the connection. While something is asked for, the server has s.stall
// for the next byte.
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
	s.err = broken(s.name, "connection", err)
	close(s.dead)
	for cookie, o := range s.ops {
		delete(s.ops, cookie)
		s.finish(o, s.err)
	}
	s.arm() // wakes who reads
}

// finish tells who waits for o. s.mu is held, and o not among s.ops any more.
func (s *session) finish(o *op, err error) {
	o.err = err
	<-s.slots
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

// turn takes a slot. It waits for one if wait is true; otherwise ok is false where none
// is free.
func (s *session) turn(ctx context.Context, wait bool) (ok bool, err error) {
	if !wait {
		select {
		case s.slots <- struct{}{}:
			return true, nil
		default:
			return false, nil
		}
	}
	select {
	case s.slots <- struct{}{}:
		return true, nil
	case <-s.dead:
		return false, s.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// submit sends the request of o, which has a slot. It is done by take or fail.
func (s *session) submit(o *op, n uint32) error {
	o.done = make(chan struct{})
	s.wmu.Lock()
	defer s.wmu.Unlock()
	s.mu.Lock()
	if s.err != nil {
		err := s.err
		s.mu.Unlock()
		<-s.slots
		return err
	}
	o.cookie = s.next
	s.next++
	s.ops[o.cookie] = o
	if len(s.ops) == 1 { // what is asked for later does not give the earlier more time
		s.arm()
	}
	s.mu.Unlock()
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.stall))
	if _, err := s.conn.Write(request(o.command, o.cookie, o.off, n)); err != nil {
		s.fail(err)
	}
	return nil
}

// read asks for len(buf) bytes from off on. It waits for its turn if wait is true;
// otherwise o is nil when it is not its turn.
func (s *session) read(ctx context.Context, off int64, buf []byte, wait bool) (*op, error) {
	if ok, err := s.turn(ctx, wait); !ok {
		return nil, err
	}
	o := &op{command: cmdRead, off: off, buf: buf}
	if err := s.submit(o, uint32(len(buf))); err != nil {
		return nil, err
	}
	return o, nil
}

// status asks which of n bytes from off on hold data; the answer may be about fewer.
func (s *session) status(ctx context.Context, off, n int64) ([]extent, error) {
	if _, err := s.turn(ctx, true); err != nil {
		return nil, err
	}
	o := &op{command: cmdBlockStatus, off: off, length: n}
	if err := s.submit(o, uint32(n)); err != nil {
		return nil, err
	}
	select {
	case <-o.done:
		return o.extents, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// take reads one reply, or one chunk of one, and gives it to whom it answers.
func (s *session) take() error {
	h, err := s.header()
	if err != nil {
		return err
	}
	s.mu.Lock()
	o := s.ops[h.cookie]
	s.mu.Unlock()
	if o == nil {
		return s.strange(fmt.Errorf("a reply to request %d, which nobody waits for", h.cookie))
	}
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
	return s.over(o)
}

// header reads the head of the next reply.
func (s *session) header() (header, error) {
	var p [chunkSize]byte
	if _, err := io.ReadFull(s.in, p[:simpleSize]); err != nil {
		return header{}, err
	}
	switch magic := be.Uint32(p[:]); {
	case magic == magicSimple:
		return parseSimple(p[:]), nil
	case magic != magicStructured || !s.structured:
		return header{}, s.strange(fmt.Errorf("a reply that begins with %#x", magic))
	}
	if _, err := io.ReadFull(s.in, p[simpleSize:]); err != nil {
		return header{}, err
	}
	h, err := parseChunk(p[:])
	if err != nil {
		return h, s.strange(err)
	}
	return h, nil
}

// simple reads a simple reply to o: what was asked for, or an error.
func (s *session) simple(o *op, h header) error {
	switch {
	case o.command == cmdRead && s.structured && h.code == 0:
		return s.strange(errors.New("a read answered by a simple reply, although structured ones are agreed"))
	case h.code != 0:
		o.refused = s.refusal(o, h.code, "")
		return nil
	case o.command != cmdRead:
		return s.strange(errors.New("a status answered by a simple reply"))
	}
	if _, err := io.ReadFull(s.in, o.buf); err != nil {
		return err
	}
	return o.cover.Add(0, uint32(len(o.buf)))
}

// chunk reads the payload of one chunk.
func (s *session) chunk(o *op, h header) error {
	reads := h.kind == chunkData || h.kind == chunkHole
	switch {
	case reads && o.command != cmdRead, h.kind == chunkBlockStatus && (o.command != cmdBlockStatus || o.extents != nil):
		return s.strange(fmt.Errorf("a chunk of type %d in the answer to a request to %s", h.kind, o.stage()))
	case h.kind == chunkData:
		return s.data(o, h)
	}
	payload := make([]byte, h.size)
	if _, err := io.ReadFull(s.in, payload); err != nil {
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
func (s *session) data(o *op, h header) error {
	var at [8]byte
	if _, err := io.ReadFull(s.in, at[:]); err != nil {
		return err
	}
	dst, err := s.space(o, be.Uint64(at[:]), h.size-8)
	if err != nil {
		return err
	}
	_, err = io.ReadFull(s.in, dst)
	return err
}

// space is where n bytes from at on of the export belong in what o asks for.
func (s *session) space(o *op, at uint64, n uint32) ([]byte, error) {
	i, err := place(o.off, len(o.buf), at, n)
	if err == nil {
		err = o.cover.Add(uint32(i), n)
	}
	if err != nil {
		return nil, s.strange(err)
	}
	return o.buf[i : i+int(n)], nil
}

// over ends o, after the last chunk.
func (s *session) over(o *op) error {
	err := o.refused
	switch {
	case err != nil:
	case o.command == cmdRead && !o.cover.Whole(uint32(len(o.buf))):
		return s.strange(fmt.Errorf("the answer to a request to %s ends before all of it has come", o.stage()))
	case o.command == cmdBlockStatus && o.extents == nil:
		return s.strange(errors.New("a status without an answer"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ops[o.cookie] == o { // else it has failed meanwhile
		delete(s.ops, o.cookie)
		s.finish(o, err)
	}
	return nil
}

// refusal is the server's error to o.
func (s *session) refusal(o *op, code uint32, text string) error {
	return &Error{Name: s.name, Stage: o.stage(), Kind: ErrRead, Code: code, Text: text}
}

func (s *session) strange(err error) error {
	return &Error{Name: s.name, Stage: "connection", Kind: ErrProtocol, Err: err}
}

// close ends the connection, and returns when nothing of the session is left.
func (s *session) close() {
	s.once.Do(func() {
		s.fail(errClosed)
		s.wmu.Lock()
		_ = s.conn.SetWriteDeadline(time.Now().Add(goodbye))
		_, _ = s.conn.Write(request(cmdDisconnect, 0, 0, 0)) // the server may have hung up
		s.wmu.Unlock()
		_ = s.conn.Close()
		<-s.ended
	})
}
