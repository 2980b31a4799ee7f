package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/api/apitest"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func dial(t *testing.T, url string) *client.Client {
	t.Helper()
	c, err := client.New(url, client.Options{RetryDelay: time.Microsecond, WatchRetries: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func definition(vm string) job.Definition {
	return job.Definition{VMPath: vm, OutputPath: "/out"}
}

// ended watches a job to its end and returns its last status.
func ended(t *testing.T, c *client.Client, id string) models.Status {
	t.Helper()
	var last models.Status
	for ev, err := range c.Watch(t.Context(), id) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Type == models.EventState {
			last = ev.Status
		}
	}
	return last
}

func TestAJobGoesFromSubmitToDelete(t *testing.T) {
	t.Parallel()
	d := apitest.Start(t, api.Options{})
	c := dial(t, d.URL)
	ctx := t.Context()
	if h, err := c.Health(ctx); err != nil || h.Status != "healthy" {
		t.Fatalf("health: %+v, %v", h, err)
	}
	r, err := c.Submit(ctx, []job.Definition{definition("/vm/ok"), definition("/vm/fail")}, true)
	if err != nil || r.Accepted != 2 {
		t.Fatalf("submit: %+v, %v", r, err)
	}
	if s := ended(t, c, r.JobIDs[0]); s != models.StatusCompleted {
		t.Errorf("first job: %s", s)
	}
	if s := ended(t, c, r.JobIDs[1]); s != models.StatusFailed {
		t.Errorf("second job: %s", s)
	}
	if j, err := c.Job(ctx, r.JobIDs[0]); err != nil || !j.Result.Success {
		t.Errorf("job: %+v, %v", j, err)
	}
	if q, err := c.Query(ctx, models.Query{Status: []models.Status{models.StatusFailed}}); err != nil || q.Total != 1 {
		t.Errorf("query: %+v, %v", q, err)
	}
	if s, err := c.Status(ctx); err != nil || s.CompletedJobs != 1 || s.FailedJobs != 1 {
		t.Errorf("status: %+v, %v", s, err)
	}
	if j, err := c.Retry(ctx, r.JobIDs[1]); err != nil || j.Definition.ID != r.JobIDs[1] {
		t.Errorf("retry: %+v, %v", j, err)
	}
	if s := ended(t, c, r.JobIDs[1]); s != models.StatusFailed {
		t.Errorf("second job after the retry: %s", s)
	}
	n := 0
	for ev, err := range c.Log(ctx, r.JobIDs[1]) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.ID > 0 {
			n++
		}
	}
	if n < 6 {
		t.Errorf("the log has %d events", n)
	}
	if err := c.Delete(ctx, r.JobIDs[1]); err != nil {
		t.Errorf("delete: %v", err)
	}
	if _, err := c.Job(ctx, r.JobIDs[1]); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("after delete: %v", err)
	}
}

func TestJobFilesGoToTheDaemonAsTheyAre(t *testing.T) {
	t.Parallel()
	d := apitest.Start(t, api.Options{})
	c := dial(t, d.URL)
	const list = "- {vm_path: /vm/ok, output_path: /o}\n- {vm_path: /vm/ok, output_path: relative}\n"
	for _, ct := range []string{"", "application/yaml"} {
		if r, err := c.SubmitFile(t.Context(), strings.NewReader(list), ct, false); err != nil || r.Accepted != 1 || r.Rejected != 1 {
			t.Errorf("%q: %+v, %v", ct, r, err)
		}
	}
	r, err := c.SubmitFile(t.Context(), strings.NewReader(list), "", true)
	if !errors.Is(err, client.ErrRejected) || r.Rejected != 2 || len(r.Errors) == 0 {
		t.Errorf("atomic: %+v, %v", r, err)
	}
	_, err = c.SubmitFile(t.Context(), strings.NewReader("vm_path: /a\nvm: 1\n"), "", false)
	if !errors.Is(err, client.ErrInvalid) || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("unknown key: %v", err)
	}
}

