package api_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/api/apitest"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// daemon is a running daemon, and how tests speak to it.
type daemon struct {
	*apitest.Daemon
	t    *testing.T
	http *http.Client
}

// start runs a daemon until the test ends.
func start(t *testing.T, o api.Options) *daemon {
	t.Helper()
	return startOn(t, memory.New(), o)
}

// startOn is start with a store of the test's own.
func startOn(t *testing.T, store jobs.Store, o api.Options) *daemon {
	t.Helper()
	d := &daemon{Daemon: apitest.StartOn(t, store, o), t: t, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 600}}}
	t.Cleanup(d.http.CloseIdleConnections)
	return d
}

type answer struct {
	status int
	header http.Header
	body   string
}

// do makes a request with the media type ct.
func (d *daemon) do(method, path, ct, body string) answer {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), method, d.URL+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	if ct != "" {
		req.Header.Set("Content-Type", ct)
	}
	return d.send(req)
}

func (d *daemon) send(req *http.Request) answer {
	d.t.Helper()
	resp, err := d.http.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	if !described(req.Method, req.URL.Path, resp.StatusCode) {
		d.t.Errorf("%s %s is answered with %d, which the OpenAPI description does not know: %s", req.Method, req.URL.Path, resp.StatusCode, b)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func (d *daemon) get(path string) answer { d.t.Helper(); return d.do("GET", path, "", "") }
func (d *daemon) post(path, body string) answer {
	d.t.Helper()
	return d.do("POST", path, "application/json", body)
}

// submit accepts one job for vm and returns its id.
func (d *daemon) submit(vm string) string {
	d.t.Helper()
	r := decode[models.SubmitResult](d.t, d.post("/jobs/submit", `{"vm_path":"`+vm+`","output_path":"/out"}`))
	if len(r.JobIDs) != 1 {
		d.t.Fatalf("submit: %+v", r)
	}
	return r.JobIDs[0]
}

// running submits a job and returns its id once it runs.
func (d *daemon) running(vm string) string {
	d.t.Helper()
	id := d.submit(vm)
	for got := range d.Runner.Started {
		if got == vm {
			return id
		}
	}
	return ""
}

// finish ends the run of vm and waits until the job has ended.
func (d *daemon) finish(vm, id string, verdict error) {
	d.t.Helper()
	d.Runner.Verdict(vm) <- verdict
	d.await(id)
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
	if err != io.EOF {
		d.t.Fatal(err)
	}
}

// pause is between two looks at what has no other way to tell: who is looked at needs the
// processor, too.
func pause() { <-time.After(10 * time.Millisecond) }

func decode[T any](t *testing.T, a answer) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("HTTP %d: %v in %q", a.status, err, a.body)
	}
	return v
}

// keys decodes an object into its members as they were written.
func keys(t *testing.T, body string) map[string]json.RawMessage {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	return m
}

// onLoopback is a context of a request that no http.Server has received.
func onLoopback(ctx context.Context) context.Context {
	return access.WithPeer(ctx, access.Peer{Loopback: true})
}

// startFuzz is an API whose jobs never run.
func startFuzz(f *testing.F) *api.API {
	f.Helper()
	return api.New(jobs.New(memory.New(), nil, jobs.Options{}), api.Options{})
}
