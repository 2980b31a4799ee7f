package nfc

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// Defaults of [Options].
const (
	DefaultDepth   = 8
	DefaultTimeout = time.Minute
)

// readSize is the longest read that is asked for, in bytes: the longest that every
// host is said to answer (F-902-15).
const readSize = transfer.PieceSize

// bufferSteps are the buffers that a session asks for, one after the other while the
// host refuses: of the second no host has been seen to refuse, and the third leaves
// it to the host (F-902-6).
var bufferSteps = []struct{ size, count uint32 }{{1 << 20, 4}, {64 << 10, 4}, {0, 0}}

// Options say what a [Reader] reads, and how. Path, Capacity and Ticket are needed.
type Options struct {
	Path     string // of the disk's descriptor, as "[datastore] folder/name.vmdk"
	Capacity int64  // of the virtual disk, in bytes; a host that says otherwise is not read
	// Validator names the state of the disk: it is the entity tag of the source.
	Validator string
	// Ticket asks vSphere for a ticket, good for one connection. other asks by the
	// other of the two ways to get one, where the first one's did not allow the file.
	Ticket func(ctx context.Context, other bool) (Ticket, error)
	// Trust judges the certificate of a host whose ticket names none. Nil refuses.
	Trust func(*x509.Certificate) error

	// Connections is how many there may be at a time, 0 means 1. All but the first
	// are made only where Place gives them a place, and a host that refuses one has
	// as many as it allows. A second one for a disk is not documented (F-902-19).
	Connections int
	// Place asks for a place under the limits for one more connection; release gives
	// it back. Nil always has one.
	Place func() (release func(), ok bool)
	// Tell is told what a person may want to know. Nil is nobody. It must return soon.
	Tell func(string)

	Depth          int           // reads in flight on a connection; 0 means DefaultDepth
	Compression    Compression   // 0 means to leave zeros out
	Patience       time.Duration // for each step of the way to a session; 0 means DefaultTimeout
	Stall          time.Duration // without a byte while something is asked for; 0 means DefaultTimeout
	StatusPatience time.Duration // see statusPatience

	// Dial connects; nil means a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

func (o Options) withDefaults() Options {
	o.Connections, o.Depth = max(o.Connections, 1), max(o.Depth, 0)
	if o.Depth == 0 {
		o.Depth = DefaultDepth
	}
	if o.Compression == raw {
		o.Compression = skipZeros
	}
	if o.Patience <= 0 {
		o.Patience = DefaultTimeout
	}
	if o.Stall <= 0 {
		o.Stall = DefaultTimeout
	}
	if o.StatusPatience <= 0 {
		o.StatusPatience = statusPatience
	}
	if o.Place == nil {
		o.Place = func() (func(), bool) { return func() {}, true }
	}
	if o.Tell == nil {
		o.Tell = func(string) {}
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	}
	return o
}

// Reader is a frozen disk that is read at random. It is a [transfer.Source] whose
// every answer is a range. Its methods may be called from any goroutine. Close it.
type Reader struct {
	o Options

	mu       sync.Mutex
	sessions []*session
	dialing  int           // connections that are being made
	limit    int           // of both together, until then
	until    time.Time     // a host that allows no more now may do so later
	told     bool          // of the limit
	changed  chan struct{} // closed, and made anew, when a connection was made or not
	closed   bool
	step     int  // of bufferSteps
	other    bool // tickets are asked for by the other way
	plain    bool // the service is asked for without its prefix
	seen     Seen

	closing sync.WaitGroup // sessions
}

// NewReader returns a Reader that has connected to nobody yet.
func NewReader(o Options) *Reader {
	o = o.withDefaults()
	return &Reader{o: o, changed: make(chan struct{})}
}

// changedError says that a host's disk is not the one that is known.
type changedError struct {
	host, path string
	want, got  int64
}

func (e *changedError) Error() string {
	return fmt.Sprintf("NFC with %s: %s has %d bytes, and not the %d of the disk", e.host, e.path, e.got, e.want)
}

func (e *changedError) Unwrap() error { return transfer.ErrChanged }

// Probe connects, unless there is a connection, and so finds out whether the disk
// can be read.
func (r *Reader) Probe(ctx context.Context) (transfer.Info, error) {
	s, err := r.session(ctx)
	if err != nil {
		return transfer.Info{}, err
	}
	r.done(s)
	return transfer.Info{Size: r.o.Capacity, Ranges: true, ETag: r.o.Validator}, nil
}

// Open asks for n bytes from byte off on, or for all of them with n < 0. Several
// reads are in flight while the body is read.
func (r *Reader) Open(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if n < 0 || n > r.o.Capacity-off {
		n = r.o.Capacity - off
	}
	if off < 0 || n < 0 {
		return nil, fmt.Errorf("nfc: byte %d is outside the disk's %d", off, r.o.Capacity)
	}
	s, err := r.session(ctx)
	if err != nil {
		return nil, err
	}
	return r.body(ctx, s, off, n), nil
}

// session returns the connection that is least in use, or a new one while there may
// be more. Give it back with done.
func (r *Reader) session(ctx context.Context) (*session, error) {
	for {
		s, wait, err := r.pick(ctx)
		if s != nil || err != nil {
			return s, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

var errClosed = errors.New("nfc: the reader is closed")

// pick is one attempt at session. Without a session and an error, others are making
// connections: wait is closed when there is news of one.
func (r *Reader) pick(ctx context.Context) (_ *session, wait <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nil, errClosed
	}
	r.bury()
	var best *session
	for _, s := range r.sessions {
		if best == nil || s.users < best.users {
			best = s
		}
	}
	free := func() {}
	if more := len(r.sessions)+r.dialing < r.most(); best != nil && (best.users == 0 || !more) {
		best.users++
		return best, nil, nil
	} else if !more {
		return nil, r.changed, nil
	}
	if len(r.sessions)+r.dialing > 0 { // the first has the disk's own place
		var ok bool
		if free, ok = r.o.Place(); !ok {
			if best == nil {
				return nil, r.changed, nil
			}
			best.users++
			return best, nil, nil
		}
	}
	r.dialing++
	r.mu.Unlock()
	s, err := r.connectAnyhow(ctx)
	r.mu.Lock()
	r.dialing--
	close(r.changed)
	r.changed = make(chan struct{})
	switch {
	case err == nil && r.closed:
		r.closing.Go(s.close)
		err = errClosed
	case err == nil:
		s.free = free
		s.users++
		r.sessions = append(r.sessions, s)
		return s, nil, nil
	}
	free()
	if r.bury(); len(r.sessions) == 0 || ctx.Err() != nil || errors.Is(err, errClosed) {
		return nil, nil, err
	}
	// The disk comes over those that there are.
	r.limit, r.until = len(r.sessions), time.Now().Add(extraPause)
	if !r.told {
		r.told = true
		r.o.Tell(fmt.Sprintf("going on with %d connection(s) to the host for now: one more was not to be had: %v", r.limit, err))
	}
	now := make(chan struct{})
	close(now)
	return nil, now, nil
}

// extraPause is how long a Reader does with the connections that it has once a host
// has not allowed one more.
const extraPause = time.Minute

// most is how many connections there may be now. r.mu is held.
func (r *Reader) most() int {
	if time.Now().Before(r.until) {
		return max(r.limit, 1)
	}
	return r.o.Connections
}

// bury takes out the sessions that have ended. r.mu is held.
func (r *Reader) bury() {
	r.sessions = slices.DeleteFunc(r.sessions, func(s *session) bool {
		if s.alive() {
			return false
		}
		r.closing.Go(s.close)
		return true
	})
}

// done gives a session back.
func (r *Reader) done(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.users--
}

// connectAnyhow connects, and tries the ways that are left where the host does not
// take the first.
func (r *Reader) connectAnyhow(ctx context.Context) (*session, error) {
	for {
		s, err := r.connect(ctx)
		if err == nil || ctx.Err() != nil || !r.adapt(err) {
			return s, err
		}
	}
}

// adapt changes what the next connection does otherwise because of err. It is false
// when there is nothing left to change.
func (r *Reader) adapt(err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var e *Error
	switch {
	case errors.Is(err, ErrService):
		r.plain = !r.plain
		return r.plain
	case errors.Is(err, ErrForeign):
		r.other = !r.other
		return r.other
	case errors.Is(err, ErrMemory), errors.As(err, &e) && e.Stage == stageOf(&op{kind: typeOpenSession}) && errors.Is(e.Kind, ErrRefused):
		if r.step+1 < len(bufferSteps) {
			r.step++
			r.o.Tell(fmt.Sprintf("asking the host for smaller buffers: %v", err))
			return true
		}
	}
	return false
}

// Close closes the disk at the host, and returns when nothing of the Reader is left
// running. Bodies that are still open end.
func (r *Reader) Close() {
	r.mu.Lock()
	r.closed = true
	sessions := r.sessions
	r.sessions = nil
	for _, s := range sessions {
		r.closing.Go(s.close)
	}
	for r.dialing > 0 {
		changed := r.changed
		r.mu.Unlock()
		<-changed
		r.mu.Lock()
	}
	r.mu.Unlock()
	r.closing.Wait()
}
