package vspheretest

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// endpoint is a TLS listener with a certificate of its own. It speaks HTTP/1.1
// only, as hosts do: with HTTP/2 every "parallel" connection would be one.
type endpoint struct {
	name  string
	ident atomic.Pointer[identity]
	ip    net.IP
	gate  *gate
	http  *http.Server
	rate  int64

	mu      sync.Mutex
	stopped bool
	running sync.WaitGroup // requests
	serving sync.WaitGroup // the accept loop
}

func newEndpoint(name, addr string, bytesPerSecond int64) (*endpoint, error) {
	g, err := newGate(addr)
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", name, err)
	}
	ip := g.address.IP
	if ip.IsUnspecified() {
		ip = net.IPv4(127, 0, 0, 1)
	}
	e := &endpoint{name: name, ip: ip, gate: g, rate: bytesPerSecond}
	if err := e.renew(); err != nil {
		g.Close()
		return nil, err
	}
	return e, nil
}

// id is the certificate that new connections see.
func (e *endpoint) id() *identity { return e.ident.Load() }

// renew replaces the certificate for connections from now on.
func (e *endpoint) renew() error {
	id, err := newIdentity(e.name, e.ip)
	if err != nil {
		return fmt.Errorf("certificate for %s: %w", e.name, err)
	}
	e.ident.Store(id)
	return nil
}

// addr is the host:port that clients are told.
func (e *endpoint) addr() string {
	return net.JoinHostPort(e.ip.String(), strconv.Itoa(e.gate.address.Port))
}

// serve starts to answer requests with h.
func (e *endpoint) serve(h http.Handler) {
	e.http = &http.Server{
		Handler:           e.track(h),
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // clients that hang up are the point of the lab
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){},
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, pacerKey{}, newPacer(e.rate))
		},
	}
	ln := tls.NewListener(e.gate, &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &e.id().tls, nil },
		NextProtos:     []string{"http/1.1"},
		MinVersion:     tls.VersionTLS12,
	})
	e.serving.Go(func() { _ = e.http.Serve(ln) })
}

// track counts the requests under way, so that close can wait for them, and
// answers those that arrive in an outage.
func (e *endpoint) track(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		if e.stopped {
			e.mu.Unlock()
			panic(http.ErrAbortHandler)
		}
		e.running.Add(1)
		e.mu.Unlock()
		defer e.running.Done()
		if how := e.gate.away(); how != "" {
			how.answer(w)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// close stops the endpoint and waits for its requests; while it waits it calls
// nudge, which ends those that do not notice that their client is gone.
func (e *endpoint) close(nudge func()) {
	e.mu.Lock()
	e.stopped = true
	e.mu.Unlock()
	if e.http == nil {
		e.gate.Close()
		return
	}
	_ = e.http.Close()
	done := make(chan struct{})
	go func() {
		e.running.Wait()
		e.serving.Wait()
		close(done)
	}()
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		nudge()
		select {
		case <-done:
			tick.Stop()
			return
		case <-tick.C:
		}
	}
}

type pacerKey struct{}

// pacer limits what one connection carries.
type pacer struct {
	limiter *rate.Limiter
	chunk   int // bytes to write at a time
}

const maxChunk = 256 << 10

func newPacer(bytesPerSecond int64) *pacer {
	if bytesPerSecond <= 0 {
		return &pacer{chunk: maxChunk}
	}
	chunk := int(min(max(bytesPerSecond/100, 1024), maxChunk)) // some 10 ms worth
	return &pacer{rate.NewLimiter(rate.Limit(bytesPerSecond), 2*chunk), chunk}
}

func pacerOf(ctx context.Context) *pacer {
	if p, ok := ctx.Value(pacerKey{}).(*pacer); ok {
		return p
	}
	return newPacer(0)
}

// wait blocks until n bytes may be written.
func (p *pacer) wait(ctx context.Context, n int) error {
	if p.limiter == nil {
		return ctx.Err()
	}
	return p.limiter.WaitN(ctx, n)
}

// delay waits for d, or until ctx ends.
func delay(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
