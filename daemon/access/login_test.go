package access_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

const (
	backTo    = "https://export.example.com/ui/signin/callback"
	theCode   = "code-of-the-provider"
	theSecret = "secret of the client"
)

// desk is a daemon at which browsers sign in by way of a provider.
type desk struct {
	*access.Sessions
	t       *testing.T
	idp     *idp
	passed  atomic.Int64 // since now, for the daemon and the provider
	asked   atomic.Int32 // at the token endpoint
	refused atomic.Int32 // the client's secret was
	nonce   atomic.Value // that the token endpoint puts into ID tokens
}

// startDesk returns one, whose provider signs whoever comes in as alice.
func startDesk(t *testing.T, change ...func(*access.OIDCOptions)) *desk {
	t.Helper()
	d := &desk{t: t, idp: startIDP(t)}
	d.nonce.Store("")
	o := access.OIDCOptions{
		Issuer: d.idp.URL, Audience: "an API", Client: d.idp.Client(), Now: d.now,
		Roles: map[string]access.Role{"exporters": access.Operator, "auditors": access.Viewer},
		Login: &access.LoginOptions{
			ClientID: "hyper2kvm", Scopes: []string{"profile", "groups"},
			Secret:  func(context.Context) (string, error) { return theSecret, nil },
			Refused: func() { d.refused.Add(1) },
		},
	}
	for _, f := range change {
		f(&o)
	}
	who := access.New(access.Options{OIDC: access.NewOIDC(o), Now: d.now})
	d.Sessions = access.NewSessions(who, access.SessionOptions{Now: d.now})
	d.gives(nil, nil)
	return d
}

func (d *desk) now() time.Time { return now.Add(time.Duration(d.passed.Load())) }

