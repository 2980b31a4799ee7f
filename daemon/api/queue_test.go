package api_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

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
