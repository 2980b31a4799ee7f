package web

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
)

const signInPath = api.PagesPath + "signin"

// visitorCookie marks a browser that has not signed in, so that a form for it is made
// for it alone.
const visitorCookie = "hyper2kvm_visitor"

func (s *Site) signInPages() []page {
	return []page{
		{route: "GET signin", needs: public, serve: (*call).signInForm},
		{route: "POST signin", needs: public, serve: (*call).signIn},
		{route: "GET signin/provider", needs: public, serve: (*call).beginLogin},
		{route: "GET signin/callback", needs: public, serve: (*call).finishLogin},
		{route: "POST signout", needs: public, serve: (*call).signOut},
	}
}

// signInData is what signin.html shows.
type signInData struct {
	To       string // where to go then
	Error    string
	Provider string // host of the identity provider at which one can sign in, or ""
}

// visitor returns the browser's mark, which it is given if it has none.
func (c *call) visitor() string {
	name := c.cookieName(visitorCookie)
	if cookie, err := c.r.Cookie(name); err == nil && cookie.Value != "" {
		return cookie.Value
	}
	mark := rand.Text()
	c.setCookie(name, mark, 0, http.SameSiteStrictMode)
	c.r.AddCookie(&http.Cookie{Name: name, Value: mark}) //nolint:gosec // for what this request does yet
	return mark
}

func (c *call) signInForm() error {
	return c.show("signin.html", "Sign in", c.signInData(localPath(c.r.URL.Query().Get("to")), ""))
}

// signInData is what the form needs; why says what is wrong.
func (c *call) signInData(to, why string) signInData {
	d := signInData{To: to, Error: why}
	if u, err := url.Parse(c.o.Sessions.Provider()); err == nil {
		d.Provider = u.Host
	}
	return d
}

// localPath returns a path of ours to go to, whatever a link says.
func localPath(to string) string {
	u, err := url.Parse(to)
	switch {
	case err != nil, u.Scheme != "", u.Host != "", u.User != nil, u.Opaque != "",
		!strings.HasPrefix(u.Path, api.PagesPath), strings.ContainsAny(to, "\\\r\n\t"), strings.Contains(u.Path, "//"),
		strings.HasPrefix(u.Path, signInPath), strings.Contains(u.Path, ".."):
		return api.PagesPath
	}
	return to
}

func (c *call) signIn() error {
	ctx := c.r.Context()
	peer, _ := access.PeerFrom(ctx)
	to := localPath(c.r.PostForm.Get("to"))
	secret, who, err := c.o.Sessions.SignIn(ctx, peer, strings.TrimSpace(c.r.PostForm.Get("token")))
	if denied := new(access.Denied); errors.As(err, &denied) {
		return c.signInRefused(denied, to)
	}
	if err != nil {
		return err
	}
	c.began(secret, who)
	c.redirect(to)
	return nil
}

// signInRefused shows the form again, with why.
func (c *call) signInRefused(d *access.Denied, to string) error {
	ctx := c.r.Context()
	peer, _ := access.PeerFrom(ctx)
	attrs := []slog.Attr{slog.String("why", d.Text), slog.String("from", peer.String())}
	if d.Err != nil {
		attrs = append(attrs, slog.Any("error", d.Err))
	}
	c.log.LogAttrs(ctx, slog.LevelWarn, "a sign-in was refused", attrs...)
	status := map[access.Reason]int{
		access.TooMany: http.StatusTooManyRequests, access.Unavailable: http.StatusServiceUnavailable,
	}[d.Reason]
	if status == 0 {
		status = http.StatusUnauthorized
	}
	text := d.Text
	if d.RetryAfter > 0 {
		seconds := int((d.RetryAfter + time.Second - 1) / time.Second)
		c.w.Header().Set("Retry-After", strconv.Itoa(seconds))
		text += " (" + strconv.Itoa(seconds) + " s)"
	}
	return c.write(status, "signin.html", "layout", c.layout("Sign in", c.signInData(to, text)))
}

// began gives the browser its new session, in place of the one that it had.
func (c *call) began(secret string, who access.Principal) {
	name, _ := api.SessionCookie(c.r)
	if old, err := c.r.Cookie(name); err == nil {
		c.o.Sessions.End(old.Value)
	}
	c.setCookie(name, secret, 0, http.SameSiteLaxMode)
	c.note(access.WithPrincipal(c.r.Context(), who), audit.SignIn)
}

// note writes a sign-in or sign-out into the audit log. Unlike changes, it is not
// refused when that fails: who looks after a daemon in trouble has to see it.
func (c *call) note(ctx context.Context, action audit.Action) {
	change, err := c.o.Audit.Begin(ctx, audit.Entry{Action: action})
	if err != nil {
		c.log.LogAttrs(ctx, slog.LevelError, "not in the audit log", slog.String("action", string(action)), slog.Any("error", err))
		return
	}
	_ = change.End(ctx, audit.Entry{Status: http.StatusOK}) // it logs what is wrong
}

func (c *call) signOut() error {
	name, _ := api.SessionCookie(c.r)
	cookie, err := c.r.Cookie(name)
	if err != nil {
		c.redirect(api.PagesPath)
		return nil
	}
	if access.FromContext(c.r.Context()).Role > access.Nobody {
		c.note(c.r.Context(), audit.SignOut)
	}
	c.o.Sessions.End(cookie.Value)
	c.setCookie(name, "", -1, http.SameSiteLaxMode)
	c.redirect(signInPath)
	return nil
}