// claims are those of a good ID token now, changed as a test says.
func (d *desk) claims(change map[string]any) map[string]any {
	c := d.idp.claims(map[string]any{"nonce": d.nonce.Load(), "iat": d.now().Unix(), "exp": d.now().Add(5 * time.Minute).Unix()})
	for k, v := range change {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	return c
}

func (d *desk) idToken(change map[string]any) string {
	return sign(d.t, jose.RS256, rsaKey(), "rsa", d.claims(change))
}

// gives has the token endpoint give ID tokens with the claims changed, and more beside.
func (d *desk) gives(change, more map[string]any) {
	d.answers(func(w http.ResponseWriter, _ *http.Request) {
		body := map[string]any{"access_token": "access", "token_type": "Bearer", "id_token": d.idToken(change)}
		for k, v := range more {
			body[k] = v
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(body)
	})
}

// says has the token endpoint answer with an error.
func (d *desk) says(status int, code, description string) {
	d.answers(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": description})
	})
}

func (d *desk) answers(h http.HandlerFunc) {
	d.idp.be(func() {
		d.idp.tokens = func(w http.ResponseWriter, r *http.Request) { d.asked.Add(1); h(w, r) }
	})
}

// begin begins to sign in, and returns what the provider is asked as well.
func (d *desk) begin() (access.Attempt, url.Values) {
	d.t.Helper()
	a, err := d.BeginLogin(d.t.Context(), backTo, "/ui/jobs")
	if err != nil {
		d.t.Fatal(err)
	}
	u, err := url.Parse(a.URL)
	if err != nil {
		d.t.Fatal(err)
	}
	q := u.Query()
	d.nonce.Store(q.Get("nonce"))
	return a, q
}

func (d *desk) finish(a access.Attempt, answer url.Values) (access.Login, error) {
	d.t.Helper()
	return d.FinishLogin(d.t.Context(), remote, a.Sealed, answer)
}

// good is an answer of the provider to what it was asked.
func good(q url.Values) url.Values { return url.Values{"state": q["state"], "code": {theCode}} }

// signIn goes all the way.
func (d *desk) signIn() (access.Login, error) {
	d.t.Helper()
	a, q := d.begin()
	return d.finish(a, good(q))
}

// mustSignIn is signIn that is to succeed.
func (d *desk) mustSignIn() access.Login {
	d.t.Helper()
	l, err := d.signIn()
	if err != nil {
		d.t.Fatal(err, errors.Unwrap(err))
	}
	return l
}

// reason checks for which reason somebody was not recognised, and that neither text
// nor log tells what is secret.
func (d *desk) reason(err error, want access.Reason) *access.Denied {
	d.t.Helper()
	denied := new(access.Denied)
	if !errors.As(err, &denied) || denied.Reason != want {
		d.t.Fatalf("%v, want the reason %d", err, want)
	}
	for _, secret := range []string{theCode, theSecret, "eyJ"} {
		if said := fmt.Sprint(denied.Text, denied.Err); strings.Contains(said, secret) {
			d.t.Errorf("%q is told: %s", secret, said)
		}
	}
	return denied
}

// wantReason is reason, when nothing else is to be looked at.
func (d *desk) wantReason(err error, want access.Reason) {
	d.t.Helper()
	_ = d.reason(err, want)
}

func TestABrowserSignsInByCodeWithPKCEAndANonce(t *testing.T) {
	t.Parallel()
	for _, public := range []bool{false, true} {
		d := startDesk(t, func(o *access.OIDCOptions) {
			if public {
				o.Login.Secret = nil
			}
		})
		var form url.Values
		var user, password string
		d.answers(func(w http.ResponseWriter, r *http.Request) {
			user, password, _ = r.BasicAuth()
			body, _ := io.ReadAll(r.Body)
			form, _ = url.ParseQuery(string(body))
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "access", "id_token": d.idToken(nil)})
		})
		a, q := d.begin()
		if !strings.HasPrefix(a.URL, d.idp.URL+"/auth?") || q.Get("response_type") != "code" || q.Get("client_id") != "hyper2kvm" ||
			q.Get("redirect_uri") != backTo || q.Get("scope") != "openid profile groups" || q.Get("code_challenge_method") != "S256" ||
			len(q.Get("code_challenge")) < 43 || len(q.Get("state")) < 43 || len(q.Get("nonce")) < 43 {
			t.Errorf("the provider is asked %s", a.URL)
		}
		if strings.Contains(a.URL, a.Sealed) || access.AttemptName(good(q)) != a.Name {
			t.Errorf("attempt %q of %v", a.Name, q)
		}
		l, err := d.finish(a, good(q))
		if err != nil {
			t.Fatal(err)
		}
		if want := (access.Principal{Name: "alice (42)", Role: access.Operator, Via: access.ViaOIDC}); l.Who != want || l.To != "/ui/jobs" {
			t.Errorf("%+v", l)
		}
		if who, err := d.Identify(t.Context(), l.Secret); err != nil || who != l.Who {
			t.Errorf("%+v, %v", who, err)
		}
		if form.Get("grant_type") != "authorization_code" || form.Get("code") != theCode || form.Get("redirect_uri") != backTo || len(form.Get("code_verifier")) < 43 {
			t.Errorf("the token endpoint is asked %v", form)
		}
		if public && (password != "" || form.Get("client_secret") != "" || form.Get("client_id") != "hyper2kvm") {
			t.Errorf("a public client shows a secret: %v", form)
		}
		if secret, _ := url.QueryUnescape(password); !public && (user != "hyper2kvm" || secret != theSecret) {
			t.Errorf("the client is %q, %q", user, password)
		}
		d.mustSignIn() // another attempt has another verifier
		if again, q2 := d.begin(); again.Sealed == a.Sealed || q2.Get("state") == q.Get("state") || q2.Get("nonce") == q.Get("nonce") || q2.Get("code_challenge") == q.Get("code_challenge") {
			t.Error("two attempts have something in common")
		}
	}
}

