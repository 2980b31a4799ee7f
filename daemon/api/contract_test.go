package api_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

func TestHealthAndStatusHaveTheContractsFields(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	h := keys(t, d.get("/health").body)
	if string(h["status"]) != `"healthy"` || h["timestamp"] == nil {
		t.Errorf("health: %s", h)
	}
	id := d.running("/DC0/vm/a")
	d.finish("/DC0/vm/a", id, errors.New("no space"))
	a := d.get("/status")
	m := keys(t, a.body)
	for _, k := range []string{"version", "uptime", "total_jobs", "running_jobs", "completed_jobs", "failed_jobs", "cancelled_jobs", "timestamp"} {
		if m[k] == nil {
			t.Errorf("status has no %s: %s", k, a.body)
		}
	}
	s := decode[models.DaemonStatus](t, a)
	if s.Version != "1.2.3" || s.TotalJobs != 1 || s.FailedJobs != 1 || s.RunningJobs != 0 {
		t.Errorf("status: %+v", s)
	}
	if _, err := time.ParseDuration(s.Uptime); err != nil {
		t.Errorf("uptime is no duration: %v", err)
	}
	if s.Timestamp.IsZero() || h["timestamp"][len(h["timestamp"])-2] != 'Z' {
		t.Errorf("timestamps: %v, %s", s.Timestamp, h["timestamp"])
	}
}

func TestSubmitTakesEveryFormInEveryMediaType(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	const (
		jsonJob  = `{"vm_path":"/DC0/vm/a","output_path":"/out","options":{"parallel_downloads":4}}`
		yamlJob  = "vm_path: /DC0/vm/a\noutput_path: /out\n"
		yamlList = "- {vm_path: /DC0/vm/a, output_path: /out/a}\n- {vm_path: /DC0/vm/b, output_path: /out/b}\n"
	)
	for name, tt := range map[string]struct {
		ct, body string
		n        int
	}{
		"one job as JSON":            {"application/json", jsonJob, 1},
		"a batch as JSON":            {"application/json", `{"jobs":[` + jsonJob + "," + jsonJob + `]}`, 2},
		"a list as JSON":             {"application/json", "[" + jsonJob + "]", 1},
		"JSON with charset":          {"application/json; charset=utf-8", jsonJob, 1},
		"application/x-yaml":         {"application/x-yaml", yamlJob, 1},
		"application/yaml":           {"application/yaml", yamlList, 2},
		"text/yaml":                  {"text/yaml", "jobs:\n" + yamlList, 2},
		"JSON as something else":     {"application/x-www-form-urlencoded", jsonJob, 1},
		"YAML as something else":     {"application/octet-stream", yamlList, 2},
		"YAML without a media type":  {"", yamlJob, 1},
		"a media type that is wrong": {";;;", jsonJob, 1},
	} {
		t.Run(name, func(t *testing.T) {
			a := d.do("POST", "/jobs/submit", tt.ct, tt.body)
			r := decode[models.SubmitResult](t, a)
			if a.status != 200 || r.Accepted != tt.n || len(r.JobIDs) != tt.n || r.Rejected != 0 {
				t.Errorf("HTTP %d %s", a.status, a.body)
			}
			if m := keys(t, a.body); string(m["errors"]) != "[]" || m["timestamp"] == nil {
				t.Errorf("errors is no empty list, or no timestamp: %s", a.body)
			}
		})
	}
}

