package web_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

const session = "hyper2kvm_session"

func TestEveryPageKeepsScriptsAndFramesOfOthersAway(t *testing.T) {
	t.Parallel()
	b := startOpen(t).browser()
	for _, path := range []string{"/ui/", "/ui/signin", "/ui/nothing"} {
		a := b.get(path)
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
				"form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
			"X-Frame-Options":            "DENY",
			"X-Content-Type-Options":     "nosniff",
			"Referrer-Policy":            "same-origin",
			"Cross-Origin-Opener-Policy": "same-origin",
			"Cache-Control":              "no-store",
		} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		for _, inline := range []string{"<script>", "<style", " style=", " onclick=", " onload=", "javascript:"} {
			if strings.Contains(a.body, inline) {
				t.Errorf("%s has %s in it, which the policy forbids", path, inline)
			}
		}
	}
}

func TestWhoIsNotKnownIsAskedToSignInAndComesBackToThePage(t *testing.T) {
	t.Parallel()
	d, tokens := startSecured(t, access.SessionOptions{})
	b := d.browser()
	if a := b.get("/ui/"); a.status != http.StatusSeeOther || a.header.Get("Location") != "/ui/signin" {
		t.Fatal(a.status, a.header)
	}
	if a := b.do("GET", "/ui/", nil, "Accept", "text/event-stream"); !strings.Contains(a.body, "event: end") {
		t.Error("a live page is not told to sign in:", a.body)
	}
	for at, want := range map[string]string{
		"http://x:1/ui/vms?q=web":     "/ui/signin?to=%2Fui%2Fvms%3Fq%3Dweb",
		"http://x:1/ui/":              "/ui/signin",
		"":                            "/ui/signin",
		"http://x:1/elsewhere":        "/ui/signin",
		"http://x:1//evil.example/ui": "/ui/signin",
	} { // a part of a page leads back to the page
		if a := b.do("GET", "/ui/vms/reading?vcenter=lab", nil, "HX-Request", "true", "HX-Current-URL", at); a.header.Get("HX-Redirect") != want {
			t.Errorf("from %q: %v, want %s", at, a.header, want)
		}
	}
	a := b.post("/ui/signin?to=%2Fui%2F%3Fa%3D1", "/ui/signin", url.Values{"token": {" " + tokens["viewer"] + "\n"}, "to": {"/ui/?a=1"}})
	if a.status != http.StatusSeeOther || a.header.Get("Location") != "/ui/?a=1" {
		t.Fatal(a.status, a.header)
	}
	if a := b.get("/ui/"); a.status != http.StatusOK || !strings.Contains(a.body, "viewer <small>(viewer)") {
		t.Error(a.status, a.body)
	}
	if a := b.post("/ui/", "/ui/signout", nil); a.status != http.StatusSeeOther {
		t.Error(a.status)
	}
	if a := b.get("/ui/"); a.status != http.StatusSeeOther {
		t.Error("after signing out:", a.status)
	}
	if got, want := d.actions(), []string{"viewer sessions.begin", "viewer sessions.end"}; !slices.Equal(got, want) {
		t.Errorf("the audit log has %q, want %q", got, want)
	}
}

func TestSigningInLeadsToNoOtherSite(t *testing.T) {
	t.Parallel()
	d, tokens := startSecured(t, access.SessionOptions{})
	for _, to := range []string{
		"https://evil.example/", "//evil.example/", "/\\evil.example", "/ui/\\..\\evil", "/ui//evil.example", "http:/ui/", "javascript:alert(1)",
		"/ui/../jobs", "/jobs", "\t//evil.example", "/ui/%2e%2e/x", "https://evil.example/ui/", "ui/", "/ui/signin?to=/ui/signin", "",
	} {
		a := d.browser().post("/ui/signin", "/ui/signin", url.Values{"token": {tokens["viewer"]}, "to": {to}})
		if got := a.header.Get("Location"); a.status != http.StatusSeeOther || got != "/ui/" {
			t.Errorf("%q leads to %q (%d)", to, got, a.status)
		}
	}
}

