package api_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// entries returns the whole audit log, oldest first.
func (s *secured) entries(t *testing.T) []api.AuditEntry {
	t.Helper()
	a := s.as(s.tokens[access.Admin], "GET", "/audit?limit=1000", "")
	if a.status != 200 {
		t.Fatalf("HTTP %d %s", a.status, a.body)
	}
	all := decode[api.AuditPage](t, a).Entries
	slices.Reverse(all)
	return all
}

// unaudited are routes that need more than to look, and change nothing.
var unaudited = []string{"POST /jobs/check", "GET /audit"}

func TestEveryChangeIsInTheAuditLogWithItsResult(t *testing.T) {
	t.Parallel()
	s := startSecured(t, api.Options{Bandwidth: transfer.NewLimiter(0, nil)})
	operator, admin := s.tokens[access.Operator], s.tokens[access.Admin]
	const failing, slow = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
	batch := `[{"id":"` + failing + `","vm_path":"/vm/fail","output_path":"/out/f"},{"id":"` + slow + `","vm_path":"/vm/slow","output_path":"/out/s"},{"vm_path":"","output_path":"relative"}]`

	covered := map[string]bool{}
	var want []audit.Entry
	step := func(route, token, path, body string, status int, first, result audit.Entry) {
		t.Helper()
		covered[route] = true
		method, pattern, _ := strings.Cut(route, " ")
		if path == "" {
			path = pattern
		}
		if a := s.as(token, method, path, body); a.status != status {
			t.Fatalf("%s: HTTP %d %s, want %d", route, a.status, a.body, status)
		}
		first.Who, first.Role = "the-operator", access.Operator
		if token == admin {
			first.Who, first.Role = "the-admin", access.Admin
		}
		first.Via, first.From = access.ViaToken, "127.0.0.1"
		result.Of, result.Status = int64(len(want)+1), status
		if status == 204 {
			result.Status = 200
		}
		want = append(want, first, result)
	}
	submitted := []audit.Job{{ID: failing, VM: "/vm/fail", Output: "/out/f"}, {ID: slow, VM: "/vm/slow", Output: "/out/s"}, {Output: "relative"}}
	step("POST /jobs/submit", operator, "", batch, 200, audit.Entry{Action: audit.Submit, Jobs: submitted}, audit.Entry{Done: 2, Failed: []string{""}})
	s.await(failing)
	step("PUT /jobs/{id}/limit", operator, "/jobs/"+slow+"/limit", `{"limit":"25MiB/s"}`, 200,
		audit.Entry{Action: audit.SetJobLimit, Jobs: []audit.Job{{ID: slow}}, Value: "25MiB/s"}, audit.Entry{})
	step("POST /jobs/{id}/retry", operator, "/jobs/"+failing+"/retry", "", 200, audit.Entry{Action: audit.Retry, Jobs: []audit.Job{{ID: failing}}}, audit.Entry{})
	s.await(failing)
	step("POST /jobs/retry", operator, "", `{"status":["failed"]}`, 200,
		audit.Entry{Action: audit.Retry, Target: "all that are [failed]"}, audit.Entry{Done: 1, Jobs: []audit.Job{{ID: failing}}})
	s.await(failing)
	step("POST /jobs/{id}/rollback", operator, "/jobs/"+failing+"/rollback", `{"target_is_stopped":true}`, 200,
		audit.Entry{Action: audit.Rollback, Jobs: []audit.Job{{ID: failing}}, Value: "target_is_stopped"}, audit.Entry{Done: 1, Jobs: []audit.Job{{ID: failing + "-rollback"}}})
	step("POST /jobs/cancel", operator, "", `{"job_ids":["`+slow+`","`+failing+`","`+slow+`"]}`, 200,
		audit.Entry{Action: audit.Cancel, Jobs: []audit.Job{{ID: slow}, {ID: failing}}}, audit.Entry{Done: 1, Failed: []string{failing}})
	step("DELETE /jobs/{id}", admin, "/jobs/"+slow, "", 204, audit.Entry{Action: audit.Delete, Jobs: []audit.Job{{ID: slow}}}, audit.Entry{})
	step("DELETE /jobs/{id}", admin, "/jobs/"+slow, "", 404, audit.Entry{Action: audit.Delete, Jobs: []audit.Job{{ID: slow}}}, audit.Entry{Error: "delete: no such job"})
	step("PUT /limits", admin, "", `{"limit":"200MB/s"}`, 200, audit.Entry{Action: audit.SetLimit, Value: "200MB/s"}, audit.Entry{})
	step("POST /vcenters/{name}/resume", admin, "/vcenters/prod/resume", "", 404,
		audit.Entry{Action: audit.ResumeVCenter, Target: "prod"}, audit.Entry{Error: "resume: " + jobs.ErrUsable.Error()})
	step("POST /daemons/{id}/drain", admin, "/daemons/far/drain", `{"wait":true}`, 404,
		audit.Entry{Action: audit.DrainDaemon, Target: "far", Value: "wait"}, audit.Entry{Error: "daemon: no such daemon"})
	step("POST /daemons/{id}/resume", admin, "/daemons/far/resume", "", 404,
		audit.Entry{Action: audit.ResumeDaemon, Target: "far"}, audit.Entry{Error: "daemon: no such daemon"})

	var got []audit.Entry
	for i, e := range s.entries(t) {
		if e.Number != int64(i+1) || e.Time.IsZero() || (e.Of == 0) != (e.Request != "") {
			t.Errorf("%+v", e)
		}
		e.Time, e.Request = want[0].Time, ""
		if e.Action == audit.Submit { // the daemon has made one of the ids
			if e.Jobs[2].ID == "" {
				t.Error("a job without an id")
			}
			e.Jobs[2].ID = ""
		}
		if e.Of == 1 {
			e.Failed[0] = ""
		}
		got = append(got, e.Entry)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, route := range api.Routes() {
		if needs[route] >= access.Operator && !covered[route] && !slices.Contains(unaudited, route) {
			t.Errorf("%s is in no audit log, or not in this test", route)
		}
	}
}

func TestTheAuditLogHoldsNoSecret(t *testing.T) {
	t.Parallel()
	s := startSecured(t, api.Options{})
	s.as(s.tokens[access.Operator], "POST", "/jobs/submit",
		`{"vm_path":"/vm/slow","output_path":"/out","vcenter_url":"https://vc.example.com/sdk","username":"u","password":"hunter2"}`)
	a := s.as(s.tokens[access.Admin], "GET", "/audit", "")
	if !strings.Contains(a.body, "/vm/slow") || strings.Contains(a.body, "hunter2") {
		t.Error(a.body)
	}
}

func TestTheAuditLogIsReadInPagesFromTheNewest(t *testing.T) {
	t.Parallel()
	s := startSecured(t, api.Options{Bandwidth: transfer.NewLimiter(0, nil)})
	for range 5 {
		s.as(s.tokens[access.Admin], "PUT", "/limits", `{"limit":"none"}`)
	}
	var numbers []int64
	path := "/audit?limit=4"
	for range 4 {
		page := decode[api.AuditPage](t, s.as(s.tokens[access.Admin], "GET", path, ""))
		for _, e := range page.Entries {
			numbers = append(numbers, e.Number)
		}
		if path = "/audit?limit=4&cursor=" + page.NextCursor; page.NextCursor == "" {
			break
		}
	}
	if diff := cmp.Diff([]int64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}, numbers); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, cursor := range []string{"x", "0", "-1", "99999999999999999999"} {
		assertProblem(t, s.as(s.tokens[access.Admin], "GET", "/audit?cursor="+cursor, ""), 400)
	}
}