func TestSubmitJudgesEachJobUnlessAtomic(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	const good, bad = `{"vm_path":"/a","output_path":"/out"}`, `{"vm_path":"/a","output_path":"relative"}`
	for name, tt := range map[string]struct {
		path, body                 string
		status, accepted, rejected int
	}{
		"some are good":            {"/jobs/submit", `{"jobs":[` + bad + "," + good + `]}`, 200, 1, 1},
		"atomic in the body":       {"/jobs/submit", `{"atomic":true,"jobs":[` + bad + "," + good + `]}`, 422, 0, 2},
		"atomic in the query":      {"/jobs/submit?atomic=true", `[` + bad + "," + good + `]`, 422, 0, 2},
		"none is good":             {"/jobs/submit", bad, 422, 0, 1},
		"the same id twice":        {"/jobs/submit", `[{"id":"x","vm_path":"/a","output_path":"/o"},{"id":"x","vm_path":"/a","output_path":"/o"}]`, 200, 1, 1},
		"an atomic batch of goods": {"/jobs/submit?atomic=true", `[` + good + "," + good + `]`, 200, 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			a := d.post(tt.path, tt.body)
			r := decode[models.SubmitResult](t, a)
			if a.status != tt.status || r.Accepted != tt.accepted || r.Rejected != tt.rejected {
				t.Errorf("HTTP %d %s", a.status, a.body)
			}
			m := keys(t, a.body)
			if tt.accepted == 0 && string(m["job_ids"]) != "[]" {
				t.Errorf("job_ids: %s", m["job_ids"])
			}
			if tt.rejected > 0 && len(r.Errors) == 0 {
				t.Error("rejected without a reason")
			}
			if ct := a.header.Get("Content-Type"); ct != "application/json" {
				t.Errorf("Content-Type %s", ct)
			}
		})
	}
}

func TestABatchOf201VMsIsOneCall(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	var b strings.Builder
	b.WriteString("atomic: true\njobs:\n")
	for i := range 201 {
		fmt.Fprintf(&b, "  - {vm_path: /DC0/vm/%d, output_path: /out/%d}\n", i, i)
	}
	a := d.do("POST", "/jobs/submit", "application/yaml", b.String())
	if r := decode[models.SubmitResult](t, a); a.status != 200 || r.Accepted != 201 {
		t.Fatalf("HTTP %d %s", a.status, a.body)
	}
	if s := decode[models.DaemonStatus](t, d.get("/status")); s.TotalJobs != 201 {
		t.Errorf("status: %+v", s)
	}
}