func TestASessionHasAnIDOfItsOwnThatNobodyCanGiveIt(t *testing.T) {
	t.Parallel()
	d, tokens := startSecured(t, access.SessionOptions{})
	b := d.browser()
	u, _ := url.Parse(d.URL + "/ui/")
	b.client.Jar.SetCookies(u, []*http.Cookie{{Name: session, Value: "fixed", Path: "/ui/"}})
	b.signIn(tokens["viewer"])
	first := b.cookie(session)
	b.post("/ui/signin", "/ui/signin", url.Values{"token": {tokens["admin"]}})
	second := b.cookie(session)
	if first == "fixed" || first == "" || second == first {
		t.Errorf("sessions %q, then %q", first, second)
	}
	other := d.browser()
	for _, old := range []string{"fixed", first} {
		other.client.Jar.SetCookies(u, []*http.Cookie{{Name: session, Value: old, Path: "/ui/"}})
		if a := other.get("/ui/"); a.status != http.StatusSeeOther {
			t.Errorf("a session that is not, or is over, is let in: %d", a.status)
		}
	}
}

func TestTheCookieOfASessionIsForThisSiteAlone(t *testing.T) {
	t.Parallel()
	d, tokens := startSecured(t, access.SessionOptions{})
	for _, over := range []string{"http", "https"} {
		b := d.browser()
		page := b.do("GET", "/ui/signin", nil, "X-Forwarded-Proto", over)
		form := url.Values{"token": {tokens["viewer"]}, "csrf": {markField.FindStringSubmatch(page.body)[1]}}
		visitor := regexp.MustCompile(`^[^;]+`).FindString(page.header.Get("Set-Cookie"))
		a := b.do("POST", "/ui/signin", form, "X-Forwarded-Proto", over, "Cookie", visitor)
		cookies := (&http.Response{Header: a.header}).Cookies()
		i := slices.IndexFunc(cookies, func(c *http.Cookie) bool { return strings.HasSuffix(c.Name, session) })
		if i < 0 {
			t.Errorf("%s: no session: %d %s", over, a.status, a.body)
			continue
		}
		c, secure := cookies[i], over == "https"
		if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Secure != secure || strings.HasPrefix(c.Name, "__Host-") != secure || secure && c.Path != "/" || c.Domain != "" {
			t.Errorf("%s: %s", over, c.Raw)
		}
	}
}

func TestASessionEndsWithItsTokenAndHasTheRoleOfIt(t *testing.T) {
	t.Parallel()
	d, tokens := startSecured(t, access.SessionOptions{})
	b := d.as(tokens["operator"])
	if a := b.get("/ui/"); a.status != http.StatusOK {
		t.Fatal(a.status)
	}
	if err := d.tokens.Revoke(t.Context(), "operator", time.Now()); err != nil {
		t.Fatal(err)
	}
	if a := b.get("/ui/"); a.status != http.StatusSeeOther {
		t.Error("the token is revoked, and the session goes on:", a.status)
	}
}

func TestASessionEndsWhenItIsIdleOrOld(t *testing.T) {
	t.Parallel()
	for name, times := range map[string][]time.Duration{"idle": {time.Hour}, "old": {50 * time.Minute, 50 * time.Minute, 50 * time.Minute}} {
		began := time.Now()
		var passed atomic.Int64
		d, tokens := startSecured(t, access.SessionOptions{Idle: time.Hour, Life: 2 * time.Hour, Now: func() time.Time { return began.Add(time.Duration(passed.Load())) }})
		b := d.as(tokens["viewer"])
		for i, wait := range times {
			passed.Add(int64(wait))
			if a := b.get("/ui/"); (a.status == http.StatusOK) != (i < len(times)-1) {
				t.Errorf("%s, step %d: %d", name, i, a.status)
			}
		}
	}
}

func TestASessionIsNoProofForTheRESTInterface(t *testing.T) {
	t.Parallel()
	d, tokens := startSecured(t, access.SessionOptions{})
	b := d.as(tokens["admin"])
	if a := b.do("GET", "/status", nil, "Cookie", session+"="+b.cookie(session)); a.status != http.StatusUnauthorized {
		t.Error(a.status, a.body)
	}
}

