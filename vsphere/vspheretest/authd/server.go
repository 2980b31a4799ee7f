package authd

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Disk is a virtual disk that is open.
type Disk interface {
	io.ReaderAt

	// Size is its capacity in bytes.
	Size() int64

	// Allocated returns whether the disk holds data in [from, to).
	Allocated(from, to int64) (bool, error)

	// Asked is told of each read before it is answered.
	Asked(off, n int64)

	// Sending is told of each fragment, the bytes [from, to) of the disk, before it
	// goes out, and says what happens to it.
	Sending(ctx context.Context, from, to int64) Fate

	// Sent is told of each fragment that has gone out as so many bytes.
	Sent(from, to int64, wire int)

	// Close is called once.
	Close()
}

// Fate is what happens to a fragment.
type Fate struct {
	Cut   bool  // the connection is reset in the middle of it
	Stall bool  // nothing more comes after its first half
	Flip  int64 // the byte of the disk that is changed; -1 for none
}

// Refusal is a host's error.
type Refusal struct {
	Code uint64
	Text string
}

// Grant is what a ticket allows.
type Grant interface {
	// Open opens a file of the ticket's VM, to read.
	Open(path string) (Disk, *Refusal)

	// Strike reports whether the fault with that name is due for whoever holds the
	// ticket, and uses it up.
	Strike(name string) bool
}

// Config is what a [Server] asks its lab.
type Config struct {
	// Certificate is the host's, for a connection that begins.
	Certificate func() *tls.Certificate
	// Other is one that is not the host's.
	Other func() *tls.Certificate
	// Redeem returns what a ticket allows, and uses it up; nil is a ticket that is
	// used up, expired or unknown.
	Redeem func(ticket string) Grant
	// Strike is as of a [Grant], before there is a ticket.
	Strike func(name string) bool
	// Violation is told what a client has tried that it must not.
	Violation func(what string)

	Greeting string        // its first line, without the end; "" is an 8.0 host's
	Version  uint32        // of NFC; 0 means 11
	Buffer   int64         // the largest of a session in bytes; 0 is 2 MiB, negative leaves it to the host alone
	Memory   int64         // of all buffers, in bytes; 0 is no limit
	Sessions int           // AIO sessions at a time; 0 is no limit
	Latency  time.Duration // of each answer
	// Pace waits until n bytes may go out over a connection of its own. Nil does not.
	Pace func() (chunk int, wait func(ctx context.Context, n int) error)
}

// Server serves one host's port 902.
type Server struct {
	cfg Config

	ctx    context.Context
	cancel context.CancelFunc
	conns  sync.WaitGroup

	mu      sync.Mutex
	state   State
	changed chan struct{} // closed, and made anew, when a connection has ended
	used    int64         // of Memory
}

// State is what a host has open, and how connections ended.
type State struct {
	Connections int // open
	Sessions    int // AIO sessions that are open
	Files       int // that are open
	Abandoned   int // connections that ended with a file open
	Closed      int // files that their client closed
	Accepted    int // connections, in all
}

// New returns a server that does not listen yet.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, changed: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Serve takes connections from ln until that is closed.
func (s *Server) Serve(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		s.count(func(st *State) { st.Connections++; st.Accepted++ })
		s.conns.Go(func() {
			defer s.hungUp()
			s.serve(c)
		})
	}
}

// Close ends every connection, and returns when none is left. The listener is to be
// closed first.
func (s *Server) Close() {
	s.cancel()
	s.conns.Wait()
}

// hungUp counts a connection that has ended.
func (s *Server) hungUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Connections--
	close(s.changed)
	s.changed = make(chan struct{})
}

// Drained waits until no connection is open.
func (s *Server) Drained(ctx context.Context) error {
	for {
		s.mu.Lock()
		n, changed := s.state.Connections, s.changed
		s.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%d connections are open: %w", n, ctx.Err())
		}
	}
}

// State tells what is open.
func (s *Server) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

func (s *Server) count(f func(*State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.state)
}

// take takes n bytes of the host's memory.
func (s *Server) take(n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.Memory > 0 && s.used+n > s.cfg.Memory || s.cfg.Sessions > 0 && s.state.Sessions >= s.cfg.Sessions {
		return false
	}
	s.used += n
	s.state.Sessions++
	return true
}

func (s *Server) give(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
	s.state.Sessions--
}

// idle is how long a client may take for its part of the way to a session.
const idle = time.Minute

// serve is the life of a connection.
func (s *Server) serve(tcp net.Conn) {
	defer tcp.Close()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = tcp.Close() })()
	_ = tcp.SetDeadline(time.Now().Add(idle))
	if !s.greet(ctx, tcp) {
		return
	}
	first := tls.Server(&records{Conn: tcp}, &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*s.cfg.Certificate()},
	})
	if err := first.HandshakeContext(ctx); err != nil {
		return
	}
	d := &dialogue{srv: s, conn: first}
	d.shown = s.cfg.Certificate().Leaf.Raw
	if !d.run() {
		return
	}
	// The first session stays where it is: the second begins on the same connection.
	conn := tcp
	if !d.clear {
		cert := s.cfg.Certificate()
		if d.grant.Strike("other-identity") {
			cert = s.cfg.Other()
		}
		second := tls.Server(tcp, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*cert}})
		if err := second.HandshakeContext(ctx); err != nil {
			return
		}
		conn = second
	}
	c := &classic{srv: s, conn: conn, grant: d.grant, tag: d.tag, tagged: d.tagged, clear: d.clear}
	if !c.run() {
		return
	}
	_ = tcp.SetDeadline(time.Time{})
	s.session(ctx, cancel, tcp, conn, io.MultiReader(c.rest(), conn), d.grant)
}

// records is a connection that is read one TLS record at a time: what follows the
// first session belongs to the second.
type records struct {
	net.Conn
	head []byte // of the record, what was not handed out
	left int    // of its body
}

func (r *records) Read(p []byte) (int, error) {
	if len(r.head) == 0 && r.left == 0 {
		head := make([]byte, 5)
		if _, err := io.ReadFull(r.Conn, head); err != nil {
			return 0, err
		}
		r.head, r.left = head, int(head[3])<<8|int(head[4])
	}
	if len(r.head) > 0 {
		n := copy(p, r.head)
		r.head = r.head[n:]
		return n, nil
	}
	n, err := r.Conn.Read(p[:min(len(p), r.left)])
	r.left -= n
	return n, err
}

// reset ends a connection without a goodbye.
func reset(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0)
	}
	_ = c.Close()
}
