package web

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
)

// callbackPath is where the identity provider sends browsers back to.
const callbackPath = api.PagesPath + "signin/callback"

// loginCookie begins the names of cookies of browsers that are at the identity provider,
// one for each attempt, so that two tabs do not disturb each other. They are Lax, as that
// of sessions is: the way back is a plain navigation from another site.
const loginCookie = "hyper2kvm_login_"

const (
	maxAttempts = 5 // of one browser at once
	// maxSealed is how long the cookie of one may be, in bytes: proxies commonly take 8 KiB
	// of all together. What makes it long is the page to come back to.
	maxSealed = 1400
)

// callback is the URL that the identity provider knows. The API has judged the name under
// which the browser has asked.
func (c *call) callback() string {
	if c.o.Address != "" {
		return strings.TrimSuffix(c.o.Address, "/") + callbackPath
	}
	scheme := "http"
	if _, secure := api.SessionCookie(c.r); secure {
		scheme = "https"
	}
	return scheme + "://" + c.r.Host + callbackPath
}

// beginLogin sends the browser to the identity provider. It is a link and no form: the
// policy of pages lets no form lead to another site.
func (c *call) beginLogin() error {
	to := localPath(c.r.URL.Query().Get("to"))
	a, err := c.o.Sessions.BeginLogin(c.r.Context(), c.callback(), to)
	if err == nil && len(a.Sealed) > maxSealed {
		a, err = c.o.Sessions.BeginLogin(c.r.Context(), c.callback(), api.PagesPath)
	}
	if denied := new(access.Denied); errors.As(err, &denied) {
		return c.signInRefused(denied, to)
	}
	if err != nil {
		return err
	}
	c.forgetAttempts()
	c.setCookie(c.cookieName(loginCookie+a.Name), a.Sealed, int(access.LoginTime/time.Second), http.SameSiteLaxMode)
	c.redirect(a.URL)
	return nil
}

// forgetAttempts takes away what a browser has of attempts when these are too many.
func (c *call) forgetAttempts() {
	var old []string
	for _, cookie := range c.r.Cookies() {
		if strings.HasPrefix(cookie.Name, c.cookieName(loginCookie)) {
			old = append(old, cookie.Name)
		}
	}
	if len(old) < maxAttempts {
		return
	}
	for _, name := range old {
		c.setCookie(name, "", -1, http.SameSiteLaxMode)
	}
}

// finishLogin begins the session of who comes back from the identity provider.
func (c *call) finishLogin() error {
	ctx, answer := c.r.Context(), c.r.URL.Query()
	peer, _ := access.PeerFrom(ctx)
	name := c.cookieName(loginCookie + access.AttemptName(answer))
	var sealed string
	if cookie, err := c.r.Cookie(name); err == nil {
		sealed = cookie.Value
		c.setCookie(name, "", -1, http.SameSiteLaxMode)
	}
	login, err := c.o.Sessions.FinishLogin(ctx, peer, sealed, answer)
	if denied := new(access.Denied); errors.As(err, &denied) {
		return c.signInRefused(denied, api.PagesPath)
	}
	if none := new(access.NoRoleError); errors.As(err, &none) {
		c.log.LogAttrs(ctx, slog.LevelWarn, "a sign-in was refused: there is no role", slog.String("user", none.Name),
			slog.String("claim", none.Claim), slog.Bool("missing", none.Missing), slog.String("from", peer.String()))
		return problem{http.StatusForbidden, none.Error()}
	}
	if err != nil {
		return err
	}
	c.began(login.Secret, login.Who)
	c.redirect(login.To)
	return nil
}