func TestAnAnswerThatDoesNotBelongToTheBrowserIsRefusedWithoutAskingTheProvider(t *testing.T) {
	t.Parallel()
	d := startDesk(t)
	other := startDesk(t)
	for name, finish := range map[string]func() error{
		"another browser":               func() error { _, q := d.begin(); _, err := d.finish(access.Attempt{}, good(q)); return err },
		"the cookie of another attempt": func() error { a, _ := d.begin(); _, q := d.begin(); _, err := d.finish(a, good(q)); return err },
		"the cookie of another daemon":  func() error { a, _ := other.begin(); _, q := d.begin(); _, err := d.finish(a, good(q)); return err },
		"a cookie that was changed": func() error {
			a, q := d.begin()
			a.Sealed = "AAAA" + a.Sealed[4:]
			_, err := d.finish(a, good(q))
			return err
		},
		"a cookie that is none": func() error { a, q := d.begin(); a.Sealed = "%%%"; _, err := d.finish(a, good(q)); return err },
		"no state":              func() error { a, _ := d.begin(); _, err := d.finish(a, url.Values{"code": {theCode}}); return err },
		"an empty state": func() error {
			a, _ := d.begin()
			_, err := d.finish(a, url.Values{"code": {theCode}, "state": {""}})
			return err
		},
		"two states": func() error {
			a, q := d.begin()
			_, err := d.finish(a, url.Values{"code": {theCode}, "state": {q.Get("state"), "x"}})
			return err
		},
		"no code": func() error { a, q := d.begin(); _, err := d.finish(a, url.Values{"state": q["state"]}); return err },
		"two codes": func() error {
			a, q := d.begin()
			_, err := d.finish(a, url.Values{"code": {theCode, "x"}, "state": q["state"]})
			return err
		},
		"the answer of another issuer": func() error {
			a, q := d.begin()
			v := good(q)
			v.Set("iss", "https://evil.example")
			_, err := d.finish(a, v)
			return err
		},
		"an answer that took too long": func() error {
			a, q := d.begin()
			d.passed.Add(int64(access.LoginTime))
			_, err := d.finish(a, good(q))
			return err
		},
		"an answer that came once": func() error {
			a, q := d.begin()
			_, _ = d.finish(a, url.Values{"state": q["state"]})
			_, err := d.finish(a, good(q))
			return err
		},
	} {
		d.wantReason(finish(), access.Invalid)
		if n := d.asked.Load(); n != 0 {
			t.Fatalf("%s: the provider was asked", name)
		}
	}
	a, q := d.begin()
	v := good(q)
	v.Set("iss", d.idp.URL)
	if _, err := d.finish(a, v); err != nil {
		t.Fatal("the answer of our issuer, which says so:", err)
	}
	_, err := d.finish(a, v) // with the cookie that the browser no longer has
	d.wantReason(err, access.Invalid)
	if n := d.asked.Load(); n != 1 {
		t.Errorf("the provider was asked %d times", n)
	}
}

func TestWhatTheProviderSaysInPlaceOfACodeIsToldBounded(t *testing.T) {
	t.Parallel()
	d := startDesk(t)
	for code, reason := range map[string]access.Reason{"access_denied": access.Invalid, "temporarily_unavailable": access.Unavailable, "server_error": access.Unavailable} {
		a, q := d.begin()
		_, err := d.finish(a, url.Values{"state": q["state"], "error": {code}, "error_description": {"no\x1b[31m, " + strings.Repeat("really ", 1000)}})
		denied := d.reason(err, reason)
		if !strings.Contains(denied.Text, code+": no") || strings.Contains(denied.Text, "\x1b") || len(denied.Text) > 500 {
			t.Errorf("told %q", denied.Text)
		}
	}
}

func TestAnIDTokenThatIsNotForThisSignInIsRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]map[string]any{
		"the nonce of another":    {"nonce": "another"},
		"no nonce":                {"nonce": nil},
		"an empty nonce":          {"nonce": ""},
		"for another client":      {"aud": "grafana"},
		"for the API of bearers":  {"aud": "an API"},
		"made for another of two": {"aud": []string{"hyper2kvm", "grafana"}, "azp": "grafana"},
		"of another issuer":       {"iss": "https://idp.example.com"},
		"expired":                 {"exp": now.Add(-2 * time.Minute).Unix()},
		"not valid yet":           {"nbf": now.Add(time.Hour).Unix()},
		"issued in a later time":  {"iat": now.Add(time.Hour).Unix()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := startDesk(t)
			d.gives(change, nil)
			_, err := d.signIn()
			if denied := d.reason(err, access.Invalid); denied.Err == nil {
				t.Error("the log is not told why")
			}
		})
	}
	for name, token := range map[string]any{"no ID token": nil, "an empty one": "", "one that is none": "a.b.c", "a number": 7} {
		d := startDesk(t)
		d.gives(nil, map[string]any{"id_token": token})
		_, err := d.signIn()
		d.wantReason(err, access.Invalid)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	d := startDesk(t)
	d.gives(map[string]any{"aud": []string{"hyper2kvm", "grafana"}, "azp": "hyper2kvm"}, nil)
	d.mustSignIn()
}

func TestSomebodyWithoutARoleIsToldWhichClaimWasLookedAt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		groups any
		says   string
	}{
		"no claim":        {nil, "the claim groups of your ID token, which is not in it"},
		"another group":   {[]string{"staff"}, "which holds no value that"},
		"a word too much": {"exporters ", "which holds no value that"},
	} {
		d := startDesk(t)
		d.gives(map[string]any{"groups": c.groups}, nil)
		_, err := d.signIn()
		if none := new(access.NoRoleError); !errors.As(err, &none) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "alice (42)") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// cut is an answer that ends before its end.
func cut(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	fmt.Fprint(w, `{"access_token":"`)
}