func TestWrongTokensAtTheFormAreSlowedDownAsOthersAre(t *testing.T) {
	t.Parallel()
	d, tokens := startSecured(t, access.SessionOptions{})
	b := d.browser()
	var last answer
	for range 7 {
		last = b.signIn(tokens["viewer"][:60] + "x")
	}
	if last.status != http.StatusTooManyRequests || last.header.Get("Retry-After") == "" {
		t.Error(last.status, last.header)
	}
	if strings.Contains(last.body, tokens["viewer"][:20]) {
		t.Error("the page shows what was sent as a token")
	}
}

func TestAFormThatIsNotOursIsRefused(t *testing.T) {
	t.Parallel()
	d, tokens := startSecured(t, access.SessionOptions{})
	b, other := d.as(tokens["operator"]), d.as(tokens["operator"])
	good := b.mark("/ui/")
	for name, a := range map[string]answer{
		"of another site":    b.do("POST", "/ui/signout", url.Values{"csrf": {good}}, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"),
		"of another origin":  b.do("POST", "/ui/signout", url.Values{"csrf": {good}}, "Origin", "https://evil.example"),
		"of a sandbox":       b.do("POST", "/ui/signout", url.Values{"csrf": {good}}, "Origin", "null"),
		"without a mark":     b.do("POST", "/ui/signout", url.Values{}),
		"of another browser": b.do("POST", "/ui/signout", url.Values{"csrf": {other.mark("/ui/")}}),
		"of a visitor":       d.browser().do("POST", "/ui/signin", url.Values{"csrf": {d.browser().mark("/ui/signin")}, "token": {tokens["admin"]}}),
		"in the query":       b.do("POST", "/ui/signout?csrf="+good, url.Values{}),
	} {
		if a.status != http.StatusForbidden {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := b.get("/ui/"); a.status != http.StatusOK {
		t.Error("a form that was refused has signed out")
	}
}

func TestFilesOfOthersAreThoseThatTheListNames(t *testing.T) {
	t.Parallel()
	list, err := os.ReadFile("VENDORED.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile("(?m)^\\| `([^`]+)` .*`([0-9a-f]{64})` \\| .*`([^`]+)` \\|$").FindAllStringSubmatch(string(list), -1)
	if len(lines) != 2 {
		t.Fatalf("%q", lines)
	}
	for _, m := range lines {
		text, err := os.ReadFile("static/" + m[1])
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != m[2] {
			t.Errorf("%s is another file than the list says", m[1])
		}
		if _, err := os.Stat("static/" + m[3]); err != nil {
			t.Error(err)
		}
	}
}

func TestFilesCanBeKeptForGoodAndAreFoundUnderTheirContentAlone(t *testing.T) {
	t.Parallel()
	b := startOpen(t).browser()
	found := regexp.MustCompile(`"(/ui/static/[0-9a-f]{16}/[a-z.]+)"`).FindAllStringSubmatch(b.get("/ui/").body, -1)
	if len(found) != 5 {
		t.Fatalf("%q", found)
	}
	for _, m := range found {
		a := b.get(m[1])
		if a.status != http.StatusOK || !strings.Contains(a.header.Get("Cache-Control"), "immutable") || a.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Error(m[1], a.status, a.header)
		}
		if a := b.get(strings.Replace(m[1], "static/", "static/0", 1)); a.status != http.StatusNotFound || strings.Contains(a.header.Get("Cache-Control"), "immutable") {
			t.Error("under another hash:", a.status, a.header)
		}
	}
}

func TestTheRootLeadsBrowsersToTheDashboardAndNobodyElse(t *testing.T) {
	t.Parallel()
	b := startOpen(t).browser()
	if a := b.do("GET", "/", nil, "Accept", "text/html,*/*"); a.status != http.StatusSeeOther || a.header.Get("Location") != "/ui/" {
		t.Error(a.status, a.header)
	}
	if a := b.get("/"); a.status != http.StatusNotFound || a.header.Get("Content-Type") != "application/problem+json" {
		t.Error(a.status, a.header)
	}
}
