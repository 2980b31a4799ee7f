package vspheretest

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// gate is a listener that can be away for a time and come back at its address.
type gate struct {
	address *net.TCPAddr

	mu       sync.Mutex
	ln       net.Listener // nil while connections are refused
	reserved io.Closer    // what keeps the port meanwhile; nil: nothing
	outages  []*Outage    // under way, in order of their beginning
	conns    map[*gatedConn]struct{}
	buried   map[*net.TCPConn]struct{} // open and silent
	graves   sync.WaitGroup            // who watch over them
	changed  chan struct{}             // closed, and made anew, when ln or closed changes
	closed   bool
}

func newGate(addr string) (*gate, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &gate{
		address: ln.Addr().(*net.TCPAddr), ln: ln,
		conns: make(map[*gatedConn]struct{}), buried: make(map[*net.TCPConn]struct{}), changed: make(chan struct{}),
	}, nil
}

// Addr is where clients connect, now or later.
func (g *gate) Addr() net.Addr { return g.address }

// Accept waits for the next connection, also across outages.
func (g *gate) Accept() (net.Conn, error) {
	for {
		g.mu.Lock()
		ln, changed, closed := g.ln, g.changed, g.closed
		g.mu.Unlock()
		if closed {
			return nil, net.ErrClosed
		}
		if ln == nil {
			<-changed
			continue
		}
		c, err := ln.Accept()
		if err == nil {
			if conn := g.admit(c.(*net.TCPConn)); conn != nil {
				return conn, nil
			}
			continue
		}
		g.mu.Lock()
		gone := g.ln == ln && !g.closed
		g.mu.Unlock()
		if gone { // nobody closed it
			return nil, err
		}
	}
}

// admit takes a connection in, unless the outage under way resets or ignores it.
func (g *gate) admit(c *net.TCPConn) net.Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	how := g.how()
	if how == Refuse || how == Reset || g.closed {
		reset(c)
		return nil
	}
	if how == Hang {
		g.bury(c)
		return nil
	}
	conn := &gatedConn{TCPConn: c, gate: g}
	g.conns[conn] = struct{}{}
	return conn
}

// Close stops listening for good, and ends silent connections.
func (g *gate) Close() error {
	defer g.graves.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	g.release()
	for c := range g.buried {
		reset(c)
	}
	var err error
	if g.ln != nil {
		err = g.ln.Close()
	}
	g.signal()
	return err
}

// signal wakes who waits for a change.
func (g *gate) signal() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// how is the outage under way, or "".
func (g *gate) how() Outage {
	if len(g.outages) == 0 {
		return ""
	}
	return *g.outages[len(g.outages)-1]
}

// away is how for who holds no lock.
func (g *gate) away() Outage {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.how()
}

// down begins an outage; up ends it.
func (g *gate) down(how Outage) (up func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	mine := &how
	g.outages = append(g.outages, mine)
	g.follow()
	for c := range g.conns {
		if how == Hang {
			c.silence()
		} else {
			reset(c.TCPConn)
		}
	}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		for i, o := range g.outages {
			if o == mine {
				g.outages = append(g.outages[:i:i], g.outages[i+1:]...)
				g.follow()
				return
			}
		}
	}
}

// follow listens, or does not, as the outage under way wants.
func (g *gate) follow() {
	refuse := g.how() == Refuse
	switch {
	case g.closed || refuse == (g.ln == nil):
	case refuse:
		g.ln.Close()
		g.ln, g.reserved = nil, reserve(g.address)
		g.signal()
	default:
		ln, err := net.Listen("tcp", g.address.String())
		g.release()
		if err != nil {
			panic(fmt.Sprintf("vspheretest: an outage cannot end: %v", err))
		}
		g.ln = ln
		g.signal()
	}
}

// release gives up what reserve holds.
func (g *gate) release() {
	if g.reserved != nil {
		_ = g.reserved.Close()
	}
	g.reserved = nil
}

// reset ends a connection without a goodbye.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// bury keeps a connection open and silent until its client, or the gate, closes
// it. The gate's lock is held.
func (g *gate) bury(c *net.TCPConn) {
	if g.closed {
		reset(c)
		return
	}
	g.buried[c] = struct{}{}
	g.graves.Go(func() {
		_ = c.SetDeadline(time.Time{})
		_, _ = io.Copy(io.Discard, c)
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.buried, c)
		_ = c.Close()
	})
}

// gatedConn is a connection that an outage can cut or silence. A silent one looks
// closed to the server, whose handlers end, while its client hears nothing.
type gatedConn struct {
	*net.TCPConn
	gate   *gate
	silent atomic.Bool
	once   sync.Once
	err    error // of Close
}

// silence stops all traffic and wakes who reads or writes.
func (c *gatedConn) silence() {
	c.silent.Store(true)
	_ = c.SetDeadline(time.Unix(1, 0))
}

func (c *gatedConn) Read(b []byte) (int, error) {
	if c.silent.Load() {
		return 0, net.ErrClosed
	}
	n, err := c.TCPConn.Read(b)
	if c.silent.Load() {
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *gatedConn) Write(b []byte) (int, error) {
	if c.silent.Load() {
		return 0, net.ErrClosed
	}
	return c.TCPConn.Write(b)
}

// Close closes the connection, unless it has been silenced.
func (c *gatedConn) Close() error {
	c.once.Do(func() {
		c.gate.mu.Lock()
		defer c.gate.mu.Unlock()
		delete(c.gate.conns, c)
		if c.silent.Load() {
			c.gate.bury(c.TCPConn)
			return
		}
		c.err = c.TCPConn.Close()
	})
	return c.err
}
