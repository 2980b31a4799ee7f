package pgtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy stands between stores and a server, and cuts all connections at a message that
// a test says, lets them hang, or slows the answers down.
type Proxy struct {
	dir  string
	real string // the server's socket
	l    net.Listener
	wg   sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool

	closed    chan struct{}
	closeOnce sync.Once

	// Countdown is how many messages of the client are still let through; the one
	// after them is the cut. Negative is no cut.
	Countdown atomic.Int64
	// After has that message arrive at the server, and only the answer is lost.
	After atomic.Bool
	// Cuts is how many were made.
	Cuts atomic.Int64

	// Statements is how many were sent to the server.
	Statements atomic.Int64

	// Delay is how many nanoseconds each answer of the server is on its way.
	Delay atomic.Int64

	// Silent has everything disappear on its way, as in a network that is cut.
	Silent atomic.Bool
}

// Proxy stands before the server, until the test ends.
func (s *Server) Proxy(t testing.TB) *Proxy {
	t.Helper()
	dir, err := os.MkdirTemp("", "px") // a path for a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{dir: dir, real: filepath.Join(s.dir, ".s.PGSQL.5432"), conns: make(map[net.Conn]bool), closed: make(chan struct{})}
	p.Countdown.Store(-1)
	if p.l, err = (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(dir, ".s.PGSQL.5432")); err != nil {
		t.Fatal(err)
	}
	p.wg.Go(func() {
		for {
			c, err := p.l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		p.Close()
		p.wg.Wait()
		_ = os.RemoveAll(dir)
	})
	return p
}

// URL is that of a database behind the proxy, for a user.
func (p *Proxy) URL(user, database string) string {
	return fmt.Sprintf("postgres://%s@/%s?host=%s", user, database, p.dir)
}

// Close ends all connections, and takes no more.
func (p *Proxy) Close() {
	_ = p.l.Close()
	p.closeOnce.Do(func() { close(p.closed) })
	p.Cut()
}

// Cut ends all connections. Others can be made.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

func (p *Proxy) keep(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
}

var (
	errCut       = errors.New("cut")
	errSwallowed = errors.New("swallowed")
)

func (p *Proxy) serve(client net.Conn) {
	server, err := net.Dial("unix", p.real)
	if err != nil {
		_ = client.Close()
		return
	}
	p.keep(client)
	p.keep(server)
	defer client.Close()
	defer server.Close()
	var lost atomic.Bool // answers are, from now on
	p.wg.Go(func() {
		defer client.Close()
		_ = pump(client, server, func([]byte) error {
			if p.Silent.Load() {
				return errSwallowed
			}
			if d := time.Duration(p.Delay.Load()); d > 0 {
				select {
				case <-time.After(d):
				case <-p.closed:
					return errCut
				}
			}
			if lost.Load() {
				p.Cuts.Add(1)
				p.Cut()
				return errCut
			}
			return nil
		})
	})
	var count counter
	_ = pump(server, client, func(b []byte) error {
		p.Statements.Add(count.in(b))
		if p.Silent.Load() {
			return errSwallowed
		}
		if p.Countdown.Load() < 0 || p.Countdown.Add(-1) >= 0 {
			return nil
		}
		if p.After.Load() {
			lost.Store(true)
			return nil
		}
		p.Cuts.Add(1)
		p.Cut()
		return errCut
	})
}

// pump copies until see has an error.
func pump(to, from net.Conn, see func([]byte) error) error {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return err
		}
		if err := see(b[:n]); errors.Is(err, errSwallowed) {
			continue
		} else if err != nil {
			return err
		}
		if _, err := to.Write(b[:n]); err != nil {
			return err
		}
	}
}

// counter counts the statements in what a client says: the messages by which one is
// executed. Each message is a letter, and its length without that; only the first,
// which opens the connection, has no letter.
type counter struct {
	opened bool
	rest   int    // bytes of the present message that are still to come
	head   []byte // the beginning of the next
}

// in is how many there are in a part of it.
func (c *counter) in(b []byte) (n int64) {
	for len(b) > 0 {
		if c.rest > 0 {
			skip := min(c.rest, len(b))
			c.rest, b = c.rest-skip, b[skip:]
			continue
		}
		c.head, b = append(c.head, b[0]), b[1:]
		letter := 0
		if c.opened {
			letter = 1
		}
		if len(c.head) < letter+4 {
			continue
		}
		if c.opened && (c.head[0] == 'Q' || c.head[0] == 'E') {
			n++
		}
		c.rest = int(binary.BigEndian.Uint32(c.head[letter:])) - 4
		c.head, c.opened = c.head[:0], true
	}
	return n
}
