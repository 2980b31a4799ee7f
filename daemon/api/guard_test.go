package api_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

func TestUnknownPathsAndMethodsAreAnsweredInJSON(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	for _, path := range []string{"/", "/jobs", "/jobs/x/y/z", "/docs", "/schemas/Job.json", "/favicon.ico"} {
		assertProblem(t, d.get(path), 404)
	}
	a := d.do("DELETE", "/jobs/submit/", "", "")
	assertProblem(t, a, 404)
	a = d.do("PUT", "/jobs/query", "application/json", "{}")
	assertProblem(t, a, 405)
	if allow := a.header.Get("Allow"); !strings.Contains(allow, "POST") {
		t.Errorf("Allow: %q", allow)
	}
}

func TestWebPagesAreKeptOut(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{KnownHost: func(host string) bool { return host == "daemon.example.com" }})
	request := func(method, host string, header map[string]string) *http.Request {
		req, err := http.NewRequestWithContext(t.Context(), method, d.URL+"/jobs/query", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		for k, v := range header {
			req.Header.Set(k, v)
		}
		return req
	}
	for _, host := range []string{"localhost:8080", "127.0.0.1", "[::1]:8080", "127.9.9.9:1", "LOCALHOST", "app.localhost:80"} {
		if a := d.send(request("POST", host, nil)); a.status != 200 {
			t.Errorf("Host %s: HTTP %d", host, a.status)
		}
	}
	// A name of a proxy is known, but what comes under it is not from this machine.
	assertProblem(t, d.send(request("POST", "daemon.example.com:8080", nil)), http.StatusUnauthorized)
	for _, host := range []string{"evil.example.com", "10.0.0.1:8080", "localhost.evil.example.com", "127.0.0.1.evil.example.com", "notlocalhost"} {
		assertProblem(t, d.send(request("POST", host, nil)), http.StatusMisdirectedRequest)
	}
	for name, h := range map[string]map[string]string{
		"another origin":   {"Origin": "https://evil.example.com"},
		"a sandboxed page": {"Origin": "null"},
		"a cross-site one": {"Sec-Fetch-Site": "cross-site"},
	} {
		t.Run(name, func(t *testing.T) { assertProblem(t, d.send(request("POST", "localhost", h)), 403) })
	}
	if a := d.send(request("POST", "localhost:1", map[string]string{"Origin": "http://localhost:1"})); a.status != 200 {
		t.Errorf("its own origin: HTTP %d", a.status)
	}
}

// panicking is an Inventory with a bug.
type panicking struct{}

func (panicking) VMs(context.Context, string, func(int)) ([]models.VM, error) { panic("hunter2") }
func (panicking) Check(context.Context, job.Definition) (models.CheckResult, error) {
	panic("hunter2")
}

func TestAPanicIsA500ThatTellsNothing(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{Inventory: panicking{}})
	a := d.get("/vms")
	assertProblem(t, a, 500)
	if strings.Contains(a.body, "hunter2") {
		t.Errorf("the answer quotes the panic: %s", a.body)
	}
	if log := d.Log(); !strings.Contains(log, "hunter2") || !strings.Contains(log, "guard_test.go") {
		t.Errorf("the log has no panic with its stack: %s", log)
	}
	if a := d.get("/health"); a.status != 200 {
		t.Errorf("the daemon is gone: HTTP %d", a.status)
	}
}

func TestRequestsAreLoggedWithoutQueries(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	d.get("/health?token=hunter2")
	log := d.Log()
	if !strings.Contains(log, `"path":"/health"`) || !strings.Contains(log, `"status":200`) {
		t.Errorf("not logged: %s", log)
	}
	if strings.Contains(log, "hunter2") {
		t.Errorf("the query is logged: %s", log)
	}
}

func FuzzSubmitBody(f *testing.F) {
	f.Add([]byte(`{"vm_path":"/a","output_path":"/o"}`), "application/json")
	f.Add([]byte("- vm_path: /a\n  output_path: /o\n"), "text/yaml")
	f.Add([]byte(`{"jobs":[{"password":"hunter2"}],"atomic":true}`), "")
	f.Add([]byte("a: &a [*a]"), "application/yaml")
	f.Add([]byte("\xff\xfe{}"), ";;")
	f.Add([]byte(`{"job_ids":null,"limit":1e99}`), "application/json")
	d := startFuzz(f)
	f.Fuzz(func(t *testing.T, body []byte, ct string) {
		for _, path := range []string{"/jobs/submit", "/jobs/query", "/jobs/cancel", "/jobs/check"} {
			r := httptest.NewRequestWithContext(onLoopback(t.Context()), "POST", path, bytes.NewReader(body))
			r.Host = "localhost"
			r.Header.Set("Content-Type", ct)
			w := httptest.NewRecorder()
			d.ServeHTTP(w, r)
			if w.Code >= 500 && w.Code != http.StatusNotImplemented {
				t.Errorf("%s: HTTP %d %s", path, w.Code, w.Body)
			}
			if m := keys(t, w.Body.String()); m["timestamp"] == nil {
				t.Errorf("%s: no timestamp in %s", path, w.Body)
			}
		}
	})
}
