package web_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/access/dextest"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/web"
)

// Where the browsers of these tests find the dashboard. Nobody listens there: a test's
// browser brings to its daemon what the provider sends there.
const (
	dashboard    = "http://export.example.com"
	callbackPath = "/ui/signin/callback"
)

// author is who dex signs in.
const author = "kilgore@kilgore.trout (Cg0wLTM4NS0yODA4OS0wEgRtb2Nr)"

// withProvider is a daemon at which dex has people sign in, members of the group authors
// with a role.
type withProvider struct {
	*daemon
	passed atomic.Int64 // since the start, for the daemon
	mu     sync.Mutex
	said   bytes.Buffer
}

// Write implements [io.Writer], for the log.
func (d *withProvider) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.said.Write(b)
}

// logged is all that the daemon has logged.
func (d *withProvider) logged() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.said.String() + d.Log()
}

// startWithProvider returns one of the issuer, changed as a test says.
func startWithProvider(t *testing.T, issuer string, change ...func(*access.OIDCOptions, *web.Options)) *withProvider {
	t.Helper()
	d := &withProvider{}
	began := time.Now()
	log := slog.New(slog.NewJSONHandler(d, &slog.HandlerOptions{Level: slog.LevelDebug}))
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	o := access.OIDCOptions{
		Issuer: issuer, Audience: "hyper2kvm", Roles: map[string]access.Role{"authors": access.Viewer},
		Client: &http.Client{Transport: transport},
		Now:    func() time.Time { return began.Add(time.Since(began) + time.Duration(d.passed.Load())) },
		Login: &access.LoginOptions{
			ClientID: "hyper2kvm", Scopes: []string{"profile", "email", "groups"},
			Secret: func(context.Context) (string, error) { return "secret", nil },
		},
	}
	pages := web.Options{Address: dashboard, Logger: log}
	for _, f := range change {
		f(&o, &pages)
	}
	d.daemon = startKnowing(t, access.Options{OIDC: access.NewOIDC(o), Logger: log}, access.SessionOptions{}, api.Options{}, pages)
	return d
}

// toProvider begins to sign in, and returns where the provider is.
func (b *browser) toProvider(to string) string {
	b.d.t.Helper()
	a := b.get("/ui/signin/provider?" + url.Values{"to": {to}}.Encode())
	if a.status != http.StatusSeeOther {
		b.d.t.Fatal(a.status, a.body)
	}
	return a.header.Get("Location")
}

