// Package listen owns the daemon's addresses: who can reach the API, over what,
// and what is known of them.
//
// There are three kinds. The unix socket is for users of this machine whom the
// mode of its file lets in; the kernel tells who they are. An address of loopback
// is for everybody on this machine. Any other address is served over TLS only, and
// is an error without a certificate. With a certificate, addresses
// of loopback speak TLS, too, unless they are written as http://HOST:PORT.
//
// What is known of a connection's other end is an [access.Peer] in the context of
// each of its requests ([Set.Attach]). Connections are bounded, in all and for each
// address, and the socket has bounds of its own, so that whoever floods the
// network does not lock out the administrator.
//
// Certificates are looked at again when a client comes, and by [Set.Reload]. A pair
// that cannot be used leaves the old one in its place, and [Set.Certificate] says why.
package listen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

// None as a socket or an address stands for no such.
const None = "none"

// Bounds of connections when Options do not say.
const (
	DefaultMaxConns    = 4096
	DefaultMaxConnsPer = 1024 // a person watching hundreds of jobs has one for each
)

// SettingsError is about options that cannot be used as they are, so that trying
// again does not help: its text says what to set.
type SettingsError struct{ Err error }

// Error returns the text of Err.
func (e *SettingsError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *SettingsError) Unwrap() error { return e.Err }

func settings(format string, args ...any) error {
	return &SettingsError{fmt.Errorf(format, args...)}
}

// Options of a [Set]. At least one of Socket and Addrs must be something.
type Options struct {
	Socket      string // absolute path of the unix socket; empty or None for no socket
	SocketGroup string // group that may use it, by name or number; empty is the process's own

	// Addrs are HOST:PORT, or that with http:// or https:// before it; None alone
	// for no address.
	Addrs []string
	TLS   Files

	// AllowedHosts are names under which clients may ask for the daemon beside those
	// of Addrs and of the certificate, as they do through a proxy.
	AllowedHosts []string

	MaxConns    int // at once over all addresses, 0 means DefaultMaxConns; again so many for the socket
	MaxConnsPer int // at once from one address, or one user of the socket; 0 means DefaultMaxConnsPer

	// Answer makes a whole HTTP answer of an error, for connections that never get
	// to a request. Nil closes them without a word.
	Answer func(status int, detail string) []byte
	Logger *slog.Logger // nil discards
}

// Set is all that the daemon listens on.
type Set struct {
	o         Options
	log       *slog.Logger
	certs     *certificates // nil without TLS
	listeners []*Listener
	names     []string // hosts of Addrs
}

// Open listens. When systemd has passed sockets to this process, they are all that
// there is, and Socket and Addrs are not looked at. After an error nothing is left
// open; one that is a *[SettingsError] is not mended by trying again.
func Open(ctx context.Context, o Options) (_ *Set, err error) {
	if o.MaxConns <= 0 {
		o.MaxConns = DefaultMaxConns
	}
	if o.MaxConnsPer <= 0 {
		o.MaxConnsPer = DefaultMaxConnsPer
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Set{o: o, log: o.Logger}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if o.TLS != (Files{}) {
		if s.certs, err = newCertificates(o.TLS, o.Logger); err != nil {
			return nil, err
		}
	}
	found, err := s.passed()
	if err == nil && len(found) == 0 {
		found, err = s.own(ctx)
	}
	s.listeners = append(s.listeners, found...) // after an error as well: Close closes them
	if err != nil {
		return nil, err
	}
	if len(s.listeners) == 0 {
		return nil, settings("there is nothing to listen on: give an address or a socket")
	}
	network, socket := newGate(o.MaxConns, o.MaxConnsPer), newGate(o.MaxConns, o.MaxConnsPer)
	for _, l := range s.listeners {
		l.set, l.gate = s, network
		l.told = rate.Sometimes{Interval: 10 * time.Second}
		if l.unix {
			l.gate = socket
		}
	}
	return s, nil
}

// own opens what the options name.
func (s *Set) own(ctx context.Context) ([]*Listener, error) {
	var found []*Listener
	if s.o.Socket != "" && s.o.Socket != None {
		l, err := openSocket(s.o.Socket, s.o.SocketGroup)
		if err != nil {
			return found, err
		}
		found = append(found, &Listener{Listener: l, unix: true})
	}
	for _, text := range s.o.Addrs {
		if text == None {
			continue
		}
		a, err := parseAddress(text)
		if err != nil {
			return found, err
		}
		opened, err := s.openAddress(ctx, a)
		if err != nil {
			return found, err
		}
		found = append(found, opened...)
	}
	return found, nil
}

// Listeners are what to serve, each with [http.Server.Serve].
func (s *Set) Listeners() []*Listener { return s.listeners }

// URLs are the addresses as clients write them.
func (s *Set) URLs() []string {
	urls := make([]string, len(s.listeners))
	for i, l := range s.listeners {
		urls[i] = l.URL()
	}
	return urls
}

// Exposed is the first address that other machines can reach, or "".
func (s *Set) Exposed() string {
	for _, l := range s.listeners {
		if !l.unix && !IsLoopback(l.Addr()) {
			return l.URL()
		}
	}
	return ""
}

// KnownHost reports whether host, a name or address without port, is one under
// which the daemon may be asked for, beside the names of loopback.
func (s *Set) KnownHost(host string) bool {
	same := func(h string) bool { return strings.EqualFold(h, host) }
	return slices.ContainsFunc(s.names, same) || slices.ContainsFunc(s.o.AllowedHosts, same) ||
		s.certs != nil && s.certs.names(host)
}

// Reload reads the certificates again, whether their files have changed or not.
func (s *Set) Reload() error {
	if s.certs == nil {
		return nil
	}
	return s.certs.reload()
}

// Certificate is the certificate in use.
type Certificate struct {
	NotAfter time.Time
	// Trouble says why the files as they are now cannot be used in its place, or is
	// nil.
	Trouble error
}

// Certificate returns the certificate in use; ok is false without TLS.
func (s *Set) Certificate() (c Certificate, ok bool) {
	if s.certs == nil {
		return c, false
	}
	return s.certs.state(), true
}

// Close stops listening. Connections that were accepted stay.
func (s *Set) Close() error {
	var errs []error
	for _, l := range s.listeners {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Attach makes server tell its handler, in the context of each request, who is at
// the other end ([access.PeerFrom]). Call it before the server serves.
func (s *Set) Attach(server *http.Server) {
	next := server.Handler
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, connOf(c))
	}
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, _ := r.Context().Value(connKey{}).(*conn); c != nil {
			r = r.WithContext(access.WithPeer(r.Context(), c.peer()))
		}
		next.ServeHTTP(w, r)
	})
}

type connKey struct{}

// connOf finds the connection below what a server has of it.
func connOf(c net.Conn) *conn {
	for c != nil {
		if ours, ok := c.(*conn); ok {
			return ours
		}
		below, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = below.NetConn()
	}
	return nil
}

// exposed is the error for a place that has no TLS.
func exposed(place string) error {
	return settings("%s, so that it can be reached from other machines and needs TLS: set listen.cert_file and listen.key_file "+
		"(hyper2kvmd tls init makes them), or listen on localhost and reach it through an SSH tunnel or a proxy", place)
}
