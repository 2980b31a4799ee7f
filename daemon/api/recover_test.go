package api_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

func TestManyJobsAreQueuedAgainInOneCall(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	var failed []string
	for range 3 {
		failed = append(failed, d.submit("/dc/vm/fail"))
	}
	done := d.submit("/dc/vm/ok")
	for _, id := range append(failed, done) {
		d.await(id)
	}
	r := decode[models.RetryResult](t, d.post("/jobs/retry", `{"job_ids":["`+failed[0]+`","nope","`+done+`"]}`))
	if len(r.Retried) != 1 || len(r.Failed) != 2 || !strings.Contains(r.Errors["nope"], "no such job") || r.Errors[done] == "" {
		t.Errorf("by id: %+v", r)
	}
	d.await(failed[0])
	r = decode[models.RetryResult](t, d.post("/jobs/retry", `{"status":["failed","cancelled"]}`))
	if len(r.Retried) != 3 || len(r.Failed) != 0 {
		t.Errorf("by status: %+v", r)
	}
	for body, want := range map[string]int{
		`{}`: http.StatusBadRequest, `null`: http.StatusBadRequest, `{"job_ids":[]}`: http.StatusBadRequest,
		`{"job_ids":["a"],"status":["failed"]}`: http.StatusBadRequest,
		`{"all":true}`:                          http.StatusBadRequest,
		`{"status":["completed"]}`:              http.StatusUnprocessableEntity,
		`{"status":["pending"]}`:                http.StatusUnprocessableEntity,
	} {
		if a := d.post("/jobs/retry", body); a.status != want {
			t.Errorf("%s: HTTP %d, want %d: %s", body, a.status, want, a.body)
		}
	}
}

func TestStatusShowsWhichVCentersJobsWaitForAndTheyCanBeResumed(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	if s := d.get("/status"); !strings.Contains(s.body, `"vcenters":[]`) {
		t.Errorf("a vCenter is in trouble before any job ran: %s", s.body)
	}
	id := d.submit("/dc/vm/locked")
	var s models.DaemonStatus
	for ; len(s.VCenters) == 0; pause() {
		s = decode[models.DaemonStatus](t, d.get("/status"))
	}
	if v := s.VCenters[0]; v.Name != "default" || v.State != "login_refused" || v.Waiting != 1 || v.Since.IsZero() || v.Reason == "" {
		t.Errorf("vCenters: %+v", s.VCenters)
	}
	if a := d.get("/jobs/" + id); !strings.Contains(a.body, `"waiting_for":"waiting for vCenter`) {
		t.Errorf("the job does not say what it waits for: %s", a.body)
	}
	if a := d.do("POST", "/vcenters/nope/resume", "", ""); a.status != http.StatusNotFound {
		t.Errorf("resume of one that nobody waits for: HTTP %d: %s", a.status, a.body)
	}
	if a := d.do("POST", "/vcenters/default/resume", "", ""); a.status != http.StatusOK {
		t.Errorf("resume: HTTP %d: %s", a.status, a.body)
	}
	d.await(id)
	if a := d.get("/jobs/" + id); !strings.Contains(a.body, `"status":"completed"`) || strings.Contains(a.body, "waiting_for") {
		t.Errorf("after it was resumed: %s", a.body)
	}
}

var errBroken = errors.New("broken")

func TestARetryOfOneJobAnswersWithTheJob(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	id := d.running("/dc/vm/a")
	d.finish("/dc/vm/a", id, errBroken)
	if a := d.do("POST", "/jobs/"+id+"/retry", "", ""); a.status != http.StatusOK || !strings.Contains(a.body, `"id":"`+id+`"`) {
		t.Errorf("HTTP %d: %s", a.status, a.body)
	}
}
