package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/api/apitest"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// manyJobs is a daemon with n jobs.
func manyJobs(t *testing.T, n int) *apitest.Daemon {
	t.Helper()
	store := memory.New()
	batch := make([]jobs.NewJob, n)
	for i := range batch {
		batch[i] = jobs.NewJob{Definition: job.Definition{
			ID: fmt.Sprintf("job-%04d", i), Name: "a < b & c", VMPath: "/vm", OutputPath: "/out",
		}.WithDefaults()}
	}
	if err := store.Create(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	return apitest.StartOn(t, store, api.Options{})
}

func TestThousandsOfJobsAreListedPageByPage(t *testing.T) {
	t.Parallel()
	const n = 2500
	d := manyJobs(t, n)
	var out, errOut bytes.Buffer
	if code := run(t.Context(), []string{"h2kvmctl", "-daemon", d.URL, "query", "-all"}, nil, &out, &errOut); code != 0 {
		t.Fatalf("exit code %d: %s", code, errOut.String())
	}
	if text := out.String(); strings.Count(text, "\njob-") != n || !strings.Contains(text, "SUCCESS Found 2500 job(s), 2500 shown") {
		t.Errorf("%d rows; the end is %q", strings.Count(text, "\njob-"), text[max(0, len(text)-200):])
	}
	for _, args := range []struct {
		flags []string
		want  int
		next  bool
	}{{[]string{"-all"}, n, false}, {[]string{"-limit", "1200"}, 1200, true}, {[]string{"-status", "failed"}, 0, false}, {[]string{"-id", "job-0001,job-0002"}, 2, false}} {
		out.Reset()
		code := run(t.Context(), append([]string{"h2kvmctl", "-daemon", d.URL, "-json", "query"}, args.flags...), nil, &out, &errOut)
		var r models.QueryResult
		if err := json.Unmarshal(out.Bytes(), &r); code != 0 || err != nil {
			t.Fatalf("%v: exit code %d, %v: %s", args.flags, code, err, errOut.String())
		}
		if len(r.Jobs) != args.want || (r.NextCursor != "") != args.next || r.Jobs == nil || r.Timestamp.IsZero() {
			t.Errorf("%v: %d jobs, total %d, next %q", args.flags, len(r.Jobs), r.Total, r.NextCursor)
		}
		// It is indented as one answer would be.
		var whole bytes.Buffer
		enc := json.NewEncoder(&whole)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(r); err != nil || whole.String() != out.String() {
			t.Errorf("%v: printed other than one answer (%v):\n%.600s", args.flags, err, out.String())
		}
	}
}

// counting counts requests and refuses to carry a large answer.
type counting struct{ n atomic.Int64 }

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, 1<<20)
	}
	return resp, err
}

func TestNoAnswerIsLarge(t *testing.T) {
	t.Parallel()
	d := manyJobs(t, 2500)
	transport := &counting{}
	c, err := client.New(d.URL, client.Options{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	whole, err := resolve(t.Context(), c, []string{"job-24"})
	if err == nil || !strings.Contains(err.Error(), "fits 100 jobs") {
		t.Errorf("resolve: %v, %v", whole, err)
	}
	if n := transport.n.Load(); n != 4 {
		t.Errorf("%d requests, want one for the id and three pages", n)
	}
}