func TestATokenEndpointThatFailsIsToldApartFromAWrongAnswer(t *testing.T) {
	t.Parallel()
	d := startDesk(t)
	for name, c := range map[string]struct {
		answer  http.HandlerFunc
		status  int
		code    string
		reason  access.Reason
		refused int32
	}{
		"the code is not good":           {status: 400, code: "invalid_grant", reason: access.Invalid},
		"the code is not good, as 401":   {status: 401, code: "invalid_grant", reason: access.Invalid},
		"the secret is not good":         {status: 401, code: "invalid_client", reason: access.Unavailable, refused: 1},
		"the secret is not good, as 400": {status: 400, code: "invalid_client", reason: access.Unavailable, refused: 1},
		"it fails":                       {status: 500, code: "server_error", reason: access.Unavailable},
		"it is busy":                     {status: 429, code: "slow_down", reason: access.Unavailable},
		"it sends us elsewhere":          {answer: http.RedirectHandler("https://evil.example/token", http.StatusTemporaryRedirect).ServeHTTP, reason: access.Unavailable},
		"it cuts the connection":         {answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, reason: access.Unavailable},
		"it answers nonsense":            {answer: func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, theCode) }, reason: access.Unavailable},
		"it is cut in the middle":        {answer: cut, reason: access.Unavailable},
		"a proxy answers":                {answer: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>"+theCode, http.StatusForbidden) }, reason: access.Unavailable},
		"an error comes with 200":        {status: 200, code: "invalid_grant", reason: access.Invalid},
	} {
		d.refused.Store(0)
		d.says(c.status, c.code, "the code "+theCode+" of "+theSecret)
		if c.answer != nil {
			d.answers(c.answer)
		}
		_, err := d.signIn()
		denied := d.reason(err, c.reason)
		if denied.Err == nil || d.refused.Load() != c.refused {
			t.Errorf("%s: logged %v, refused %d times", name, denied.Err, d.refused.Load())
		}
		if c.code != "" && !strings.Contains(denied.Err.Error(), c.code) {
			t.Errorf("%s: logged %v", name, denied.Err)
		}
	}
}

func TestASecretThatCannotBeReadKeepsNobodyElseOut(t *testing.T) {
	t.Parallel()
	d := startDesk(t, func(o *access.OIDCOptions) {
		o.Login.Secret = func(context.Context) (string, error) { return "", errors.New("no such file") }
	})
	_, err := d.signIn()
	if denied := d.reason(err, access.Unavailable); !strings.Contains(denied.Err.Error(), "no such file") || strings.Contains(denied.Text, "no such file") {
		t.Errorf("told %q, logged %v", denied.Text, denied.Err)
	}
}

func TestSignInsThatTheProviderDoesNotConfirmAreSlowedDown(t *testing.T) {
	t.Parallel()
	d := startDesk(t)
	d.says(400, "invalid_grant", "")
	var err error
	for range 5 {
		_, err = d.signIn()
		d.wantReason(err, access.Invalid)
	}
	_, err = d.signIn()
	if denied := d.reason(err, access.TooMany); denied.RetryAfter <= 0 || d.asked.Load() != 5 {
		t.Errorf("%+v, the provider was asked %d times", denied, d.asked.Load())
	}
	d.gives(nil, nil)
	d.passed.Add(int64(time.Minute))
	d.mustSignIn()
}

func TestASignInBeginsOnceTheProviderAnswersAgain(t *testing.T) {
	t.Parallel()
	d := startDesk(t)
	d.idp.be(func() { d.idp.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) } })
	_, err := d.BeginLogin(t.Context(), backTo, "/ui/")
	if denied := d.reason(err, access.Unavailable); denied.RetryAfter <= 0 || denied.Err == nil {
		t.Errorf("%+v", denied)
	}
	d.idp.be(func() { d.idp.answer = nil })
	d.passed.Add(int64(access.RefetchAfter))
	d.mustSignIn()
}

func TestABrowserIsSentToNoAddressThatOthersCanChangeOnTheWay(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"http://idp.example.com/auth", "javascript:alert(1)", "", "//idp.example.com"} {
		for _, endpoint := range []string{"authorization_endpoint", "token_endpoint"} {
			d := startDesk(t)
			d.idp.be(func() {
				d.idp.answer = func(w http.ResponseWriter, _ *http.Request) {
					doc := map[string]string{"issuer": d.idp.URL, "jwks_uri": d.idp.URL + "/keys", "authorization_endpoint": d.idp.URL + "/auth", "token_endpoint": d.idp.URL + "/token"}
					doc[endpoint] = bad
					_ = json.NewEncoder(w).Encode(doc)
				}
			})
			_, err := d.BeginLogin(t.Context(), backTo, "/ui/")
			d.wantReason(err, access.Unavailable)
		}
	}
}
