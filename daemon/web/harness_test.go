package web_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/api/apitest"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
	"github.com/hyper2kvm/hyper2kvm/daemon/web"
	"github.com/hyper2kvm/hyper2kvm/job"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// daemon is one with a dashboard.
type daemon struct {
	*apitest.Daemon
	t      *testing.T
	tokens *memory.Tokens
	audit  *audit.Log
}

// startOpen runs a daemon that has no token: who is on this machine is its
// administrator.
func startOpen(t *testing.T) *daemon { return start(t, access.SessionOptions{}) }

// startSecured runs one that has a token of each role, called viewer, operator, admin,
// and returns these.
func startSecured(t *testing.T, o access.SessionOptions) (*daemon, map[string]string) {
	d := start(t, o)
	tokens := map[string]string{}
	for _, role := range []access.Role{access.Viewer, access.Operator, access.Admin} {
		tokens[role.String()] = d.token(role.String(), role)
	}
	return d, tokens
}

func start(t *testing.T, o access.SessionOptions) *daemon {
	t.Helper()
	return startWith(t, o, api.Options{}, web.Options{})
}

// startWith is start with more of the API and of the pages.
func startWith(t *testing.T, o access.SessionOptions, more api.Options, pages web.Options) *daemon {
	t.Helper()
	return startKnowing(t, access.Options{}, o, more, pages)
}

// startKnowing is startWith with more by which people are known.
func startKnowing(t *testing.T, known access.Options, o access.SessionOptions, more api.Options, pages web.Options) *daemon {
	t.Helper()
	d := &daemon{t: t, tokens: &memory.Tokens{}, audit: audit.New(&memory.Audit{}, "", nil)}
	known.Tokens = d.tokens
	who := access.New(known)
	sessions := access.NewSessions(who, o)
	more.Access, more.Sessions, more.Audit = who, sessions, d.audit
	d.Daemon = apitest.Start(t, more)
	pages.API, pages.Sessions, pages.Audit, pages.Version = d.API, sessions, d.audit, "1.2.3"
	site := web.New(pages)
	d.API.Mount(site)
	t.Cleanup(func() { d.API.StopStreams(); site.Close() })
	return d
}

func (d *daemon) token(name string, role access.Role) string {
	d.t.Helper()
	token, secret, err := access.NewToken(name, role, time.Now().Add(-2*time.Hour), time.Time{})
	if err == nil {
		err = d.tokens.Create(d.t.Context(), token)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return secret
}

// submit adds a job for the VM with that path and returns its id.
func (d *daemon) submit(vm string) string {
	d.t.Helper()
	s, err := d.Jobs.Submit(d.t.Context(), []job.Definition{{VMPath: vm, OutputPath: "/out"}}, true)
	if err != nil || len(s.IDs) != 1 {
		d.t.Fatal(s, err)
	}
	return s.IDs[0]
}

// running submits a job and returns its id once it runs.
func (d *daemon) running(vm string) string {
	d.t.Helper()
	id := d.submit(vm)
	for got := range d.Runner.Started {
		if got == vm {
			break
		}
	}
	return id
}

// await waits until a job has ended.
func (d *daemon) await(id string) {
	d.t.Helper()
	w, err := d.Jobs.Watch(d.t.Context(), id, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	defer w.Close()
	for err == nil {
		_, err = w.Next(d.t.Context())
	}
	if !errors.Is(err, io.EOF) {
		d.t.Fatal(err)
	}
}

// actions are what the audit log has of changes, the oldest first, as "who did what".
func (d *daemon) actions() []string {
	d.t.Helper()
	records, err := d.audit.Page(d.t.Context(), 0, 1000)
	if err != nil {
		d.t.Fatal(err)
	}
	var out []string
	for i := len(records) - 1; i >= 0; i-- {
		e, err := records[i].Entry()
		if err != nil {
			d.t.Fatal(err)
		}
		if e.Of == 0 {
			out = append(out, e.Who+" "+string(e.Action))
		}
	}
	return out
}

// browser is one that keeps cookies and follows no redirect by itself.
type browser struct {
	d      *daemon
	client *http.Client
}

func (d *daemon) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		d.t.Fatal(err)
	}
	transport := &http.Transport{}
	d.t.Cleanup(transport.CloseIdleConnections)
	return &browser{d, &http.Client{Transport: transport, Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// as is a browser that has signed in with a token.
func (d *daemon) as(token string) *browser {
	d.t.Helper()
	b := d.browser()
	if a := b.signIn(token); a.status != http.StatusSeeOther {
		d.t.Fatalf("sign in: %d %s", a.status, a.body)
	}
	return b
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (b *browser) do(method, path string, form url.Values, header ...string) answer {
	b.d.t.Helper()
	ctx, cancel := context.WithTimeout(b.d.t.Context(), 2*time.Minute)
	defer cancel()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, method, b.d.URL+path, body)
	if err != nil {
		b.d.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := b.client.Do(req)
	if err != nil {
		b.d.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.d.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

func (b *browser) get(path string) answer { b.d.t.Helper(); return b.do("GET", path, nil) }

var markField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// mark is that of the browser's forms, as a page has it.
func (b *browser) mark(page string) string {
	b.d.t.Helper()
	m := markField.FindStringSubmatch(b.get(page).body)
	if m == nil {
		b.d.t.Fatalf("%s has no form", page)
	}
	return m[1]
}

// post sends a form that the page from has.
func (b *browser) post(from, to string, form url.Values) answer {
	b.d.t.Helper()
	if form == nil {
		form = url.Values{}
	}
	form.Set("csrf", b.mark(from))
	return b.do("POST", to, form)
}

func (b *browser) signIn(token string) answer {
	b.d.t.Helper()
	return b.post("/ui/signin", "/ui/signin", url.Values{"token": {token}})
}

// cookie is the browser's cookie of that name, or "".
func (b *browser) cookie(name string) string {
	b.d.t.Helper()
	u, err := url.Parse(b.d.URL + "/ui/")
	if err != nil {
		b.d.t.Fatal(err)
	}
	for _, c := range b.client.Jar.Cookies(u) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// stream is an open live page.
type stream struct {
	t    *testing.T
	path string
	in   *bufio.Scanner
}

// stream opens a live page until the test ends.
func (d *daemon) stream(path string) *stream {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 2*time.Minute)
	d.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", d.URL+path, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	transport := &http.Transport{}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { resp.Body.Close(); transport.CloseIdleConnections() })
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		d.t.Fatal(resp.StatusCode, resp.Header)
	}
	in := bufio.NewScanner(resp.Body)
	in.Buffer(nil, 1<<20)
	return &stream{d.t, path, in}
}

// until reads until an event has the text in it.
func (s *stream) until(text string) {
	s.t.Helper()
	for s.in.Scan() {
		if strings.Contains(s.in.Text(), text) {
			return
		}
	}
	s.t.Fatalf("%s ended before it had %q: %v", s.path, text, s.in.Err())
}