// atProvider is at the provider, until that sends the browser back, and returns what is
// asked of the daemon then.
func (b *browser) atProvider(address string) string {
	b.d.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.d.t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	var back *url.URL
	away := &http.Client{Transport: transport, Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path != callbackPath {
			return nil
		}
		back = r.URL
		return http.ErrUseLastResponse
	}}
	ctx, cancel := context.WithTimeout(b.d.t.Context(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", address, nil)
	if err != nil {
		b.d.t.Fatal(err)
	}
	resp, err := away.Do(req)
	if err != nil {
		b.d.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if back == nil {
		b.d.t.Fatalf("the provider does not send the browser back: %d %s", resp.StatusCode, body)
	}
	return back.RequestURI()
}

// loginCookies are those of the browser's attempts to sign in.
func (b *browser) loginCookies() []*http.Cookie {
	u, _ := url.Parse(b.d.URL + "/ui/")
	return slices.DeleteFunc(b.client.Jar.Cookies(u), func(c *http.Cookie) bool { return !strings.HasPrefix(c.Name, "hyper2kvm_login_") })
}

func TestOneSignsInAtTheIdentityProvider(t *testing.T) {
	t.Parallel()
	issuer := dextest.Start(t, dashboard+callbackPath)
	t.Run("and is who one is there", func(t *testing.T) { t.Parallel(); signInAndOut(t, issuer) })
	t.Run("with a client that has no secret", func(t *testing.T) { t.Parallel(); signInAsPublicClient(t, issuer) })
	t.Run("in two tabs at once", func(t *testing.T) { t.Parallel(); signInInTwoTabs(t, issuer) })
	t.Run("with the browser that has begun, once, in time", func(t *testing.T) { t.Parallel(); signInWithWrongAnswers(t, issuer) })
	t.Run("and is led to no other site", func(t *testing.T) { t.Parallel(); signInLeadsNowhereElse(t, issuer) })
	t.Run("but not without a role", func(t *testing.T) { t.Parallel(); signInWithoutRole(t, issuer) })
	t.Run("until that ends or renews it", func(t *testing.T) { t.Parallel(); signInUntilTheProviderEndsIt(t, issuer) })
	t.Run("or by token while that is away", func(t *testing.T) { t.Parallel(); signInByTokenMeanwhile(t, issuer) })
	t.Run("whose errors are shown as text", func(t *testing.T) { t.Parallel(); signInRefusedByProvider(t, issuer) })
}

func signInAndOut(t *testing.T, issuer string) {
	d := startWithProvider(t, issuer)
	b := d.browser()
	u, _ := url.Parse(d.URL + "/ui/")
	b.client.Jar.SetCookies(u, []*http.Cookie{{Name: session, Value: "fixed", Path: "/ui/"}})
	page := b.get("/ui/signin?to=%2Fui%2Fjobs%3Fstatus%3Dfailed").body
	link := regexp.MustCompile(`href="(/ui/signin/provider\?to=[^"]+)"`).FindStringSubmatch(page)
	host, _ := url.Parse(issuer)
	if link == nil || !strings.Contains(page, "Sign in at "+host.Host) {
		t.Fatal(page)
	}
	a := b.get(link[1])
	set := (&http.Response{Header: a.header}).Cookies()
	i := slices.IndexFunc(set, func(c *http.Cookie) bool { return strings.HasPrefix(c.Name, "hyper2kvm_login_") })
	if i < 0 || !set[i].HttpOnly || set[i].SameSite != http.SameSiteLaxMode || set[i].MaxAge != 600 || set[i].Domain != "" {
		t.Fatalf("the cookie of the attempt: %v", set)
	}
	back := b.atProvider(a.header.Get("Location"))
	// A browser says that another site has sent it.
	a = b.do("GET", back, nil, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document")
	if a.status != http.StatusSeeOther || a.header.Get("Location") != "/ui/jobs?status=failed" {
		t.Fatal(a.status, a.body, d.logged())
	}
	if secret := b.cookie(session); secret == "" || secret == "fixed" || len(b.loginCookies()) > 0 {
		t.Errorf("session %q, cookies left %v", secret, b.loginCookies())
	}
	if a = b.do("GET", "/ui/jobs?status=failed", nil, "Sec-Fetch-Site", "cross-site"); a.status != http.StatusOK || !strings.Contains(a.body, "kilgore@kilgore.trout") {
		t.Error(a.status, a.body)
	}
	// A viewer is one.
	if a := b.post("/ui/", "/ui/limits", url.Values{"limit": {"1MB/s"}}); a.status != http.StatusForbidden {
		t.Error("a viewer changes the limit:", a.status)
	}
	if a := b.get("/ui/audit"); a.status != http.StatusForbidden {
		t.Error("a viewer reads the audit log:", a.status)
	}
	cookie := b.cookie(session)
	if a := b.do("GET", "/status", nil, "Cookie", session+"="+cookie); a.status != http.StatusUnauthorized {
		t.Error("the session is proof for REST:", a.status)
	}
	if a := b.post("/ui/", "/ui/signout", nil); a.status != http.StatusSeeOther {
		t.Error(a.status)
	}
	if a := d.browser().do("GET", "/ui/", nil, "Cookie", session+"="+cookie); a.status != http.StatusSeeOther {
		t.Error("after signing out:", a.status)
	}
	records, err := d.audit.Page(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range slices.Backward(records) {
		if e, err := r.Entry(); err != nil {
			t.Error(err)
		} else if e.Of == 0 {
			got = append(got, string(e.Action)+" "+string(e.Via)+" "+e.Role.String()+" "+e.Who)
		}
	}
	if want := []string{string(audit.SignIn) + " oidc viewer " + author, string(audit.SignOut) + " oidc viewer " + author}; !slices.Equal(got, want) {
		t.Errorf("the audit log has %q, want %q", got, want)
	}
	answer, _ := url.Parse(back)
	for _, secret := range []string{answer.Query().Get("code"), answer.Query().Get("state"), cookie, "eyJhb", set[i].Value} {
		if strings.Contains(d.logged(), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

// signInAsPublicClient asks for the daemon as localhost, which dex lets every client do
// that has no secret.
func signInAsPublicClient(t *testing.T, issuer string) {
	d := startWithProvider(t, issuer, func(o *access.OIDCOptions, pages *web.Options) {
		o.Login.ClientID, o.Login.Secret, pages.Address = "public", nil, ""
	})
	d.URL = strings.Replace(d.URL, "127.0.0.1", "localhost", 1)
	b := d.browser()
	if a := b.get(b.atProvider(b.toProvider("/ui/"))); a.status != http.StatusSeeOther {
		t.Fatal(a.status, a.body, d.logged())
	}
	if a := b.get("/ui/"); a.status != http.StatusOK {
		t.Error(a.status)
	}
}

func signInInTwoTabs(t *testing.T, issuer string) {
	d := startWithProvider(t, issuer)
	b := d.browser()
	first, second := b.toProvider("/ui/jobs"), b.toProvider("/ui/limits")
	for address, want := range map[string]string{first: "/ui/jobs", second: "/ui/limits"} {
		if a := b.get(b.atProvider(address)); a.status != http.StatusSeeOther || a.header.Get("Location") != want {
			t.Error(a.status, a.header, a.body)
		}
	}
	for range 20 {
		b.toProvider("/ui/")
		if n := len(b.loginCookies()); n > 6 {
			t.Fatalf("a browser has %d cookies of attempts", n)
		}
	}
}

func signInWithWrongAnswers(t *testing.T, issuer string) {
	d := startWithProvider(t, issuer)
	d.token("ci", access.Viewer)
	refused := func(name string, b *browser, back string, cookies ...*http.Cookie) {
		t.Helper()
		u, _ := url.Parse(d.URL + "/ui/")
		b.client.Jar.SetCookies(u, cookies)
		a := b.get(back)
		if a.status != http.StatusUnauthorized || !strings.Contains(a.body, "begin again") || !strings.Contains(a.body, `action="/ui/signin"`) {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if a := b.get("/ui/"); a.status != http.StatusSeeOther {
			t.Errorf("%s: signed in: %d", name, a.status)
		}
	}
	b := d.browser()
	back := b.atProvider(b.toProvider("/ui/"))
	refused("another browser", d.browser(), back)
	refused("another state", b, strings.Replace(back, "state=", "state=x", 1))

	other := d.browser()
	stolen := other.atProvider(other.toProvider("/ui/"))
	refused("the answer to another browser", b, stolen)

	kept := b.loginCookies()
	for _, c := range kept {
		c.Path = "/ui/"
	}
	if a := b.get(back); a.status != http.StatusSeeOther {
		t.Fatal(a.status, a.body)
	}
	refused("an answer that came once", d.browser(), back, kept...)

	late := d.browser()
	back = late.atProvider(late.toProvider("/ui/"))
	d.passed.Add(int64(11 * time.Minute))
	refused("too late", late, back)
	refused("nothing at all", d.browser(), callbackPath)
}

func signInLeadsNowhereElse(t *testing.T, issuer string) {
	d := startWithProvider(t, issuer)
	for _, to := range []string{"https://evil.example/", "//evil.example/", "/\\evil.example", "/ui//evil.example", "/jobs", "/ui/signin/callback", "/ui/" + strings.Repeat("x", 5000), "/ui/?" + strings.Repeat("&", 500), ""} {
		b := d.browser()
		at := b.toProvider(to)
		if cookies := b.loginCookies(); len(cookies) != 1 || len(cookies[0].Value) > 1500 { // of five, proxies take no more
			t.Errorf("%q has cookies that are too long: %v", to, cookies)
		}
		if a := b.get(b.atProvider(at)); a.status != http.StatusSeeOther || a.header.Get("Location") != "/ui/" {
			t.Errorf("%q leads to %q (%d)", to, a.header.Get("Location"), a.status)
		}
	}
}

func signInWithoutRole(t *testing.T, issuer string) {
	d := startWithProvider(t, issuer, func(o *access.OIDCOptions, _ *web.Options) { o.RoleClaim = "realm_access.roles" })
	b := d.browser()
	back := b.atProvider(b.toProvider("/ui/"))
	a := b.get(back)
	if a.status != http.StatusForbidden || !strings.Contains(a.body, "the claim realm_access.roles of your ID token, which is not in it") || !strings.Contains(a.body, "kilgore@kilgore.trout") {
		t.Error(a.status, a.body)
	}
	if strings.Contains(a.body, "eyJ") || b.cookie(session) != "" {
		t.Error("the page shows a token, or there is a session")
	}
	if len(d.actions()) > 0 || !strings.Contains(d.logged(), "realm_access.roles") {
		t.Error(d.actions(), d.logged())
	}
}

func signInUntilTheProviderEndsIt(t *testing.T, issuer string) {
	for scope, want := range map[string]int{"": http.StatusSeeOther, "offline_access": http.StatusOK} {
		d := startWithProvider(t, issuer, func(o *access.OIDCOptions, _ *web.Options) {
			if scope != "" {
				o.Login.Scopes = append(o.Login.Scopes, scope)
			}
		})
		b := d.browser()
		b.get(b.atProvider(b.toProvider("/ui/")))
		if a := b.get("/ui/"); a.status != http.StatusOK {
			t.Fatal(a.status, a.body)
		}
		d.passed.Add(int64(10*time.Minute + time.Second)) // the ID token's
		if a := b.get("/ui/"); a.status != want {
			t.Errorf("scope %q: %d %s %s", scope, a.status, a.body, d.logged())
		}
	}
}

// cable is one to the provider that can be pulled out.
type cable struct {
	http.RoundTripper
	out atomic.Bool
}

func (c *cable) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.out.Load() {
		return nil, errors.New("no route to host")
	}
	return c.RoundTripper.RoundTrip(r)
}

func signInByTokenMeanwhile(t *testing.T, issuer string) {
	wire := &cable{}
	d := startWithProvider(t, issuer, func(o *access.OIDCOptions, _ *web.Options) {
		o.Login.Scopes = append(o.Login.Scopes, "offline_access")
		wire.RoundTripper, o.Client.Transport = o.Client.Transport, wire
	})
	b := d.browser()
	b.get(b.atProvider(b.toProvider("/ui/")))
	wire.out.Store(true)
	d.passed.Add(int64(10*time.Minute + time.Second)) // the ID token's
	a := b.get("/ui/jobs?status=failed")
	if a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "the identity provider cannot be reached") || !strings.Contains(a.body, `href="/ui/signin?to=%2Fui%2Fjobs%3Fstatus%3Dfailed"`) {
		t.Error(a.status, a.body)
	}
	// A live page tries again: the session has not ended.
	if a := b.do("GET", "/ui/live/jobs", nil, "Accept", "text/event-stream"); a.status != http.StatusServiceUnavailable || strings.Contains(a.body, "event: end") {
		t.Error(a.status, a.body)
	}
	if a := b.signIn(d.token("ci", access.Operator)); a.status != http.StatusSeeOther {
		t.Error(a.status, a.body)
	}
	if a := b.get("/ui/jobs?status=failed"); a.status != http.StatusOK || !strings.Contains(a.body, "ci <small>(operator)") {
		t.Error(a.status, a.body)
	}
}

func signInRefusedByProvider(t *testing.T, issuer string) {
	d := startWithProvider(t, issuer)
	b := d.browser()
	at, _ := url.Parse(b.toProvider("/ui/"))
	a := b.get(callbackPath + "?" + url.Values{"state": {at.Query().Get("state")}, "error": {"access_denied"}, "error_description": {"<script>alert(1)</script>"}}.Encode())
	if a.status != http.StatusUnauthorized || strings.Contains(a.body, "<script>alert") || !strings.Contains(a.body, "access_denied: &lt;script&gt;alert(1)") {
		t.Error(a.status, a.body)
	}
}

func TestWithoutTheIdentityProviderOneSignsInByToken(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer gone.Close()
	d := startWithProvider(t, gone.URL)
	b := d.browser()
	a := b.get("/ui/signin/provider?to=%2Fui%2Fjobs")
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "the identity provider cannot be reached") || !strings.Contains(a.body, `value="/ui/jobs"`) {
		t.Error(a.status, a.header, a.body)
	}
	if len(b.loginCookies()) > 0 {
		t.Error("there is a cookie of an attempt that was not begun")
	}
	if a := b.signIn(d.token("ci", access.Viewer)); a.status != http.StatusSeeOther {
		t.Error(a.status, a.body)
	}
	if a := b.get("/ui/"); a.status != http.StatusOK {
		t.Error(a.status)
	}
}

func TestADaemonWithoutAProviderOffersNone(t *testing.T) {
	t.Parallel()
	d, _ := startSecured(t, access.SessionOptions{})
	b := d.browser()
	if a := b.get("/ui/signin"); strings.Contains(a.body, "Sign in at") {
		t.Error(a.body)
	}
	for _, path := range []string{"/ui/signin/provider", callbackPath + "?code=a&state=b"} {
		if a := b.get(path); a.status != http.StatusUnauthorized || !strings.Contains(a.body, "no identity provider") {
			t.Error(path, a.status, a.body)
		}
	}
}
