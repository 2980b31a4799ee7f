package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

// PagesPath is below which the dashboard's pages are.
const PagesPath = "/ui/"

// Mount has h answer all that is below [PagesPath], and sends browsers there that ask
// for the root. Requests reach it as they do every route: with Host and origin checked,
// who asks known, and paced. Whether who asks may is for h to say. It must be called
// before the first request.
func (a *API) Mount(h http.Handler) {
	a.mux.Handle(PagesPath, h)
	a.mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept"), "text/html") {
			a.refuse(w, notFound())
			return
		}
		http.Redirect(w, r, PagesPath, http.StatusSeeOther)
	})
}

// Stopping is closed when streams are to end, because the daemon does.
func (a *API) Stopping() <-chan struct{} { return a.stopping }

// SessionCookie is the cookie of a signed-in browser's session: its name, which over TLS
// begins with a prefix that keeps other hosts from setting it, and whether the request
// came over TLS, here or up to a proxy.
func SessionCookie(r *http.Request) (name string, secure bool) {
	const name0 = "hyper2kvm_session"
	if r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
		return "__Host-" + name0, true
	}
	return name0, false
}

// session returns the secret of the request's session, or "". It counts for pages alone:
// the REST interface never takes a cookie for proof, so that no other site's page can
// use it.
func (a *API) session(r *http.Request) string {
	if a.o.Sessions == nil || !strings.HasPrefix(r.URL.Path, PagesPath) {
		return ""
	}
	name, _ := SessionCookie(r)
	c, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	return c.Value
}

// identifier returns what finds out who a request is from. A session comes before what
// the connection proves, and one that has ended counts for nothing.
func (a *API) identifier(r *http.Request, peer access.Peer) func(ctx context.Context) (access.Principal, error) {
	authorization, secret := r.Header.Values("Authorization"), a.session(r)
	return func(ctx context.Context) (access.Principal, error) {
		if secret != "" && len(authorization) == 0 {
			who, err := a.o.Sessions.Identify(ctx, secret)
			if !errors.Is(err, access.ErrNoSession) {
				return who, err
			}
		}
		return a.access.Identify(ctx, peer, authorization)
	}
}

// notFound is the answer where there is no route.
func notFound() *statusError {
	return failure(http.StatusNotFound, "no such endpoint; GET /openapi.yaml lists them")
}
