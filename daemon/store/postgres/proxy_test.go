package postgres_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// proxy stands between a store and its server, and cuts all connections at a message
// that a test says.
type proxy struct {
	dir  string
	real string // the server's socket
	l    net.Listener
	wg   sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool

	// countdown is how many messages of the client are still let through; the one
	// after them is the cut. Negative is no cut.
	countdown atomic.Int64
	// after has that message arrive at the server, and only the answer is lost.
	after atomic.Bool
	cuts  atomic.Int64 // that were made

	// silent has everything disappear on its way, as in a network that is cut.
	silent atomic.Bool
}

// newProxy stands before the server, until the test ends.
func newProxy(t *testing.T) *proxy {
	t.Helper()
	dir, err := os.MkdirTemp("", "px") // a path for a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	_, host, _ := strings.Cut(server.URL("postgres", "x"), "host=")
	p := &proxy{dir: dir, real: filepath.Join(host, ".s.PGSQL.5432"), conns: make(map[net.Conn]bool)}
	p.countdown.Store(-1)
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
		_ = p.l.Close()
		p.cut()
		p.wg.Wait()
		_ = os.RemoveAll(dir)
	})
	return p
}

// url is that of a database behind the proxy.
func (p *proxy) url(database string) string {
	return fmt.Sprintf("postgres://postgres@/%s?host=%s", database, p.dir)
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

func (p *proxy) keep(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
}

var (
	errCut       = errors.New("cut")
	errSwallowed = errors.New("swallowed")
)

func (p *proxy) serve(client net.Conn) {
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
			if p.silent.Load() {
				return errSwallowed
			}
			if lost.Load() {
				p.cuts.Add(1)
				p.cut()
				return errCut
			}
			return nil
		})
	})
	_ = pump(server, client, func([]byte) error {
		if p.silent.Load() {
			return errSwallowed
		}
		if p.countdown.Load() < 0 || p.countdown.Add(-1) >= 0 {
			return nil
		}
		if p.after.Load() {
			lost.Store(true)
			return nil
		}
		p.cuts.Add(1)
		p.cut()
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
