package nbd

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/hyper2kvm/hyper2kvm/internal/panics"
)

// Served is an export that [Serve] offers.
type Served struct {
	Name string
	Size int64 // bytes
	// Read fills p with the bytes from off on, which lie within Size. Whatever fails is
	// EIO for the client. It is called from several goroutines, and returns soon after
	// ctx ends.
	Read func(ctx context.Context, p []byte, off int64) error
}

// Bounds of what clients may ask of a server.
const (
	maxClients = 16
	maxAhead   = 16       // requests of a client that are under way
	maxAsked   = 32 << 20 // bytes of one request: what a client may assume of a server that it has not asked
	maxHeld    = 64 << 20 // bytes of all requests that are under way
	maxWords   = 64       // options of one client
	shakesIn   = time.Minute
)

// Serve offers exports, read-only, to who connects to l, until ctx ends. Then it closes l,
// returns nil, and leaves nothing behind. It speaks the fixed newstyle protocol with GO,
// INFO, LIST and EXPORT_NAME, and answers each read by a simple reply.
//
// There is no authentication: l is a unix socket in a directory that nobody else can
// enter.
func Serve(ctx context.Context, l net.Listener, exports ...Served) error {
	var clients sync.WaitGroup
	defer clients.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	places := semaphore.NewWeighted(maxClients)
	held := semaphore.NewWeighted(maxHeld)
	for {
		if places.Acquire(ctx, 1) != nil {
			return nil
		}
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close() // it came too late
			}
			return nil
		}
		if err != nil {
			return errors.Join(err, l.Close())
		}
		clients.Go(func() {
			defer places.Release(1)
			c := &client{conn: conn, in: bufio.NewReader(conn), exports: exports, held: held}
			// How it ends is the client's business: it has been told.
			_ = panics.Catch(func() error { return c.serve(ctx) })
		})
	}
}

// client is one connection to a server.
type client struct {
	conn    net.Conn
	in      io.Reader
	exports []Served
	held    *semaphore.Weighted

	out sync.Mutex // one reply at a time
}

// serve speaks with the client until it leaves, breaks the rules, or ctx ends.
func (c *client) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = c.conn.Close() })()
	defer c.conn.Close()
	if err := c.conn.SetDeadline(time.Now().Add(shakesIn)); err != nil {
		return err
	}
	export, err := c.greet()
	if err != nil || export == nil {
		return err
	}
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	return c.transmit(ctx, *export)
}

// transmit answers requests, several at a time.
func (c *client) transmit(ctx context.Context, e Served) error {
	var answers sync.WaitGroup
	defer answers.Wait()
	defer c.conn.Close() // nobody waits for the answers to one that has gone
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	places := semaphore.NewWeighted(maxAhead)
	for {
		var p [requestSize]byte
		if _, err := io.ReadFull(c.in, p[:]); err != nil {
			return err
		}
		r, err := parseRequest(p[:])
		if err != nil {
			return err
		}
		if r.command == cmdDisconnect {
			answers.Wait() // which the client may still want
			return nil
		}
		if r.command == cmdWrite { // what it would write comes first
			if _, err := io.CopyN(io.Discard, c.in, int64(r.length)); err != nil {
				return err
			}
		}
		if code := r.refusal(e.Size); code != 0 {
			if err := c.answer(r, code, nil); err != nil {
				return err
			}
			continue
		}
		if err := places.Acquire(ctx, 1); err != nil {
			return err
		}
		if err := c.held.Acquire(ctx, int64(r.length)); err != nil {
			return err
		}
		answers.Go(func() {
			defer places.Release(1)
			defer c.held.Release(int64(r.length))
			// A client that takes no answer is one that has gone, which the next request tells.
			_ = c.read(ctx, e, r)
		})
	}
}

// read answers a request to read.
func (c *client) read(ctx context.Context, e Served, r asked) error {
	p := make([]byte, r.length)
	if err := panics.Catch(func() error { return e.Read(ctx, p, int64(r.off)) }); err != nil {
		return c.answer(r, codeIO, nil)
	}
	return c.answer(r, 0, p)
}

// answer sends a reply, with what was read if there is no error.
func (c *client) answer(r asked, code uint32, p []byte) error {
	c.out.Lock()
	defer c.out.Unlock()
	head := simpleReply(code, r.cookie)
	_, err := (&net.Buffers{head, p}).WriteTo(c.conn)
	return err
}