func TestBadBodiesAreAnsweredAsTheContractSays(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	for name, tt := range map[string]struct {
		path, ct, body string
		status         int
		want           string
	}{
		"broken JSON":            {"/jobs/submit", "application/json", `{"vm_path":`, 400, "line 1"},
		"broken YAML":            {"/jobs/submit", "application/yaml", "a: [", 400, "line"},
		"YAML sent as JSON":      {"/jobs/submit", "application/json", "vm_path: /a\noutput_path: /o\n", 400, "JSON"},
		"unknown key in JSON":    {"/jobs/submit", "application/json", "{\"vm_path\":\"/a\",\n\"vmpath\":1}", 400, `line 2: unknown key \"vmpath\"`},
		"unknown key in YAML":    {"/jobs/submit", "application/yaml", "vm_path: /a\noutput_path: /o\noptions:\n  paralel: 4\n", 400, `line 4: options: unknown key \"paralel\"`},
		"nothing":                {"/jobs/submit", "application/json", "", 400, "required"},
		"too large":              {"/jobs/submit", "application/json", strings.Repeat(" ", api.DefaultMaxBody+1), 413, "too large"},
		"query with unknown key": {"/jobs/query", "application/json", `{"jobids":[]}`, 400, "unknown field"},
		"query of a wrong kind":  {"/jobs/query", "application/json", `{"limit":"hunter2"}`, 400, "limit: a JSON string cannot stand here"},
		"query that is broken":   {"/jobs/query", "application/json", `{`, 400, "ends too early"},
		"query with more behind": {"/jobs/query", "application/json", `{} {}`, 400, "more after"},
		"query of no status":     {"/jobs/query", "application/json", `{"status":["hunter2"]}`, 422, "pending, running"},
		"query of less than 0":   {"/jobs/query", "application/json", `{"limit":-1}`, 422, "negative"},
		"query of a bad cursor":  {"/jobs/query", "application/json", `{"cursor":"hunter2"}`, 400, "invalid cursor"},
		"query of null":          {"/jobs/query", "application/json", `null`, 400, "must be a JSON object"},
		"query of a list":        {"/jobs/query", "application/json", `[]`, 400, "must be a JSON object"},
		"query of a null id":     {"/jobs/query", "application/json", `{"job_ids":["a", null]}`, 400, "job_ids: a JSON null cannot stand here"},
		"query in capitals":      {"/jobs/query", "application/json", `{"ALL":true}`, 400, `unknown field \"ALL\"; it is written \"all\"`},
		"query of a key twice":   {"/jobs/query", "application/json", `{"all":true,"all":false}`, 400, `field \"all\" is given twice`},
		"query of nothing":       {"/jobs/query", "application/json", " ", 400, "ends too early"},
		"submit of null":         {"/jobs/submit", "application/json", `null`, 400, "want a job"},
		"submit of null in YAML": {"/jobs/submit", "application/yaml", "~\n", 400, "want a job"},
		"submit of null jobs":    {"/jobs/submit", "application/json", `{"jobs":null}`, 400, "want a list of jobs"},
		"submit of a null job":   {"/jobs/submit", "application/json", `[null]`, 400, "want keys and values"},
		"submit of a BOM":        {"/jobs/submit", "application/json", "\ufeff", 400, "the job file is empty"},
		"cancel of null":         {"/jobs/cancel", "application/json", `null`, 400, "must be a JSON object"},
		"cancel of null ids":     {"/jobs/cancel", "application/json", `{"job_ids":null}`, 400, "job_ids is missing"},
		"cancel of nothing":      {"/jobs/cancel", "application/json", `{}`, 400, "job_ids is missing"},
		"cancel of a null id":    {"/jobs/cancel", "application/json", `{"job_ids":[null]}`, 400, "job_ids: a JSON null"},
		"cancel in capitals":     {"/jobs/cancel", "application/json", `{"job_ids":[],"Keep_Parts":true}`, 400, "unknown field"},
		"cancel of a wrong kind": {"/jobs/cancel", "application/json", `{"job_ids":"hunter2"}`, 400, "job_ids"},
	} {
		t.Run(name, func(t *testing.T) {
			a := d.do("POST", tt.path, tt.ct, tt.body)
			assertProblem(t, a, tt.status)
			if !strings.Contains(a.body, tt.want) {
				t.Errorf("want %q in %s", tt.want, a.body)
			}
			if strings.Contains(a.body, "hunter2") {
				t.Errorf("a value is echoed: %s", a.body)
			}
		})
	}
}

// assertProblem checks the shape that every error has.
func assertProblem(t *testing.T, a answer, status int) {
	t.Helper()
	if a.status != status {
		t.Errorf("HTTP %d, want %d: %s", a.status, status, a.body)
	}
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("Content-Type %q", ct)
	}
	p := decode[models.Problem](t, a)
	if p.Error == "" || p.Timestamp.IsZero() || p.Status != status || p.Title != http.StatusText(status) {
		t.Errorf("problem: %s", a.body)
	}
}

func TestNoJobBearsTheNameOfAnEndpoint(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	n := 0
	for _, e := range api.Endpoints() {
		below, ok := strings.CutPrefix(e.Path, "/jobs/")
		if !ok {
			continue
		}
		for _, word := range strings.Split(below, "/") {
			if strings.HasPrefix(word, "{") {
				continue
			}
			n++
			a := d.post("/jobs/submit", fmt.Sprintf(`{"id":%q,"vm_path":"/a","output_path":"/out"}`, word))
			if r := decode[models.SubmitResult](t, a); a.status != 422 || !strings.Contains(r.Errors[0], "id: must not be a word") {
				t.Errorf("id %s: HTTP %d %s", word, a.status, a.body)
			}
		}
	}
	if n < 7 {
		t.Errorf("only %d words were tried", n)
	}
}

