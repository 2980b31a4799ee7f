package web

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
)

// call is one request, and the answer to it.
type call struct {
	*Site
	w       http.ResponseWriter
	r       *http.Request
	at      string // path of the page, for the menu
	unknown bool   // it cannot be told now who asks, or they have no role
}

// problem is an error with its HTTP status and its text for people.
type problem struct {
	status int
	text   string
}

func (p problem) Error() string { return p.text }

// formTimeout bounds how long a form may take to arrive.
const formTimeout = 30 * time.Second

// admitted reports whether the page is to be served: who asks may see it, and a form is
// one of ours. Otherwise it has answered.
func (c *call) admitted(p page) bool {
	if p.needs != public && !api.May(c.r.Context(), p.needs) {
		c.refused()
		return false
	}
	if c.r.Method == http.MethodPost {
		if err := c.readForm(); err != nil {
			c.failed(err)
			return false
		}
	}
	return true
}

// refused answers who may not see the page: those who are not known are asked to sign in.
func (c *call) refused() {
	who := access.FromContext(c.r.Context())
	if status, text := c.api.Denied(c.r.Context()); status != 0 {
		switch {
		case status == http.StatusUnauthorized && strings.HasPrefix(c.r.Header.Get("Accept"), "text/event-stream"):
			c.w.Header().Set("Content-Type", "text/event-stream")
			_, _ = c.w.Write([]byte(eventEnd))
			return
		case status == http.StatusUnauthorized:
			c.toSignIn()
			return
		}
		c.unknown = true
		c.failed(problem{status, text})
		return
	}
	c.unknown = who.Role == access.Nobody
	c.failed(problem{http.StatusForbidden, fmt.Sprintf("The role %s of %s does not suffice for this.", who.Role, who.Name)})
}

// toSignIn sends the browser to the form, from where it comes back to a page that it
// has asked for.
func (c *call) toSignIn() { c.redirect(c.signInAddress()) }

func (c *call) signInAddress() string {
	if c.r.Method != http.MethodGet {
		return signInPath
	}
	to := c.r.URL.RequestURI()
	if c.isFragment() { // which is no page to come back to, but is in one
		to = ""
		if u, err := url.Parse(c.r.Header.Get("HX-Current-URL")); err == nil {
			to = u.RequestURI()
		}
	}
	if to = localPath(to); to == api.PagesPath {
		return signInPath
	}
	return signInPath + "?" + url.Values{"to": {to}}.Encode()
}

// redirect sends the browser to another page.
func (c *call) redirect(to string) {
	if c.isFragment() {
		c.w.Header().Set("HX-Redirect", to)
		c.w.WriteHeader(http.StatusOK)
		return
	}
	http.Redirect(c.w, c.r, to, http.StatusSeeOther)
}

// isFragment reports whether a script of a page asks, which wants a part of one.
func (c *call) isFragment() bool { return c.r.Header.Get("HX-Request") == "true" }

// readForm reads the form of a POST, which must bear the mark of one of our own.
func (c *call) readForm() error {
	rc := http.NewResponseController(c.w)
	_ = rc.SetReadDeadline(time.Now().Add(formTimeout)) // a writer without deadlines is a test's
	defer func() { _ = rc.SetReadDeadline(time.Time{}) }()
	c.r.Body = http.MaxBytesReader(c.w, c.r.Body, maxForm)
	if err := c.r.ParseForm(); err != nil {
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			return problem{http.StatusRequestEntityTooLarge, fmt.Sprintf("The form is larger than %d bytes.", tooLarge.Limit)}
		}
		return problem{http.StatusBadRequest, "The form cannot be read."}
	}
	if !c.o.Sessions.Marked(c.binding(), c.r.PostForm.Get(csrfField)) {
		return problem{http.StatusForbidden, "The form is not of this session, or too old. Go back, reload the page, and try again."}
	}
	return nil
}

// csrfField is the field of a form that has its mark.
const csrfField = "csrf"

// binding is what a form is bound to: the browser's session, or what it has instead.
func (c *call) binding() string {
	name, _ := api.SessionCookie(c.r)
	if cookie, err := c.r.Cookie(name); err == nil && cookie.Value != "" {
		return "session " + cookie.Value
	}
	if who := access.FromContext(c.r.Context()); who.Role > access.Nobody {
		return "principal " + string(who.Via) + " " + who.Name
	}
	return "visitor " + c.visitor()
}

// cookieName is the name of a cookie that lasts for the time being. Over TLS it has a
// prefix, with which no other host can set it.
func (c *call) cookieName(name string) string {
	if _, secure := api.SessionCookie(c.r); secure {
		return "__Host-" + name
	}
	return name
}

// setCookie gives the browser a cookie; maxAge is in seconds, as [http.Cookie] has it.
func (c *call) setCookie(name, value string, maxAge int, site http.SameSite) {
	_, secure := api.SessionCookie(c.r)
	path := api.PagesPath
	if secure {
		path = "/" // as the prefix wants it
	}
	http.SetCookie(c.w, &http.Cookie{Name: name, Value: value, Path: path, MaxAge: maxAge, HttpOnly: true, Secure: secure, SameSite: site})
}

// told is the cookie with what is to be said on the next page.
const told = "hyper2kvm_told"

// maxTold bounds that, in bytes.
const maxTold = 1000

// back sends the browser to a page that says what was done.
func (c *call) back(path, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if len(text) > maxTold {
		text = strings.ToValidUTF8(text[:maxTold], "") + "…"
	}
	c.setCookie(c.cookieName(told), base64.RawURLEncoding.EncodeToString([]byte(text)), 60, http.SameSiteStrictMode)
	c.redirect(path)
	return nil
}

// takeTold returns what the page before wants said, once.
func (c *call) takeTold() string {
	cookie, err := c.r.Cookie(c.cookieName(told))
	if err != nil {
		return ""
	}
	c.setCookie(c.cookieName(told), "", -1, http.SameSiteStrictMode)
	text, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil || len(text) > maxTold+len("…") {
		return ""
	}
	return string(text)
}

// may reports whether who asks may use a route of REST, and with it what a page has for
// the same.
func (c *call) may(route string) bool { return api.May(c.r.Context(), route) }

// failed answers with an error, as a page or a fragment.
func (c *call) failed(err error) {
	p := new(problem)
	if !errors.As(err, p) {
		p.status, p.text = api.StatusOf(err)
		if p.status == http.StatusInternalServerError {
			c.log.LogAttrs(c.r.Context(), slog.LevelError, "a page failed", slog.String("path", c.r.URL.Path), slog.Any("error", err))
		}
	}
	data := struct {
		Status int
		Name   string
		Text   string
		SignIn string // where to do so as somebody who may
	}{Status: p.status, Name: http.StatusText(p.status), Text: p.text}
	if c.unknown {
		data.SignIn = c.signInAddress()
	}
	if c.isFragment() {
		c.w.Header().Set("HX-Retarget", "#told")
		c.w.Header().Set("HX-Reswap", "innerHTML")
		err = c.write(p.status, "error.html", "failure", data)
	} else {
		err = c.write(p.status, "error.html", "layout", c.layout(data.Name, data))
	}
	if err != nil {
		c.log.LogAttrs(c.r.Context(), slog.LevelError, "an error could not be shown", slog.Any("error", err))
	}
}
