package api_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
)

func TestAFullQueueAnswersWhenToComeAgain(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(api.New(jobs.New(memory.New(), nil, jobs.Options{MaxQueued: 2}), api.Options{}))
	defer s.Close()
	const one = `{"vm_path":"/dc/vm/a","output_path":"/out"}`
	for _, step := range []struct {
		jobs       int
		status     int
		retryAfter bool
	}{{1, 200, false}, {2, 429, true}, {3, 413, false}, {1, 200, false}, {1, 429, true}} {
		body := "[" + strings.TrimSuffix(strings.Repeat(one+",", step.jobs), ",") + "]"
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/jobs/submit", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != step.status || (resp.Header.Get("Retry-After") != "") != step.retryAfter {
			t.Errorf("%d jobs: %d, Retry-After %q: %s", step.jobs, resp.StatusCode, resp.Header.Get("Retry-After"), answer)
		}
	}
}

// What a token asks for too often is refused, whoever else asks meanwhile.
func TestATokenThatAsksTooOftenIsToldWhenToComeAgain(t *testing.T) {
	t.Parallel()
	s := startSecured(t, api.Options{Pace: access.NewPace(1)})
	var a answer
	for range 1000 { // a slow machine may be slower than the pace for some
		if a = s.as(s.tokens[access.Operator], "GET", "/status", ""); a.status != http.StatusOK {
			break
		}
	}
	if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") != "1" || !strings.Contains(a.body, `"error"`) || !strings.Contains(a.body, "requests_per_second") {
		t.Errorf("%d, Retry-After %q: %s", a.status, a.header.Get("Retry-After"), a.body)
	}
	if a := s.as(s.tokens[access.Viewer], "GET", "/status", ""); a.status != http.StatusOK {
		t.Errorf("another token: %d %s", a.status, a.body)
	}
	if a := s.as("", "GET", "/health", ""); a.status != http.StatusOK {
		t.Errorf("the health: %d %s", a.status, a.body)
	}
}
