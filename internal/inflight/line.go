// Package inflight asks a server several things at once: requests in flight on one
// connection (Line), and several connections to one server (Pool). What a request looks
// like, and how an answer is taken apart, is the protocol's: packages nbd and vsphere/nfc.
package inflight

import (
	"bufio"
	"context"
	"net"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/panics"
)

// ID is what a protocol numbers its requests with.
type ID interface{ ~uint32 | ~uint64 }

// Call is a request that waits for its answer. T is what the protocol knows of it.
type Call[K ID, T any] struct {
	Of T // the Line's until the call is done

	id   K
	turn bool // it holds one of the turns
	done chan struct{}
	err  error // once done
}

// Done is closed when the answer has come, or will not.
func (c *Call[K, T]) Done() <-chan struct{} { return c.done }

// Err says, once Done is closed, why the answer has not come.
func (c *Call[K, T]) Err() error { return c.err }

// Wait waits for the answer, or for the end of ctx.
func (c *Call[K, T]) Wait(ctx context.Context) error {
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Line is one connection with several requests in flight. Requests come from any
// goroutine; one, Run's, takes the answers apart.
type Line[K ID, T any] struct {
	// In is what the server sends, for who takes answers apart. While something is
	// asked for, the server has the time of NewLine for the next byte.
	In *bufio.Reader

	conn    net.Conn
	stall   time.Duration
	explain func(error) error
	turns   chan struct{} // one for each request in flight

	wmu  sync.Mutex // one request at a time, numbered as they go out
	next K

	mu    sync.Mutex
	calls map[K]*Call[K, T]
	err   error         // why it has ended
	dead  chan struct{} // closed once err is set

	ended chan struct{} // closed when Run has returned
}

// NewLine goes on with conn, whose handshake is over: depth requests at a time take
// turns, and stall is how long the server may take for the next byte and a request for
// being sent. explain words why the line ended; it is given the first failure.
func NewLine[K ID, T any](conn net.Conn, depth int, stall time.Duration, explain func(error) error) *Line[K, T] {
	l := &Line[K, T]{
		conn: conn, stall: stall, explain: explain, turns: make(chan struct{}, depth),
		calls: make(map[K]*Call[K, T]), dead: make(chan struct{}), ended: make(chan struct{}),
	}
	l.In = bufio.NewReaderSize(incoming[K, T]{l}, 128<<10)
	return l
}

// incoming reads from the connection with the deadline that holds at the moment.
type incoming[K ID, T any] struct{ l *Line[K, T] }

func (in incoming[K, T]) Read(p []byte) (int, error) {
	in.l.mu.Lock()
	in.l.arm()
	in.l.mu.Unlock()
	return in.l.conn.Read(p)
}

// arm sets the time for the next byte. l.mu is held.
func (l *Line[K, T]) arm() {
	var until time.Time
	switch {
	case l.err != nil:
		until = time.Unix(1, 0)
	case len(l.calls) > 0:
		until = time.Now().Add(l.stall)
	}
	_ = l.conn.SetReadDeadline(until) // of a connection that is closed: the read tells
}

// Run calls take, which reads one message and gives it to whom it answers, until that
// fails. Then the line has ended.
func (l *Line[K, T]) Run(take func() error) {
	defer close(l.ended)
	l.Fail(panics.Catch(func() error {
		for {
			if err := take(); err != nil {
				return err
			}
		}
	}))
}

// Ended is closed when Run has returned.
func (l *Line[K, T]) Ended() <-chan struct{} { return l.ended }

// Fail ends the line, and with it what is in flight.
func (l *Line[K, T]) Fail(err error) { l.end(err, nil, nil) }

// Condemn is Fail where an answer has ended the line: the call that it belongs to learns
// the refusal. Who learns of it finds the line ended.
func (l *Line[K, T]) Condemn(c *Call[K, T], refusal, err error) { l.end(err, c, refusal) }

func (l *Line[K, T]) end(err error, condemned *Call[K, T], refusal error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	l.err = l.explain(err)
	close(l.dead)
	if condemned != nil && l.calls[condemned.id] == condemned {
		l.finish(condemned, refusal)
	}
	for _, c := range l.calls {
		l.finish(c, l.err)
	}
	l.arm() // wakes who reads
}

// Alive says whether the server can be asked.
func (l *Line[K, T]) Alive() bool {
	select {
	case <-l.dead:
		return false
	default:
		return true
	}
}

// finish tells who waits for c. l.mu is held.
func (l *Line[K, T]) finish(c *Call[K, T], err error) {
	delete(l.calls, c.id)
	c.err = err
	if c.turn {
		<-l.turns
	}
	close(c.done)
}

// Waiting is the call that an answer with that number belongs to, or nil.
func (l *Line[K, T]) Waiting(id K) *Call[K, T] {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls[id]
}

// Answer ends a call, with the server's refusal or nil. It does nothing when the call has
// failed meanwhile.
func (l *Line[K, T]) Answer(c *Call[K, T], refusal error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls[c.id] == c {
		l.finish(c, refusal)
	}
}

// Ask sends a request that takes a turn; frame puts it together under its number. It
// waits for a turn if wait is true; otherwise the call is nil when there is none.
func (l *Line[K, T]) Ask(ctx context.Context, of T, wait bool, frame func(id K) []byte) (*Call[K, T], error) {
	if ok, err := l.take(ctx, wait); !ok {
		return nil, err
	}
	c := &Call[K, T]{Of: of, turn: true}
	if err := l.send(c, frame); err != nil {
		<-l.turns
		return nil, err
	}
	return c, nil
}

// Send sends a request that takes no turn.
func (l *Line[K, T]) Send(of T, frame func(id K) []byte) (*Call[K, T], error) {
	c := &Call[K, T]{Of: of}
	if err := l.send(c, frame); err != nil {
		return nil, err
	}
	return c, nil
}

// take takes a turn.
func (l *Line[K, T]) take(ctx context.Context, wait bool) (ok bool, err error) {
	select {
	case l.turns <- struct{}{}:
		return true, nil
	default:
	}
	if !wait {
		return false, nil
	}
	select {
	case l.turns <- struct{}{}:
		return true, nil
	case <-l.dead:
		return false, l.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func (l *Line[K, T]) send(c *Call[K, T], frame func(id K) []byte) error {
	c.done = make(chan struct{})
	l.wmu.Lock()
	defer l.wmu.Unlock()
	if err := l.enter(c); err != nil {
		return err
	}
	_ = l.conn.SetWriteDeadline(time.Now().Add(l.stall))
	if _, err := l.conn.Write(frame(c.id)); err != nil {
		l.Fail(err)
	}
	return nil
}

// enter numbers c and has it wait. l.wmu is held.
func (l *Line[K, T]) enter(c *Call[K, T]) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	for l.calls[l.next] != nil { // once the numbers begin anew
		l.next++
	}
	c.id = l.next
	l.next++
	l.calls[c.id] = c
	if len(l.calls) == 1 { // what is asked for later does not give the earlier more time
		l.arm()
	}
	return nil
}

// Quiesce takes every turn, for good: when it reports true, no request that took one is
// in flight any more. It is false when the line or ctx ended before.
func (l *Line[K, T]) Quiesce(ctx context.Context) bool {
	for range cap(l.turns) {
		if ok, _ := l.take(ctx, true); !ok {
			return false
		}
	}
	return l.Alive()
}

// Say sends what has no answer, within that time. It may be said on a line that has ended.
func (l *Line[K, T]) Say(within time.Duration, frame func(id K) []byte) error {
	l.wmu.Lock()
	defer l.wmu.Unlock()
	_ = l.conn.SetWriteDeadline(time.Now().Add(within))
	id := l.next
	l.next++
	_, err := l.conn.Write(frame(id))
	return err
}
