package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

// leastRole is what each route needs: the one table of who may do what. A route
// that is not here cannot be registered.
var leastRole = map[string]access.Role{
	"GET /health":       access.Nobody,
	"GET /health/ready": access.Nobody, // its reasons are for operators

	"GET /metrics":                 access.Viewer,
	"GET /status":                  access.Viewer,
	"POST /jobs/query":             access.Viewer,
	"GET /jobs/{id}":               access.Viewer,
	"GET /jobs/{id}/events":        access.Viewer,
	"GET /limits":                  access.Viewer,
	"GET /rates":                   access.Viewer,
	"GET /vms":                     access.Viewer,
	"GET /daemons":                 access.Viewer,
	"GET /openapi.json":            access.Viewer,
	"GET /openapi.yaml":            access.Viewer,
	"GET /openapi-3.0.json":        access.Viewer,
	"GET /openapi-3.0.yaml":        access.Viewer,
	"POST /jobs/submit":            access.Operator,
	"POST /jobs/check":             access.Operator,
	"POST /jobs/cancel":            access.Operator,
	"POST /jobs/retry":             access.Operator,
	"POST /jobs/{id}/retry":        access.Operator,
	"POST /jobs/{id}/rollback":     access.Operator,
	"PUT /jobs/{id}/limit":         access.Operator,
	"DELETE /jobs/{id}":            access.Admin,
	"PUT /limits":                  access.Admin,
	"POST /vcenters/{name}/resume": access.Admin,
	"POST /daemons/{id}/drain":     access.Admin,
	"POST /daemons/{id}/resume":    access.Admin,
	"GET /audit":                   access.Admin,
}

// guardedMux is a mux whose handlers are reached by those alone who have the role
// that the route needs.
type guardedMux struct {
	*http.ServeMux
	api *API
}

// HandleFunc registers a handler behind the check. It panics, as a ServeMux does
// for a pattern that is wrong, when leastRole has no line for the route.
func (m guardedMux) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	least, ok := leastRole[pattern]
	if !ok {
		panic("api: leastRole does not say who may use the route " + pattern)
	}
	if strings.HasPrefix(pattern, "GET /openapi") {
		handler = madeOnce(handler)
	}
	m.ServeMux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if e := m.api.authorize(r.Context(), least); e != nil {
			m.api.refuse(w, e)
			return
		}
		handler(w, r)
	})
}

// madeOnce lets the first request make what the handler then has for all others,
// alone: the framework makes its description at the first request, without a lock.
func madeOnce(handler http.HandlerFunc) http.HandlerFunc {
	var once sync.Once
	return func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { handler(&headerProbe{header: http.Header{}}, r) })
		handler(w, r)
	}
}

// asked is what the API knows of a request beside who it is from.
type asked struct {
	denied error                           // why it is not known who it is from, or nil
	again  func(ctx context.Context) error // asks again
}

type askedKey struct{}

// identify returns the request with who it is from, and its id, in its context. A
// request whose sender is not known goes on: there are routes for everybody.
func (a *API) identify(w http.ResponseWriter, r *http.Request) *http.Request {
	id := access.NewRequestID(r.Header.Get("X-Request-ID"))
	w.Header().Set("X-Request-ID", id)
	peer, known := access.PeerFrom(r.Context())
	if !known {
		peer = peerOf(r)
	}
	peer = senderOf(r, peer)
	ctx := access.WithRequestID(access.WithPeer(r.Context(), peer), id)
	identify := a.identifier(r, peer)
	who, err := identify(ctx)
	ctx = access.WithPrincipal(ctx, who)
	ctx = context.WithValue(ctx, askedKey{}, asked{err, func(ctx context.Context) error {
		now, err := identify(ctx)
		if err == nil && now.Role < who.Role {
			err = errors.New("the role is another one now")
		}
		return err
	}})
	return r.WithContext(ctx)
}

// peerOf is what an http.Server knows of a connection when the listener has not
// said more.
func peerOf(r *http.Request) access.Peer {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return access.Peer{}
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	here, ok := local.(*net.TCPAddr)
	return access.Peer{Addr: remote.Addr(), Loopback: ok && here.IP.IsLoopback() && remote.Addr().Unmap().IsLoopback()}
}

// StillAllowed is for answers of mounted pages that take long: see stillAllowed.
func (a *API) StillAllowed(ctx context.Context) bool { return a.stillAllowed(ctx) }

