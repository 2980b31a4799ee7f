package access_test

import (
	"context"
	"errors"
	"io"
	"net/http"
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
