package nfc

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/inflight"
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
	o.Connections = max(o.Connections, 1)
	o.Depth = cmp.Or(max(o.Depth, 0), DefaultDepth)
	o.Compression = cmp.Or(o.Compression, skipZeros)
	o.Patience = cmp.Or(max(o.Patience, 0), DefaultTimeout)
	o.Stall = cmp.Or(max(o.Stall, 0), DefaultTimeout)
	o.StatusPatience = cmp.Or(max(o.StatusPatience, 0), statusPatience)
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
	o    Options
	pool *inflight.Pool[*session]

	mu    sync.Mutex
	step  int  // of bufferSteps
	other bool // tickets are asked for by the other way
	plain bool // the service is asked for without its prefix
	seen  Seen
}

// NewReader returns a Reader that has connected to nobody yet.
func NewReader(o Options) *Reader {
	o = o.withDefaults()
	r := &Reader{o: o}
	r.pool = inflight.NewPool(inflight.Options[*session]{
		Connect: r.connectAnyhow, Admit: r.admit, Place: o.Place,
		Most: func(int) int { return o.Connections },
		Short: func(open int, err error) {
			o.Tell(fmt.Sprintf("going on with %d connection(s) to the host for now: one more was not to be had: %v", open, err))
		},
	})
	return r
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
	_, done, err := r.pool.Get(ctx)
	if err != nil {
		return transfer.Info{}, err
	}
	done()
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
	s, done, err := r.pool.Get(ctx)
	if err != nil {
		return nil, err
	}
	return transfer.Pieces{
		Size: r.o.Capacity, Unit: sectorSize, Piece: readSize, Ask: s.read, Close: done,
		Failed: func(err error) { r.adapt(err) }, // as to a host that is out of memory
	}.Open(ctx, off, n), nil
}

// admit judges whether the host's disk is the one that is known.
func (r *Reader) admit(s *session) error {
	if s.file.capacity != r.o.Capacity {
		return &changedError{host: s.host, path: r.o.Path, want: r.o.Capacity, got: s.file.capacity}
	}
	r.see(func(seen *Seen) { seen.Opened = true })
	return nil
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
	case errors.Is(err, ErrMemory), errors.As(err, &e) && e.Stage == (&ask{kind: typeOpenSession}).stage() && errors.Is(e.Kind, ErrRefused):
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
func (r *Reader) Close() { r.pool.Close() }
