package access_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

// silentTokens are in a store that does not answer.
type silentTokens struct{ access.Tokens }

func (silentTokens) Any(ctx context.Context) (bool, error) {
	<-ctx.Done()
	return false, ctx.Err()
}

func TestAStoreThatDoesNotAnswerKeepsARequestForSecondsOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := access.New(access.Options{Tokens: silentTokens{}}).Identify(t.Context(), access.Peer{Loopback: true}, nil)
		denied := new(access.Denied)
		if !errors.As(err, &denied) || denied.Reason != access.Unavailable {
			t.Errorf("Identify = %v", err)
		}
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

// impatient waits less long for one path of a server than the daemon does.
type impatient struct {
	http.RoundTripper
	path string
}

func (i impatient) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path != i.path {
		return i.RoundTripper.RoundTrip(r)
	}
	ctx, cancel := context.WithTimeout(r.Context(), 100*time.Millisecond)
	defer cancel()
	return i.RoundTripper.RoundTrip(r.WithContext(ctx))
}

func TestAProviderThatSaysNothingIsNotWaitedForWithoutEnd(t *testing.T) {
	t.Parallel()
	silent := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the server does not notice that the client goes
		<-r.Context().Done()
	}
	at := func(path string) *desk {
		return startDesk(t, func(o *access.OIDCOptions) {
			client := *o.Client
			client.Transport, o.Client = impatient{client.Transport, path}, &client
		})
	}
	d := at("/.well-known/openid-configuration")
	d.idp.be(func() { d.idp.answer = silent })
	for range 20 { // of which one asks
		_, err := d.BeginLogin(t.Context(), backTo, "/ui/")
		d.wantReason(err, access.Unavailable)
	}
	d = at("/token")
	d.answers(silent)
	_, err := d.signIn()
	d.wantReason(err, access.Unavailable)
}

// wire brings requests to a provider without a network, so that time is a test's.
type wire struct {
	to    http.Handler
	asked atomic.Int32
	hold  chan struct{} // until it is closed, no answer comes; nil holds nothing
	crash bool
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.asked.Add(1)
	if w.crash {
		panic("an answer that nobody has thought of")
	}
	if w.hold != nil {
		select {
		case <-w.hold:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	a := httptest.NewRecorder()
	w.to.ServeHTTP(a, r)
	return a.Result(), nil
}

// over is a daemon that asks the provider over w, by the time that goes by.
func over(p *idp, w *wire) *access.Sessions {
	w.to = p.Config.Handler
	oidc := access.NewOIDC(access.OIDCOptions{Issuer: p.URL, Audience: "hyper2kvm", Client: &http.Client{Transport: w}, Login: &access.LoginOptions{ClientID: "hyper2kvm"}})
	return access.NewSessions(access.New(access.Options{OIDC: oidc}), access.SessionOptions{})
}

func TestWhoComesWhileTheProviderIsAskedWaitsForItsAnswer(t *testing.T) {
	t.Parallel()
	p := startIDP(t)
	synctest.Test(t, func(t *testing.T) {
		w := &wire{hold: make(chan struct{})}
		s := over(p, w)
		ended := make(chan error, 10)
		for range cap(ended) {
			go func() { _, err := s.BeginLogin(t.Context(), backTo, "/ui/"); ended <- err }()
			synctest.Wait()
		}
		if n := w.asked.Load(); n != 1 || len(ended) != 0 {
			t.Errorf("%d requests, %d were not waiting", n, len(ended))
		}
		close(w.hold)
		for range cap(ended) {
			if err := <-ended; err != nil {
				t.Errorf("%v: %v", err, errors.Unwrap(err))
			}
		}
		if n := w.asked.Load(); n != 2 {
			t.Errorf("%d requests, want one for the document and one for the keys", n)
		}
	})
}

func TestAProviderThatSaysNothingIsWaitedForByOneOfThoseWhoComeOneAfterTheOther(t *testing.T) {
	t.Parallel()
	p := startIDP(t)
	synctest.Test(t, func(t *testing.T) {
		w := &wire{hold: make(chan struct{})}
		s := over(p, w)
		began := time.Now()
		for range 20 {
			_, err := s.BeginLogin(t.Context(), backTo, "/ui/")
			if denied := new(access.Denied); !errors.As(err, &denied) || denied.Reason != access.Unavailable {
				t.Fatal(err)
			}
		}
		if d := time.Since(began); d > 15*time.Second {
			t.Errorf("20 sign-ins took %v", d)
		}
		close(w.hold)
		time.Sleep(access.RefetchAfter)
		if _, err := s.BeginLogin(t.Context(), backTo, "/ui/"); err != nil {
			t.Error(err)
		}
	})
}

func TestAnAnswerThatMakesTheDaemonPanicIsTroubleOfTheProvider(t *testing.T) {
	t.Parallel()
	p := startIDP(t)
	_, err := over(p, &wire{crash: true}).BeginLogin(t.Context(), backTo, "/ui/")
	denied := new(access.Denied)
	if !errors.As(err, &denied) || denied.Reason != access.Unavailable || !strings.Contains(fmt.Sprint(denied.Err), "nobody has thought of") || strings.Contains(denied.Text, "nobody") {
		t.Errorf("%v: %v", err, errors.Unwrap(err))
	}
}