// Denied is why it is not known who the request of ctx is from, for people, with the
// HTTP status; or 0.
func (a *API) Denied(ctx context.Context) (status int, text string) {
	q, _ := ctx.Value(askedKey{}).(asked)
	if denied := new(access.Denied); errors.As(q.denied, &denied) {
		return StatusOf(a.denied(ctx, denied))
	}
	return 0, ""
}

// stillAllowed reports whether who asked would be let in as before. It is for
// answers that take as long as a job.
func (a *API) stillAllowed(ctx context.Context) bool {
	q, ok := ctx.Value(askedKey{}).(asked)
	if !ok {
		return true
	}
	denied := new(access.Denied)
	err := q.again(ctx)
	// What cannot be judged now is judged later.
	return err == nil || ctx.Err() != nil ||
		errors.As(err, &denied) && (denied.Reason == access.Unavailable || denied.Reason == access.TooMany)
}

// authorize returns why the request of ctx is refused to somebody who needs the
// role least, or nil.
func (a *API) authorize(ctx context.Context, least access.Role) *statusError {
	who := access.FromContext(ctx)
	if least == access.Nobody || who.May(least) {
		return nil
	}
	q, _ := ctx.Value(askedKey{}).(asked)
	if denied := new(access.Denied); errors.As(q.denied, &denied) {
		return a.denied(ctx, denied)
	}
	a.log.LogAttrs(ctx, slog.LevelWarn, "refused: the role does not suffice", slog.Any("needed", least))
	e := failure(http.StatusForbidden, fmt.Sprintf("this needs the role %s; %s (%s) has the role %s", least, who.Name, who.Via, who.Role))
	e.header = http.Header{"Www-Authenticate": {fmt.Sprintf(`%s, error="insufficient_scope", scope="%s"`, challenge, least)}}
	return e
}

// need returns why who asks may not do what the route does, or nil. It is for what is
// done on another way than by the route, as by a page of the dashboard, too.
func (a *API) need(ctx context.Context, route string) error {
	least, ok := leastRole[route]
	if !ok {
		panic("api: leastRole does not say who may use the route " + route)
	}
	if e := a.authorize(ctx, least); e != nil {
		return e
	}
	return nil
}

// May reports whether who asks may use a route, as METHOD /path. A page shows what is
// to be done by that.
func May(ctx context.Context, route string) bool {
	least, ok := leastRole[route]
	return ok && (least == access.Nobody || access.FromContext(ctx).May(least))
}

// challenge tells how to prove who one is (RFC 6750).
const challenge = `Bearer realm="hyper2kvm"`

// denied is the answer to somebody who is not known.
func (a *API) denied(ctx context.Context, d *access.Denied) *statusError {
	level := slog.LevelDebug
	if d.Reason == access.Invalid || d.Reason == access.Unavailable {
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{slog.String("why", d.Text)}
	if d.Err != nil {
		attrs = append(attrs, slog.Any("error", d.Err))
	}
	a.log.LogAttrs(ctx, level, "refused: it is not known who asks", attrs...)
	e := failure(http.StatusUnauthorized, d.Text)
	switch d.Reason {
	case access.Missing:
		e.header = http.Header{"Www-Authenticate": {challenge}}
	case access.Invalid:
		e.header = http.Header{"Www-Authenticate": {fmt.Sprintf(`%s, error="invalid_token", error_description=%s`, challenge, strconv.Quote(d.Text))}}
	case access.TooMany:
		e.status = http.StatusTooManyRequests
	case access.Unavailable:
		e.status = http.StatusServiceUnavailable
	}
	e.retryAfter = seconds(d.RetryAfter)
	return e
}

// requestHandler adds to what is logged about a request its id and who it is from.
type requestHandler struct{ slog.Handler }

// Handle implements [slog.Handler].
func (h requestHandler) Handle(ctx context.Context, r slog.Record) error {
	if id := access.RequestID(ctx); id != "" {
		r.AddAttrs(slog.String("request_id", id))
	}
	if who := access.FromContext(ctx); who.Via != "" {
		r.AddAttrs(slog.String("user", who.Name), slog.Any("role", who.Role), slog.String("via", string(who.Via)))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h requestHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return requestHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (h requestHandler) WithGroup(name string) slog.Handler {
	return requestHandler{h.Handler.WithGroup(name)}
}
