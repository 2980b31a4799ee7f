package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
)

// secured is a daemon that has a token of each role.
type secured struct {
	*daemon
	store  *memory.Tokens
	tokens map[access.Role]string
}

func startSecured(t *testing.T, o api.Options) *secured {
	t.Helper()
	s := &secured{store: &memory.Tokens{}, tokens: map[access.Role]string{access.Nobody: ""}}
	for _, role := range []access.Role{access.Viewer, access.Operator, access.Admin} {
		s.tokens[role] = s.create(t, "the-"+role.String(), role, time.Time{})
	}
	o.Access = access.New(access.Options{Tokens: s.store})
	s.daemon = start(t, o)
	return s
}

// create makes a token and returns what its holder sends.
func (s *secured) create(t *testing.T, name string, role access.Role, expires time.Time) string {
	t.Helper()
	token, secret, err := access.NewToken(name, role, time.Now().Add(-2*time.Hour), expires)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.Create(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	return secret
}

// as makes a request with a token, or without one when it is "".
func (s *secured) as(token, method, path, body string) answer {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return s.send(req)
}

// needs is what each route needs. It says so a second time, because the first is
// what is tested.
var needs = map[string]access.Role{
	"GET /health":                  access.Nobody,
	"GET /health/ready":            access.Nobody,
	"GET /metrics":                 access.Viewer,
	"GET /status":                  access.Viewer,
	"POST /jobs/query":             access.Viewer,
	"GET /jobs/{id}":               access.Viewer,
	"GET /jobs/{id}/events":        access.Viewer,
	"GET /limits":                  access.Viewer,
	"GET /rates":                   access.Viewer,
	"GET /vms":                     access.Viewer,
	"GET /daemons":                 access.Viewer,
	"GET /openapi.json":            access.Viewer,
	"GET /openapi.yaml":            access.Viewer,
	"GET /openapi-3.0.json":        access.Viewer,
	"GET /openapi-3.0.yaml":        access.Viewer,
	"POST /jobs/submit":            access.Operator,
	"POST /jobs/check":             access.Operator,
	"POST /jobs/cancel":            access.Operator,
	"POST /jobs/retry":             access.Operator,
	"POST /jobs/{id}/retry":        access.Operator,
	"POST /jobs/{id}/rollback":     access.Operator,
	"PUT /jobs/{id}/limit":         access.Operator,
	"DELETE /jobs/{id}":            access.Admin,
	"PUT /limits":                  access.Admin,
	"POST /vcenters/{name}/resume": access.Admin,
	"POST /daemons/{id}/drain":     access.Admin,
	"POST /daemons/{id}/resume":    access.Admin,
	"GET /audit":                   access.Admin,
}

func TestEveryRouteLetsInThoseWhoHaveItsRoleAndNobodyElse(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(slices.Sorted(maps.Keys(needs)), slices.Sorted(slices.Values(api.Routes()))); diff != "" {
		t.Errorf("routes (-the test's +the daemon's):\n%s", diff)
	}
	s := startSecured(t, api.Options{})
	for route, least := range needs {
		method, path, _ := strings.Cut(route, " ")
		path = strings.NewReplacer("{id}", "no-such-job", "{name}", "none").Replace(path)
		for role, token := range s.tokens {
			t.Run(fmt.Sprintf("%s as %s", route, role), func(t *testing.T) {
				t.Parallel()
				a := s.as(token, method, path, "{")
				switch {
				case least == access.Nobody || role >= least:
					if a.status == 401 || a.status == 403 || a.status == 429 {
						t.Errorf("HTTP %d %s", a.status, a.body)
					}
				case role == access.Nobody:
					assertProblem(t, a, 401)
					if got := a.header.Get("WWW-Authenticate"); got != `Bearer realm="hyper2kvm"` {
						t.Errorf("WWW-Authenticate: %s", got)
					}
				default:
					assertProblem(t, a, 403)
					if !strings.Contains(decode[models.Problem](t, a).Error, "needs the role "+least.String()) {
						t.Errorf("the role that is needed is not named: %s", a.body)
					}
					if got := a.header.Get("WWW-Authenticate"); !strings.Contains(got, `error="insufficient_scope", scope="`+least.String()+`"`) {
						t.Errorf("WWW-Authenticate: %s", got)
					}
				}
			})
		}
	}
}

func TestWhatAViewerIsRefusedIsNotDone(t *testing.T) {
	t.Parallel()
	s := startSecured(t, api.Options{})
	const job = `{"vm_path":"/vm/slow","output_path":"/out"}`
	id := decode[models.SubmitResult](t, s.as(s.tokens[access.Operator], "POST", "/jobs/submit", job)).JobIDs[0]
	<-s.Runner.Started
	viewer := s.tokens[access.Viewer]
	for _, r := range [][3]string{
		{"POST", "/jobs/cancel", `{"job_ids":["` + id + `"]}`},
		{"POST", "/jobs/submit", job},
		{"PUT", "/jobs/" + id + "/limit", `{"limit":"1MB/s"}`},
		{"DELETE", "/jobs/" + id, ""},
		{"POST", "/jobs/retry", `{"job_ids":["` + id + `"]}`},
	} {
		assertProblem(t, s.as(viewer, r[0], r[1], r[2]), 403)
	}
	all := decode[models.QueryResult](t, s.as(viewer, "POST", "/jobs/query", `{"all":true}`))
	if len(all.Jobs) != 1 || all.Jobs[0].Status != models.StatusRunning || all.Jobs[0].Cancelling || all.Jobs[0].Definition.Options.Limit != "" {
		t.Errorf("%+v", all.Jobs)
	}
}

func TestATokenThatIsNoGoodIsRefusedWithWhatItIs(t *testing.T) {
	t.Parallel()
	s := startSecured(t, api.Options{})
	expired := s.create(t, "expired", access.Admin, time.Now().Add(-time.Hour))
	revoked := s.create(t, "revoked", access.Admin, time.Time{})
	if a := s.as(revoked, "GET", "/status", ""); a.status != 200 {
		t.Fatalf("HTTP %d %s", a.status, a.body)
	}
	if err := s.store.Revoke(t.Context(), "revoked", time.Now()); err != nil {
		t.Fatal(err)
	}
	_, other, err := access.NewToken("other", access.Admin, time.Now(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for want, token := range map[string]string{"unknown token": other, "has expired": expired, "was revoked": revoked, "mistyped": "x"} {
		a := s.as(token, "GET", "/status", "")
		assertProblem(t, a, 401)
		if got := a.header.Get("WWW-Authenticate"); !strings.Contains(a.body, want) || !strings.Contains(got, `error="invalid_token"`) || !strings.Contains(got, want) {
			t.Errorf("want %q in %s and in %s", want, got, a.body)
		}
	}
	for _, secret := range append(slices.Collect(maps.Values(s.tokens)), expired, revoked, other) {
		if secret != "" && strings.Contains(s.Log(), secret[13:]) {
			t.Error("a token's secret is in the log")
		}
	}
}

func TestGuessesGetA429WithHowLongToWait(t *testing.T) {
	t.Parallel()
	s := startSecured(t, api.Options{})
	admin := s.tokens[access.Admin]
	if a := s.as(admin, "GET", "/status", ""); a.status != 200 {
		t.Fatalf("HTTP %d", a.status)
	}
	for range 5 {
		if a := s.as("guess", "GET", "/health", ""); a.status != 200 { // where guesses are counted, too
			t.Fatalf("HTTP %d", a.status)
		}
	}
	a := s.as("guess", "GET", "/status", "")
	assertProblem(t, a, 429)
	if a.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After: %q", a.header.Get("Retry-After"))
	}
	if a := s.as(admin, "GET", "/status", ""); a.status != 200 {
		t.Errorf("who is at work: HTTP %d %s", a.status, a.body)
	}
	if a := s.as("", "GET", "/health", ""); a.status != 200 {
		t.Errorf("who asks for the health: HTTP %d %s", a.status, a.body)
	}
}

func TestTheHealthIsForEverybodyAndItsDetailsAreNot(t *testing.T) {
	t.Parallel()
	tokens := &memory.Tokens{}
	store := &troubled{Store: memory.New()}
	d := startOn(t, store, api.Options{Access: access.New(access.Options{Tokens: tokens})})
	s := &secured{daemon: d, store: tokens}
	operator, viewer := s.create(t, "operator", access.Operator, time.Time{}), s.create(t, "viewer", access.Viewer, time.Time{})
	for _, token := range []string{"", viewer, "guess"} {
		m := keys(t, s.as(token, "GET", "/health", "").body)
		if got := slices.Sorted(maps.Keys(m)); !slices.Equal(got, []string{"status", "timestamp"}) {
			t.Errorf("with token %.4q: %v", token, got)
		}
	}
	if a := s.as(operator, "GET", "/health", ""); !strings.Contains(a.body, "the lock file was removed") {
		t.Errorf("an operator is not told: %s", a.body)
	}
}

func TestARequestHasAnIDWhichIsInTheLogBesideWhoAsked(t *testing.T) {
	t.Parallel()
	s := startSecured(t, api.Options{})
	ask := func(id string) string {
		req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.tokens[access.Viewer])
		if id != "" {
			req.Header.Set("X-Request-ID", id)
		}
		return s.send(req).header.Get("X-Request-ID")
	}
	if got := ask("my-id.1"); got != "my-id.1" {
		t.Errorf("a sane id became %q", got)
	}
	for _, odd := range []string{"", "a b", strings.Repeat("a", 65), `a"b`, "ä"} {
		if got := ask(odd); got == odd || len(got) < 16 {
			t.Errorf("the id %q became %q", odd, got)
		}
	}
	for line := range strings.Lines(s.Log()) {
		if strings.Contains(line, `"request_id":"my-id.1"`) {
			if !strings.Contains(line, `"user":"the-viewer"`) || !strings.Contains(line, `"role":"viewer"`) || !strings.Contains(line, `"via":"token"`) {
				t.Errorf("who asked is not in %s", line)
			}
			return
		}
	}
	t.Error("the request is not in the log")
}

func TestAWatcherWhoseTokenIsRevokedIsCutOff(t *testing.T) {
	t.Parallel()
	s := startSecured(t, api.Options{KeepAlive: 10 * time.Millisecond})
	id := decode[models.SubmitResult](t, s.as(s.tokens[access.Operator], "POST", "/jobs/submit", `{"vm_path":"/vm/slow","output_path":"/out"}`)).JobIDs[0]
	<-s.Runner.Started
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/jobs/"+id+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.tokens[access.Viewer])
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, 1)
	if _, err := resp.Body.Read(buf); err != nil {
		t.Fatal(err)
	}
	if err := s.store.Revoke(t.Context(), "the-viewer", time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Error("the stream ended as if the job had")
	}
}

// unreadable are tokens of a store that cannot be read.
type unreadable struct{ *memory.Tokens }

func (unreadable) Any(context.Context) (bool, error) { return false, errors.New("disk is gone") }

func TestWhenItCannotBeLookedUpWhoAsksNothingIsDone(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{Access: access.New(access.Options{Tokens: unreadable{&memory.Tokens{}}})})
	a := d.post("/jobs/submit", `{"vm_path":"/vm/a","output_path":"/out"}`)
	assertProblem(t, a, 503)
	if a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "disk is gone") {
		t.Errorf("%v %s", a.header, a.body)
	}
	if a := d.get("/health"); a.status != 200 {
		t.Errorf("health: HTTP %d", a.status)
	}
}
