package nbd

import (
	"context"
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

// Options say which export a [Reader] reads, and how. Dial is needed.
type Options struct {
	// Dial connects to the server. It is asked for each connection.
	Dial func(ctx context.Context) (net.Conn, error)

	Name     string // of the server, for people
	Export   string // name of the export; "" is the server's default
	Capacity int64  // in bytes, that the export must have; 0 takes what it has
	// Validator names the state of the export: it is the entity tag of the source.
	Validator string

	Connections int           // at most, where the server allows more than one; 0 means 1
	Depth       int           // requests in flight on a connection; 0 means DefaultDepth
	Patience    time.Duration // for a connection and its handshake; 0 means DefaultTimeout
	Stall       time.Duration // without a byte while something is asked for; 0 means DefaultTimeout
}

func (o Options) withDefaults() Options {
	if o.Depth <= 0 {
		o.Depth = DefaultDepth
	}
	if o.Patience <= 0 {
		o.Patience = DefaultTimeout
	}
	if o.Stall <= 0 {
		o.Stall = DefaultTimeout
	}
	o.Connections = max(o.Connections, 1)
	return o
}

// Reader is an export that is read at random. It is a [transfer.Source] whose every
// answer is a range. Its methods may be called from any goroutine. Close it.
type Reader struct {
	o Options

	mu       sync.Mutex
	sessions []*session
	dialing  int           // connections that are being made
	size     int64         // of the export, once it is known
	known    bool          // size is
	multi    bool          // several connections see the same disk
	sated    bool          // a further connection was not to be had
	changed  chan struct{} // closed, and made anew, when a connection was made or not
	closed   bool

	closing sync.WaitGroup // sessions
}

// NewReader returns a Reader that has connected to nobody yet.
func NewReader(o Options) *Reader {
	o = o.withDefaults()
	return &Reader{o: o, size: o.Capacity, known: o.Capacity > 0, changed: make(chan struct{})}
}

// changedError says that an export is not the one that is known.
type changedError struct {
	name      string
	want, got int64
}

func (e *changedError) Error() string {
	return fmt.Sprintf("NBD with %s: the export has %d bytes, and not the %d of the disk", e.name, e.got, e.want)
}

func (e *changedError) Unwrap() error { return transfer.ErrChanged }

// Probe connects, unless there is a connection, and so finds out whether the export can
// be read, and its size.
func (r *Reader) Probe(ctx context.Context) (transfer.Info, error) {
	s, err := r.session(ctx)
	if err != nil {
		return transfer.Info{}, err
	}
	r.done(s)
	return transfer.Info{Size: s.size, Ranges: true, ETag: r.o.Validator}, nil
}

// Open asks for n bytes from byte off on, or for all of them with n < 0. Several reads
// are in flight while the body is read.
func (r *Reader) Open(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	s, err := r.session(ctx)
	if err != nil {
		return nil, err
	}
	if n < 0 || n > s.size-off {
		n = s.size - off
	}
	if off < 0 || n < 0 {
		r.done(s)
		return nil, fmt.Errorf("nbd: byte %d is outside the export's %d", off, s.size)
	}
	return transfer.Pieces{
		Size: s.size, Unit: s.unit, Piece: s.most,
		Ask: func(ctx context.Context, off int64, buf []byte, wait bool) (transfer.Pending, error) {
			o, err := s.read(ctx, off, buf, wait)
			if o == nil {
				return nil, err
			}
			return o, nil
		},
		Close: func() { r.done(s) },
	}.Open(ctx, off, n), nil
}

var errClosed = errors.New("nbd: the reader is closed")

// session returns the connection that is least in use, or a new one while there may be
// more. Give it back with done.
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

// pick is one attempt at session. Without a session and an error, another caller is
// making a connection: wait is closed when there is news of it.
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
	more := len(r.sessions)+r.dialing < r.most()
	switch {
	case best != nil && (best.users == 0 || !more):
		best.users++
		return best, nil, nil
	case !more:
		return nil, r.changed, nil
	}
	return r.add(ctx)
}

// most is how many connections there may be. The first tells whether more than one.
// r.mu is held.
func (r *Reader) most() int {
	if len(r.sessions) == 0 || !r.multi || r.sated {
		return 1
	}
	return r.o.Connections
}

// add makes one more connection, without r.mu, which is held.
func (r *Reader) add(ctx context.Context) (_ *session, again <-chan struct{}, err error) {
	r.dialing++
	r.mu.Unlock()
	s, err := r.connect(ctx)
	r.mu.Lock()
	r.dialing--
	close(r.changed)
	r.changed = make(chan struct{})
	if err == nil {
		err = r.admit(s)
	}
	if err == nil {
		s.users++
		return s, nil, nil
	}
	if r.bury(); len(r.sessions) == 0 || ctx.Err() != nil || errors.Is(err, errClosed) || errors.Is(err, transfer.ErrChanged) {
		return nil, nil, err
	}
	r.sated = true // the disk comes over the connections that there are
	now := make(chan struct{})
	close(now)
	return nil, now, nil
}

// admit takes in a new connection, if it is to the export that is known. r.mu is held.
func (r *Reader) admit(s *session) error {
	var err error
	switch {
	case r.closed:
		err = errClosed
	case r.known && s.size != r.size:
		err = &changedError{name: r.o.Name, want: r.size, got: s.size}
	}
	if err != nil {
		r.closing.Go(s.close)
		return err
	}
	r.size, r.known = s.size, true
	r.multi = s.flags&flagCanMultiConn != 0
	r.sessions = append(r.sessions, s)
	return nil
}

// connect makes a connection.
func (r *Reader) connect(ctx context.Context) (*session, error) {
	soon, cancel := context.WithTimeoutCause(ctx, r.o.Patience, fmt.Errorf("no connection within %s", r.o.Patience))
	defer cancel()
	conn, err := r.o.Dial(soon)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case soon.Err() != nil:
		return nil, &Error{Name: r.o.Name, Stage: "connect", Kind: ErrUnreachable, Err: context.Cause(soon)}
	default:
		return nil, &Error{Name: r.o.Name, Stage: "connect", Kind: ErrUnreachable, Err: err}
	}
	got, err := shake(ctx, conn, r.o)
	if err != nil {
		_ = conn.Close() // it is of no use
		return nil, err
	}
	s := newSession(conn, got, r.o)
	go s.run()
	return s, nil
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
	if len(r.sessions) == 0 {
		r.sated = false // another server may allow more
	}
}

// done gives a session back.
func (r *Reader) done(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.users--
}

// Close ends the connections, and returns when nothing of the Reader is left running.
// Bodies that are still open end.
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
