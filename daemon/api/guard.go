package api

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

// Deadlines of a request. There is none on reading once a body has been read:
// net/http would take it for a client that has gone.
const (
	readTimeout = 30 * time.Second // for a request's body
	// writeTimeout is how long an answer waits for its client to take the next
	// writeChunk bytes. A slow client gets all of it; one that has stopped
	// reading is cut off.
	writeTimeout = 2 * time.Minute
	writeChunk   = 16 << 10
)

// ServeHTTP answers a request: guarded, timed, logged, to those who may ask, and
// with JSON even when a handler panics or no route fits.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	rec := &recorder{ResponseWriter: w, route: "none"}
	end := a.o.Observer.Begin()
	defer func() { end(r.Method, rec.route, rec.status, time.Since(start)) }()
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
				a.logRequest(r, rec, time.Since(start))
				panic(p)
			}
			a.log.LogAttrs(r.Context(), slog.LevelError, "request handler panicked",
				slog.String("method", r.Method), slog.String("path", r.URL.Path),
				slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
			if rec.status == 0 {
				a.refuse(rec, failure(http.StatusInternalServerError, "internal error: the daemon's log tells more"))
			}
		}
		a.logRequest(r, rec, time.Since(start))
	}()

	r = a.identify(rec, r)
	rec.Header().Set("X-Content-Type-Options", "nosniff")
	rec.Header().Set("Cache-Control", "no-store")
	e := a.guard(r)
	if e == nil {
		e = a.paced(r.Context())
	}
	if e != nil {
		a.refuse(rec, e)
		return
	}
	a.route(rec, r)
}

// guard keeps web pages away: a page in a browser on the same machine could
// otherwise submit jobs, and by rebinding its own name to 127.0.0.1 even read the
// answers. It holds for every address that the daemon listens on.
func (a *API) guard(r *http.Request) *statusError {
	if host := hostOf(r); !loopbackName(host) && (a.o.KnownHost == nil || !a.o.KnownHost(host)) {
		return failure(http.StatusMisdirectedRequest,
			"the Host header names no host that this daemon knows; use localhost or a name in its certificate, or add the host to listen.allowed_hosts (-allowed-host)")
	}
	if a.csrf.Check(r) != nil {
		return failure(http.StatusForbidden, "cross-origin request refused")
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return failure(http.StatusUnsupportedMediaType, "send the body as it is: one that is compressed is not unpacked")
	}
	return nil
}

// paced refuses callers that ask more often than they may.
func (a *API) paced(ctx context.Context) *statusError {
	peer, _ := access.PeerFrom(ctx)
	wait := a.o.Pace.Wait(access.FromContext(ctx), peer, time.Now())
	if wait == 0 {
		return nil
	}
	e := failure(http.StatusTooManyRequests, "too many requests: ask less often, or have limits.requests_per_second raised")
	e.retryAfter = seconds(wait)
	return e
}

// seconds rounds up, so that who waits so long has waited long enough.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// hostOf is the host of a request without port, as names are compared.
func hostOf(r *http.Request) string {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

// loopbackName reports whether a host stands for this machine's loopback, whoever
// looks it up.
func loopbackName(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// proxyHeaders are what proxies add to requests.
var proxyHeaders = [...]string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Via"}

// senderOf corrects who is at the other end of a request's connection: when a proxy has
// passed the request on, p is the proxy, and who has sent it may be anywhere. Such a
// one is neither on this machine nor the proxy's user.
func senderOf(r *http.Request, p access.Peer) access.Peer {
	passedOn := !loopbackName(hostOf(r))
	for _, h := range proxyHeaders {
		passedOn = passedOn || len(r.Header[h]) > 0
	}
	if passedOn && (p.Unix || p.Loopback) {
		return access.Peer{Addr: p.Addr, Certificate: p.Certificate}
	}
	return p
}

// route hands the request to its handler, and answers 404 and 405 itself: the
// mux would answer in plain text.
func (a *API) route(w *recorder, r *http.Request) {
	h, pattern := a.mux.Handler(r)
	if pattern != "" {
		_, w.route, _ = strings.Cut(pattern, " ") // without its method
		a.mux.ServeHTTP(w, r)
		return
	}
	probe := &headerProbe{header: http.Header{}}
	h.ServeHTTP(probe, r)
	if probe.status == http.StatusMethodNotAllowed {
		allow := probe.header.Get("Allow")
		w.Header().Set("Allow", allow)
		a.refuse(w, failure(http.StatusMethodNotAllowed, "this path answers "+allow))
		return
	}
	a.refuse(w, notFound())
}

// logRequest logs what was asked and answered: no query, header or body, since
// any may hold a secret.
func (a *API) logRequest(r *http.Request, rec *recorder, took time.Duration) {
	level := slog.LevelDebug
	switch {
	case r.URL.Path == "/health": // asked for all the time; the reason is logged once
	case rec.status >= 500:
		level = slog.LevelError
	case r.Method != http.MethodGet && r.Method != http.MethodHead && r.URL.Path != "/jobs/query":
		level = slog.LevelInfo
	}
	a.log.LogAttrs(r.Context(), level, "request",
		slog.String("method", r.Method),
		slog.String("path", r.URL.Path),
		slog.Int("status", rec.status),
		slog.Int64("bytes", rec.bytes),
		slog.Duration("took", took.Round(time.Microsecond)),
		slog.String("remote", r.RemoteAddr))
}

// recorder notes an answer's status and size for the log, and writes it under
// writeTimeout.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
	route  string // pattern of the path that was asked for
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
		r.extend()
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (written int, err error) {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	for {
		part := b[written:min(len(b), written+writeChunk)]
		r.extend()
		n, err := r.ResponseWriter.Write(part)
		written += n
		r.bytes += int64(n)
		if err != nil || written == len(b) {
			return written, err
		}
	}
}

// extend starts the clock for the next write, and for what flushes it.
func (r *recorder) extend() {
	// A writer without deadlines is a test's.
	_ = http.NewResponseController(r.ResponseWriter).SetWriteDeadline(time.Now().Add(writeTimeout))
}

// Unwrap gives http.ResponseController what is underneath.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// headerProbe takes an answer's status and headers and drops its body.
type headerProbe struct {
	header http.Header
	status int
}

func (p *headerProbe) Header() http.Header         { return p.header }
func (p *headerProbe) Write(b []byte) (int, error) { return len(b), nil }
func (p *headerProbe) WriteHeader(status int)      { p.status = status }
