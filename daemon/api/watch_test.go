package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
	"github.com/hyper2kvm/hyper2kvm/daemon/watch"
)

// reasons is a Readiness that knows its answer.
type reasons []watch.Reason

func (r reasons) Check(context.Context) []watch.Reason { return r }

// ready asks for /health/ready as somebody.
func (s *secured) ready(as access.Role) (answer, models.Readiness) {
	s.t.Helper()
	a := s.as(s.tokens[as], http.MethodGet, "/health/ready", "")
	var body models.Readiness
	if err := json.Unmarshal([]byte(a.body), &body); err != nil {
		s.t.Fatal(err)
	}
	return a, body
}

func TestReadinessHasItsReasonsForOperatorsOnly(t *testing.T) {
	t.Parallel()
	s := startSecured(t, api.Options{Ready: reasons{
		{Check: watch.CheckVCenter, Name: "prod", Fatal: true, Text: "unreachable"},
		{Check: watch.CheckStore, Text: "the lock file was removed"},
	}})
	for as, sees := range map[access.Role]bool{access.Nobody: false, access.Viewer: false, access.Operator: true, access.Admin: true} {
		a, body := s.ready(as)
		text := a.body
		if a.status != http.StatusServiceUnavailable || body.Status != models.NotReady || body.Timestamp.IsZero() {
			t.Errorf("as %v: %d %s", as, a.status, text)
		}
		if sees != strings.Contains(text, "prod") || sees != (len(body.Reasons) == 2) {
			t.Errorf("as %v: %s", as, text)
		}
		if sees && (body.Reasons[0].Severity != models.SeverityError || body.Reasons[1].Severity != models.SeverityWarning) {
			t.Errorf("as %v: %s", as, text)
		}
	}
}

func TestWithoutMoreTheDaemonIsReadyWhenItsStoreIs(t *testing.T) {
	t.Parallel()
	store := &troubled{Store: memory.New()}
	d := startOn(t, store, api.Options{})
	if a := d.do("GET", "/health/ready", "", ""); a.status != http.StatusOK || !strings.Contains(a.body, "the lock file was removed") {
		t.Errorf("%+v", a)
	}
	store.err.Store(&jobs.StoreError{Trouble: jobs.TroubleFull, Err: errors.New("no room")})
	if a := d.do("GET", "/health/ready", "", ""); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, `"message":"no room"`) {
		t.Errorf("%+v", a)
	}
}

// requests is an Observer that keeps what it is told.
type requests struct {
	mu    sync.Mutex
	seen  []string
	begun int
}

func (r *requests) Begin() func(string, string, int, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun++
	return func(method, route string, status int, _ time.Duration) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.seen = append(r.seen, method+" "+route+" "+http.StatusText(status))
	}
}

func TestEveryRequestIsObservedByItsPatternAndNotItsPath(t *testing.T) {
	t.Parallel()
	seen := new(requests)
	d := start(t, api.Options{Observer: seen, Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = w.Write([]byte("answer 42\n"))
	})})
	d.do("GET", "/jobs/some-id", "", "")
	d.do("GET", "/no/such/path/some-id", "", "")
	d.do("PATCH", "/jobs/query", "", "")
	if a := d.do("GET", "/metrics", "", ""); a.status != 200 || a.body != "answer 42\n" || a.header.Get("Content-Type") != "text/plain; version=0.0.4" {
		t.Errorf("metrics: %+v", a)
	}
	want := []string{"GET /jobs/{id} Not Found", "GET none Not Found", "PATCH none Method Not Allowed", "GET /metrics OK"}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	if !slices.Equal(seen.seen, want) || seen.begun != len(want) {
		t.Errorf("%d begun, seen %q, want %q", seen.begun, seen.seen, want)
	}
}

func TestADaemonThatCountsNothingSaysSo(t *testing.T) {
	t.Parallel()
	if a := start(t, api.Options{}).do("GET", "/metrics", "", ""); a.status != http.StatusNotImplemented {
		t.Errorf("%+v", a)
	}
}
