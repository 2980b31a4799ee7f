package access_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

func TestASessionEndsWithItsIDTokenUnlessTheProviderRenewsIt(t *testing.T) {
	t.Parallel()
	d := startDesk(t)
	l := d.mustSignIn()
	d.passed.Add(int64(5*time.Minute - time.Second))
	if _, err := d.Identify(t.Context(), l.Secret); err != nil {
		t.Error(err)
	}
	d.passed.Add(int64(time.Second))
	_, err := d.Identify(t.Context(), l.Secret)
	d.wantReason(err, access.Invalid)
	if _, err := d.Identify(t.Context(), l.Secret); !errors.Is(err, access.ErrNoSession) {
		t.Error("the session is still there:", err)
	}
}

func TestASessionThatIsRenewedHasTheRoleThatTheProviderGivesNow(t *testing.T) {
	t.Parallel()
	d := startDesk(t)
	d.gives(nil, map[string]any{"refresh_token": "refresh 1"})
	l := d.mustSignIn()
	var refreshes []string
	renewed := func(change map[string]any, next string) {
		d.answers(func(w http.ResponseWriter, r *http.Request) {
			refreshes = append(refreshes, r.FormValue("grant_type")+" "+r.FormValue("refresh_token"))
			w.Header().Set("Content-Type", "application/json")
			body := map[string]any{"access_token": "access", "id_token": d.idToken(change)}
			if next != "" {
				body["refresh_token"] = next
			}
			_ = json.NewEncoder(w).Encode(body)
		})
	}
	identify := func(want access.Role) {
		t.Helper()
		if who, err := d.Identify(t.Context(), l.Secret); err != nil || who.Role != want {
			t.Fatalf("%+v, %v; want %s", who, err, want)
		}
	}
	renewed(map[string]any{"groups": "auditors", "nonce": nil}, "refresh 2")
	identify(access.Operator) // the ID token is still good
	d.passed.Add(int64(5 * time.Minute))
	identify(access.Viewer)
	identify(access.Viewer) // without being asked again
	renewed(map[string]any{"groups": nil}, "")
	d.passed.Add(int64(5 * time.Minute))
	identify(access.Nobody)
	renewed(nil, "")
	d.passed.Add(int64(5 * time.Minute))
	identify(access.Operator)
	if want := []string{"refresh_token refresh 1", "refresh_token refresh 2", "refresh_token refresh 2"}; !slices.Equal(refreshes, want) {
		t.Errorf("the provider was asked %q, want %q", refreshes, want)
	}

	// While it is away, the session is neither good nor over.
	d.says(503, "temporarily_unavailable", "")
	d.passed.Add(int64(5 * time.Minute))
	asked := d.asked.Load()
	for range 3 {
		_, err := d.Identify(t.Context(), l.Secret)
		d.wantReason(err, access.Unavailable)
	}
	if n := d.asked.Load() - asked; n != 1 {
		t.Errorf("a provider that is away was asked %d times", n)
	}
	renewed(nil, "")
	d.passed.Add(int64(access.RefetchAfter))
	identify(access.Operator)

	// Somebody who is signed out there is so here.
	d.says(400, "invalid_grant", "session not active")
	d.passed.Add(int64(5 * time.Minute))
	_, err := d.Identify(t.Context(), l.Secret)
	d.wantReason(err, access.Invalid)
	if _, err := d.Identify(t.Context(), l.Secret); !errors.Is(err, access.ErrNoSession) {
		t.Error("the session is still there:", err)
	}
}

func TestAProviderThatTakesItsTimeToFailIsWaitedForOnce(t *testing.T) {
	t.Parallel()
	d := startDesk(t)
	d.gives(nil, map[string]any{"refresh_token": "refresh"})
	l := d.mustSignIn()
	d.answers(func(w http.ResponseWriter, _ *http.Request) {
		d.passed.Add(int64(20 * time.Second)) // that the browser's other tabs have waited, too
		w.WriteHeader(http.StatusGatewayTimeout)
	})
	d.passed.Add(int64(5 * time.Minute))
	asked := d.asked.Load()
	for range 5 {
		_, err := d.Identify(t.Context(), l.Secret)
		d.wantReason(err, access.Unavailable)
	}
	if n := d.asked.Load() - asked; n != 1 {
		t.Errorf("it was waited for %d times", n)
	}
}

func TestARenewalThatIsOfSomebodyElseEndsTheSession(t *testing.T) {
	t.Parallel()
	d := startDesk(t)
	d.gives(nil, map[string]any{"refresh_token": "refresh"})
	l := d.mustSignIn()
	d.gives(map[string]any{"sub": "43"}, nil)
	d.passed.Add(int64(5 * time.Minute))
	_, err := d.Identify(t.Context(), l.Secret)
	d.wantReason(err, access.Invalid)
}

func TestARenewedSessionIsOverAfterItsTimeAsEveryOther(t *testing.T) {
	t.Parallel()
	d := startDesk(t)
	d.gives(nil, map[string]any{"refresh_token": "refresh"})
	l := d.mustSignIn()
	for range 2 * access.DefaultSessionLife / time.Hour {
		d.passed.Add(int64(30 * time.Minute))
		if _, err := d.Identify(t.Context(), l.Secret); err != nil {
			if !errors.Is(err, access.ErrNoSession) || d.now().Sub(now) < access.DefaultSessionLife {
				t.Errorf("after %v: %v", d.now().Sub(now), err)
			}
			return
		}
	}
	t.Error("it goes on for ever")
}