// fullAudit is a store of the audit log that fails with err, if it has one.
type fullAudit struct {
	memory.Audit
	err error
}

func (f *fullAudit) Append(ctx context.Context, next func(audit.Record) (audit.Record, error)) error {
	if f.err != nil {
		return f.err
	}
	return f.Audit.Append(ctx, next)
}

func TestAChangeThatCannotBeAuditedIsNotMade(t *testing.T) {
	t.Parallel()
	store := &fullAudit{}
	bandwidth := transfer.NewLimiter(0, nil)
	s := startSecured(t, api.Options{Audit: audit.New(store, "", nil), Bandwidth: bandwidth})
	operator, admin := s.tokens[access.Operator], s.tokens[access.Admin]
	id := decode[models.SubmitResult](t, s.as(operator, "POST", "/jobs/submit", `{"vm_path":"/vm/slow","output_path":"/out"}`)).JobIDs[0]
	<-s.Runner.Started
	for _, c := range []struct {
		err    error
		status int
	}{
		{&jobs.StoreError{Trouble: jobs.TroubleFull, Err: errors.New("no space left")}, 507},
		{&jobs.StoreError{Trouble: jobs.TroubleReadOnly, Err: errors.New("read-only")}, 503},
		{errors.New("the head cannot be written"), 503},
	} {
		store.err = c.err
		for _, r := range [][4]string{
			{operator, "POST", "/jobs/submit", `{"vm_path":"/vm/b","output_path":"/out"}`},
			{operator, "POST", "/jobs/cancel", `{"job_ids":["` + id + `"]}`},
			{operator, "POST", "/jobs/retry", `{"status":["failed"]}`},
			{operator, "POST", "/jobs/" + id + "/retry", ""},
			{operator, "PUT", "/jobs/" + id + "/limit", `{"limit":"1MB/s"}`},
			{admin, "DELETE", "/jobs/" + id, ""},
			{admin, "PUT", "/limits", `{"limit":"1MB/s"}`},
			{admin, "POST", "/vcenters/x/resume", ""},
		} {
			a := s.as(r[0], r[1], r[2], r[3])
			assertProblem(t, a, c.status)
			if !strings.Contains(a.body, "nothing was changed") {
				t.Errorf("%s %s: %s", r[1], r[2], a.body)
			}
		}
	}
	if n := bandwidth.Limit(); n != 0 {
		t.Errorf("the limit was set to %d", n)
	}
	all := decode[models.QueryResult](t, s.as(operator, "POST", "/jobs/query", `{"all":true}`))
	if len(all.Jobs) != 1 || all.Jobs[0].Status != models.StatusRunning || all.Jobs[0].Definition.Options.Limit != "" {
		t.Errorf("%+v", all.Jobs)
	}
}
