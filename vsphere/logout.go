package vsphere

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"

	"github.com/hyper2kvm/hyper2kvm/internal/panics"
)

// maxFormer is how many sessions that may be alive are remembered. Those before
// them have been idle for long, and end by that (F-INV-2).
const maxFormer = 8

// logout ends the session, and with it those that came before it: a call that was
// refused as NotAuthenticated does not prove that its session had ended. They end
// no earlier than here, because a lease that one of them opened would end with it.
// The error is that of the present one; its cookie is worthless afterwards.
func (s *session) logout(ctx context.Context) error {
	s.mu.Lock()
	former := s.former
	s.former = nil
	s.mu.Unlock()
	var all sync.WaitGroup
	for _, cookie := range former {
		all.Go(func() { _ = panics.Catch(func() error { return s.logoutFormer(ctx, cookie) }) })
	}
	defer all.Wait()
	_, err := methods.Logout(ctx, s, s.farewell())
	if isFault(err, "NotAuthenticated") {
		return nil
	}
	return err
}

func (s *session) farewell() *types.Logout {
	return &types.Logout{This: *s.vim.ServiceContent.SessionManager}
}

// logoutFormer ends the session that a Cookie header names. Nothing depends on
// it: most of them have ended long since.
func (s *session) logoutFormer(ctx context.Context, cookie string) error {
	req := methods.LogoutBody{Req: s.farewell()}
	body, err := xml.Marshal(soap.Envelope{Body: &req})
	if err != nil {
		return err
	}
	return s.attempt(ctx, kindOf(&req), func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.soap.URL().String(), bytes.NewReader(append([]byte(xml.Header), body...)))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", `text/xml; charset="utf-8"`)
		r.Header.Set("SOAPAction", s.soap.Namespace+"/"+s.soap.Version)
		r.Header.Set("Cookie", cookie)
		alone := http.Client{Transport: s.soap.Transport} // without the jar, which has the present session's cookie
		res, err := alone.Do(r)
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, res.Body)
		return res.Body.Close()
	})
}

// dropCookie takes the cookie of the former session from those that are sent.
// Should that session be alive after all, vSphere would refuse a login that comes
// with its cookie as if the password were wrong (F-INV-6); its end waits for
// [session.logout].
func (s *session) dropCookie() {
	if cookie := s.cookie(); cookie != "" {
		s.mu.Lock()
		s.former = append(s.former, cookie)
		s.former = s.former[max(0, len(s.former)-maxFormer):]
		s.mu.Unlock()
	}
	u := *s.soap.URL()
	for _, path := range []string{u.Path, "/"} {
		u.Path = path
		old := s.soap.Jar.Cookies(&u)
		for _, c := range old {
			c.Path, c.MaxAge = path, -1
		}
		s.soap.Jar.SetCookies(&u, old)
	}
}

// cookie is the session's cookie as a Cookie header sends it, with the double
// quotes that vSphere puts around the value (F-NFC-7), or "".
func (s *session) cookie() string {
	u := s.soap.URL()
	jar := s.soap.Jar.Cookies(u)
	if len(jar) == 0 {
		u.Path = "/"
		jar = s.soap.Jar.Cookies(u)
	}
	req := http.Request{Header: http.Header{}}
	for _, c := range jar {
		req.AddCookie(c)
	}
	return req.Header.Get("Cookie")
}