func TestErrorsCanBeToldApart(t *testing.T) {
	t.Parallel()
	d := apitest.Start(t, api.Options{})
	c := dial(t, d.URL)
	ctx := t.Context()
	r, err := c.Submit(ctx, []job.Definition{definition("/vm/busy")}, false)
	if err != nil {
		t.Fatal(err)
	}
	id := r.JobIDs[0]
	rejected := func() error {
		_, err := c.Submit(ctx, []job.Definition{{VMPath: "/a"}}, false)
		return err
	}
	big := func() error {
		_, err := c.SubmitFile(ctx, strings.NewReader(strings.Repeat(" ", api.DefaultMaxBody)), "", false)
		return err
	}
	nowhere := dial(t, "http://127.0.0.1:"+closedPort(t))
	unreachable := func() error { _, err := nowhere.Status(ctx); return err }
	j := func(id string) error { _, err := c.Job(ctx, id); return err }
	for name, tt := range map[string]struct {
		err, is error
		text    string
	}{
		"unknown job":        {j("nope"), client.ErrNotFound, "no such job"},
		"empty id":           {j(""), client.ErrNotFound, "not found"},
		"id that is a path":  {j(".."), client.ErrNotFound, "not found"},
		"id with a slash":    {j("a/b"), client.ErrNotFound, ""},
		"deleting a run":     {c.Delete(ctx, id), client.ErrConflict, "not ended"},
		"rejected":           {rejected(), client.ErrRejected, "output_path"},
		"too large":          {big(), client.ErrInvalid, "too large"},
		"nobody listens":     {unreachable(), client.ErrUnavailable, "cannot be reached"},
		"no vCenter at all":  {func() error { _, err := c.VMs(ctx, "", 0, ""); return err }(), nil, "inventory"},
		"check has no means": {func() error { _, err := c.Check(ctx, job.Definition{}); return err }(), nil, "inventory"},
	} {
		if tt.err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		if tt.is != nil && !errors.Is(tt.err, tt.is) {
			t.Errorf("%s: %v is not %v", name, tt.err, tt.is)
		}
		if !strings.Contains(tt.err.Error(), tt.text) {
			t.Errorf("%s: want %q in %q", name, tt.text, tt.err)
		}
		for _, other := range []error{client.ErrNotFound, client.ErrConflict, client.ErrRejected, client.ErrUnavailable, client.ErrForbidden} {
			if !errors.Is(tt.is, other) && errors.Is(tt.err, other) {
				t.Errorf("%s: is %v as well", name, other)
			}
		}
	}
	var e *client.Error
	if err := j("nope"); !errors.As(err, &e) || e.Status != 404 || e.Title != "Not Found" {
		t.Errorf("typed error: %+v", e)
	}
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func TestACancelledCallIsTheCallersDoing(t *testing.T) {
	t.Parallel()
	d := apitest.Start(t, api.Options{})
	c := dial(t, d.URL)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Status(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, client.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestURLsAreCheckedWithoutQuotingSecrets(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"ftp://u:hunter2@h", "http://", "http://u:hunter2@h:bad port", "http://u:hunter2@%zz"} {
		if _, err := client.New(bad, client.Options{}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	for in, want := range map[string]string{"": client.DefaultURL, "host:99": "http://host:99", "https://u:p@h/api/?q#f": "https://h/api"} {
		c, err := client.New(in, client.Options{})
		if err != nil || c.BaseURL() != want {
			t.Errorf("%q: %v, %v", in, c, err)
		}
	}
	c := dial(t, "http://u:hunter2@127.0.0.1:"+closedPort(t))
	if _, err := c.Status(t.Context()); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestAnAnswerThatIsNoneOfOursSaysSo(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status int
		body   string
		want   string
		is     error
	}{
		"a page":            {200, "<html>", "not this API's JSON", nil},
		"a proxy's refusal": {502, "<html>", "HTTP 502", client.ErrUnavailable},
		"a redirect":        {302, "", "HTTP 302", nil},
		"an unknown Host":   {421, `{"error":"use localhost"}`, "use localhost", client.ErrForbidden},
		"a half problem":    {403, `{"detail":"go away"}`, "go away", client.ErrForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tt.status)
				fmt.Fprint(w, tt.body)
			}))
			defer srv.Close()
			_, err := dial(t, srv.URL).Status(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v", err)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v is not %v", err, tt.is)
			}
		})
	}
}