func TestQueryAndGetShowWhatTheContractPromises(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	if b := d.post("/jobs/query", `{"all":true}`).body; !strings.Contains(b, `"jobs":[]`) {
		t.Errorf("jobs is not an empty list: %s", b)
	}
	done := d.running("/DC0/vm/done")
	d.finish("/DC0/vm/done", done, nil)
	failed := d.running("/DC0/vm/failed")
	d.finish("/DC0/vm/failed", failed, errors.New("no space"))
	busy := d.running("/DC0/vm/busy")

	ids := func(body string) []string {
		r := decode[models.QueryResult](t, d.post("/jobs/query", body))
		out := []string{}
		for _, j := range r.Jobs {
			out = append(out, j.Definition.ID)
		}
		return out
	}
	for name, tt := range map[string]struct {
		body string
		want []string
	}{
		"ids keep their order":        {`{"job_ids":["` + busy + `","` + done + `"]}`, []string{busy, done}},
		"unknown ids are left out":    {`{"job_ids":["nope","` + done + `"]}`, []string{done}},
		"ids come before all":         {`{"job_ids":["` + done + `"],"all":true}`, []string{done}},
		"all comes before status":     {`{"all":true,"status":["failed"]}`, []string{busy, failed, done}},
		"status":                      {`{"status":["failed","running"]}`, []string{busy, failed}},
		"a limit":                     {`{"all":true,"limit":2}`, []string{busy, failed}},
		"nothing asked is everything": {`{}`, []string{busy, failed, done}},
		"null is not asked":           {`{"job_ids":null,"status":null,"all":null,"limit":null}`, []string{busy, failed, done}},
		"a BOM is passed over":        {"\ufeff" + `{"status":["failed"]}`, []string{failed}},
	} {
		if got := ids(tt.body); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}

	j := decode[models.Job](t, d.get("/jobs/"+done))
	if j.Status != "completed" || !j.Result.Success || j.Result.Duration != 1500*time.Millisecond || j.StartedAt == nil || j.CompletedAt == nil {
		t.Errorf("completed job: %+v", j)
	}
	m := keys(t, string(keys(t, d.get("/jobs/"+done).body)["result"]))
	if string(m["files"]) != "[]" || string(m["duration"]) != "1500000000" {
		t.Errorf("result: %s", m)
	}
	if j := decode[models.Job](t, d.get("/jobs/"+failed)); j.Status != "failed" || !strings.Contains(j.Error, "no space") {
		t.Errorf("failed job: %+v", j)
	}
	a := d.get("/jobs/" + busy)
	for key, want := range map[string]string{"error": "null", "result": "null", "completed_at": "null"} {
		if got := string(keys(t, a.body)[key]); got != want {
			t.Errorf("%s of a running job = %s, want %s", key, got, want)
		}
	}
	p := keys(t, string(keys(t, a.body)["progress"]))
	for _, k := range []string{"phase", "current_file", "files_downloaded", "total_files", "bytes_downloaded", "total_bytes", "percent_complete", "estimated_remaining"} {
		if p[k] == nil {
			t.Errorf("progress has no %s: %s", k, a.body)
		}
	}
	def := keys(t, string(keys(t, a.body)["definition"]))
	if def["id"] == nil || def["created_at"] == nil || def["vm_path"] == nil {
		t.Errorf("definition: %s", a.body)
	}
	for _, key := range []string{"remove_cdrom", "show_individual_progress"} {
		if got := string(keys(t, string(def["options"]))[key]); got != "false" {
			t.Errorf("options.%s = %q, want false", key, got)
		}
	}
	assertProblem(t, d.get("/jobs/nope"), 404)
}

func TestQueriesPageThroughAllJobs(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	want := map[string]bool{}
	for i := range 7 {
		want[d.submit(fmt.Sprintf("/vm/%d", i))] = true
	}
	got := map[string]bool{}
	cursor, pages := "", 0
	for {
		r := decode[models.QueryResult](t, d.post("/jobs/query", fmt.Sprintf(`{"all":true,"limit":3,"cursor":%q}`, cursor)))
		pages++
		if r.Total != 7 {
			t.Errorf("total %d", r.Total)
		}
		for _, j := range r.Jobs {
			got[j.Definition.ID] = true
		}
		if cursor = r.NextCursor; cursor == "" {
			break
		}
	}
	if len(got) != 7 || pages != 3 {
		t.Errorf("%d jobs on %d pages", len(got), pages)
	}
}

func TestCancelTellsForEachJobWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	busy := d.running("/vm/busy")
	done := d.running("/vm/done")
	d.finish("/vm/done", done, nil)
	a := d.post("/jobs/cancel", fmt.Sprintf(`{"job_ids":[%q,%q,"nope",%q]}`, busy, done, busy))
	r := decode[models.CancelResult](t, a)
	if !slices.Equal(r.Cancelled, []string{busy}) || !slices.Equal(r.Failed, []string{done, "nope"}) {
		t.Errorf("%s", a.body)
	}
	if !strings.Contains(r.Errors[done], "already ended") || !strings.Contains(r.Errors["nope"], "no such job") {
		t.Errorf("errors: %v", r.Errors)
	}
	if j := decode[models.Job](t, d.get("/jobs/"+busy)); j.Status != "cancelled" {
		t.Errorf("after the answer the job is %s", j.Status)
	}
	if b := d.post("/jobs/cancel", `{"job_ids":[]}`).body; !strings.Contains(b, `"cancelled":[]`) || !strings.Contains(b, `"failed":[]`) || !strings.Contains(b, `"errors":{}`) {
		t.Errorf("empty cancel: %s", b)
	}
}

func TestRetryAndDeleteFollowTheJobsState(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	id := d.running("/vm/a")
	assertProblem(t, d.post("/jobs/"+id+"/retry", ""), 409)
	assertProblem(t, d.do("DELETE", "/jobs/"+id, "", ""), 409)
	d.finish("/vm/a", id, errors.New("boom"))

	a := d.post("/jobs/"+id+"/retry", "")
	if j := decode[models.Job](t, a); a.status != 200 || j.Definition.ID != id || j.Status.Final() {
		t.Errorf("retry: HTTP %d %s", a.status, a.body)
	}
	d.finish("/vm/a", id, nil)
	assertProblem(t, d.post("/jobs/"+id+"/retry", ""), 409)
	if a := d.do("DELETE", "/jobs/"+id, "", ""); a.status != 204 || a.body != "" {
		t.Errorf("delete: HTTP %d %q", a.status, a.body)
	}
	assertProblem(t, d.do("DELETE", "/jobs/"+id, "", ""), 404)
	assertProblem(t, d.post("/jobs/"+id+"/retry", ""), 404)
}

func TestAPasswordNeverComesBackOut(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	const secret = "hunter2"
	bodies := []string{
		`{"id":"ok","vm_path":"/a","output_path":"/o","vcenter_url":"https://vc/sdk","username":"u","password":"` + secret + `"}`,
		`{"vm_path":"/a","output_path":"/o","vcenter":"x","password":"` + secret + `"}`,
		`{"vm_path":"/a","output_path":"/o","vcenter_url":"https://u:` + secret + `@vc/sdk","username":"u","password":"p"}`,
		`{"vm_path":"/a","output_path":"/o","password":["` + secret + `"]}`,
		`{"password":"` + secret + `",`,
	}
	for _, b := range bodies {
		if a := d.post("/jobs/submit", b); strings.Contains(a.body, secret) {
			t.Errorf("submit echoes the password: %s", a.body)
		}
		if a := d.post("/jobs/query", b); strings.Contains(a.body, secret) {
			t.Errorf("query echoes the password: %s", a.body)
		}
	}
	<-d.Runner.Started
	for _, a := range []answer{d.get("/jobs/ok"), d.post("/jobs/query", `{"all":true}`), d.get("/jobs/ok/events?follow=false"), d.get("/jobs/ok?password=" + secret)} {
		if strings.Contains(a.body, secret) || strings.Contains(a.body, `"password"`) {
			t.Errorf("the password comes back: %s", a.body)
		}
	}
	if strings.Contains(d.Log(), secret) {
		t.Errorf("the password is in the log:\n%s", d.Log())
	}
}
