package inflight

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// ErrClosed is the error of a [Pool] that was closed.
var ErrClosed = errors.New("the connections are closed")

// extraPause is how long a Pool does with the connections that it has once a server has
// not allowed one more.
const extraPause = time.Minute

// Conn is a connection of a [Pool].
type Conn interface {
	comparable
	Alive() bool // it can be used
	Close()      // returns when nothing of it is left
}

// Options say how a [Pool] comes by its connections. Connect and Most are needed.
type Options[C Conn] struct {
	// Connect makes a connection.
	Connect func(ctx context.Context) (C, error)
	// Most is how many connections there may be, while there are that many.
	Most func(open int) int
	// Place asks for a place under limits for a further connection while there is one or
	// one is made; release gives it back. Nil always has one.
	Place func() (release func(), ok bool)
	// Admit judges a new connection; one that it refuses is closed, and the error is
	// that of who asked, even where there are others. Nil takes each.
	Admit func(C) error
	// Short is told the first time that a further connection was not to be had, and with
	// how many the Pool goes on. Nil is nobody. Neither it nor Most, Place or Admit may
	// use the Pool; each is called by one goroutine at a time.
	Short func(open int, err error)
}

// Pool is the connections to one server. Its methods may be called from any goroutine.
type Pool[C Conn] struct {
	o Options[C]

	mu      sync.Mutex
	members []*member[C]
	dialing int           // connections that are being made
	limit   int           // of both together, until then
	until   time.Time     // a server that allows no more now may do so later
	short   bool          // Short was told
	changed chan struct{} // closed, and made anew, when a connection was made or not
	closed  bool

	closing sync.WaitGroup // members
}

type member[C Conn] struct {
	conn  C
	users int
	free  func() // gives back its place
}

// NewPool returns a Pool that has connected to nobody yet.
func NewPool[C Conn](o Options[C]) *Pool[C] {
	if o.Place == nil {
		o.Place = func() (func(), bool) { return func() {}, true }
	}
	if o.Admit == nil {
		o.Admit = func(C) error { return nil }
	}
	if o.Short == nil {
		o.Short = func(int, error) {}
	}
	return &Pool[C]{o: o, changed: make(chan struct{})}
}

// Get returns the connection that is least in use, or a new one while there may be more.
// Call done once it is not used any more.
func (p *Pool[C]) Get(ctx context.Context) (c C, done func(), err error) {
	for {
		m, wait, err := p.pick(ctx)
		switch {
		case err != nil:
			return c, nil, err
		case m != nil:
			return m.conn, func() { p.done(m) }, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return c, nil, ctx.Err()
		}
	}
}

func (p *Pool[C]) done(m *member[C]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m.users--
}

// Open is how many connections there are that can be used.
func (p *Pool[C]) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bury()
	return len(p.members)
}

// pick is one attempt at Get. Without a member and an error, others are making
// connections: wait is closed when there is news of one.
func (p *Pool[C]) pick(ctx context.Context) (_ *member[C], wait <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, ErrClosed
	}
	p.bury()
	var best *member[C]
	for _, m := range p.members {
		if best == nil || m.users < best.users {
			best = m
		}
	}
	free, ok := func() {}, best == nil || best.users > 0
	if all := len(p.members) + p.dialing; ok && all > 0 { // the first has a place anyhow
		if ok = all < p.most(); ok {
			free, ok = p.o.Place()
		}
	}
	switch {
	case ok:
		return p.add(ctx, free)
	case best == nil:
		return nil, p.changed, nil
	}
	best.users++
	return best, nil, nil
}

// most is how many connections there may be now. p.mu is held.
func (p *Pool[C]) most() int {
	if time.Now().Before(p.until) {
		return max(p.limit, 1)
	}
	return p.o.Most(len(p.members))
}

// add makes one more connection, without p.mu, which is held. Without a member and an
// error there are others.
func (p *Pool[C]) add(ctx context.Context, free func()) (*member[C], <-chan struct{}, error) {
	p.dialing++
	p.mu.Unlock()
	c, err := p.o.Connect(ctx)
	p.mu.Lock()
	p.dialing--
	close(p.changed)
	p.changed = make(chan struct{})
	final := false
	if err == nil {
		if err = p.admit(c); err == nil {
			m := &member[C]{conn: c, users: 1, free: free}
			p.members = append(p.members, m)
			return m, nil, nil
		}
		final = true
		p.end(&member[C]{conn: c, free: free})
	} else {
		free()
	}
	if p.bury(); final || len(p.members) == 0 || ctx.Err() != nil {
		return nil, nil, err
	}
	p.limit, p.until = len(p.members), time.Now().Add(extraPause)
	if !p.short {
		p.short = true
		p.o.Short(p.limit, err)
	}
	now := make(chan struct{})
	close(now)
	return nil, now, nil
}

// admit judges a new connection. p.mu is held.
func (p *Pool[C]) admit(c C) error {
	if p.closed {
		return ErrClosed
	}
	return p.o.Admit(c)
}

// bury takes out the connections that have ended. p.mu is held.
func (p *Pool[C]) bury() {
	p.members = slices.DeleteFunc(p.members, func(m *member[C]) bool {
		if m.conn.Alive() {
			return false
		}
		p.end(m)
		return true
	})
}

// end closes a connection beside.
func (p *Pool[C]) end(m *member[C]) {
	p.closing.Go(func() {
		defer m.free()
		m.conn.Close()
	})
}

// Close ends the connections, also those in use, and returns when nothing of the Pool is
// left running.
func (p *Pool[C]) Close() {
	p.mu.Lock()
	p.closed = true
	for _, m := range p.members {
		p.end(m)
	}
	p.members = nil
	for p.dialing > 0 {
		changed := p.changed
		p.mu.Unlock()
		<-changed
		p.mu.Lock()
	}
	p.mu.Unlock()
	p.closing.Wait()
}
