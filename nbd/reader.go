package nbd

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/inflight"
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
	o.Connections = max(o.Connections, 1)
	o.Depth = cmp.Or(max(o.Depth, 0), DefaultDepth)
	o.Patience = cmp.Or(max(o.Patience, 0), DefaultTimeout)
	o.Stall = cmp.Or(max(o.Stall, 0), DefaultTimeout)
	return o
}

// Reader is an export that is read at random. It is a [transfer.Source] whose every
// answer is a range. Its methods may be called from any goroutine. Close it.
type Reader struct {
	o    Options
	pool *inflight.Pool[*session]

	// The pool's, while it admits a connection or asks how many there may be.
	size  int64 // of the export, once it is known
	known bool  // size is
	multi bool  // several connections see the same disk
}

// NewReader returns a Reader that has connected to nobody yet.
func NewReader(o Options) *Reader {
	o = o.withDefaults()
	r := &Reader{o: o, size: o.Capacity, known: o.Capacity > 0}
	r.pool = inflight.NewPool(inflight.Options[*session]{Connect: r.connect, Most: r.most, Admit: r.admit})
	return r
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
	s, done, err := r.pool.Get(ctx)
	if err != nil {
		return transfer.Info{}, err
	}
	done()
	return transfer.Info{Size: s.size, Ranges: true, ETag: r.o.Validator}, nil
}

// Open asks for n bytes from byte off on, or for all of them with n < 0. Several reads
// are in flight while the body is read.
func (r *Reader) Open(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	s, done, err := r.pool.Get(ctx)
	if err != nil {
		return nil, err
	}
	if n < 0 || n > s.size-off {
		n = s.size - off
	}
	if off < 0 || n < 0 {
		done()
		return nil, fmt.Errorf("nbd: byte %d is outside the export's %d", off, s.size)
	}
	return transfer.Pieces{Size: s.size, Unit: s.unit, Piece: s.most, Ask: s.read, Close: done}.Open(ctx, off, n), nil
}

// most is how many connections there may be. The first tells whether more than one.
func (r *Reader) most(open int) int {
	if open == 0 || !r.multi {
		return 1
	}
	return r.o.Connections
}

// admit judges whether a new connection is to the export that is known.
func (r *Reader) admit(s *session) error {
	if r.known && s.size != r.size {
		return &changedError{name: r.o.Name, want: r.size, got: s.size}
	}
	r.size, r.known = s.size, true
	r.multi = s.flags&flagCanMultiConn != 0
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
	go s.Run(s.take)
	return s, nil
}

// Close ends the connections, and returns when nothing of the Reader is left running.
// Bodies that are still open end.
func (r *Reader) Close() { r.pool.Close() }
