package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// self is the daemon among those on its store, once it is entered.
func (d *daemon) self() models.Daemon {
	d.t.Helper()
	for ; d.t.Context().Err() == nil; pause() {
		if all := decode[models.Daemons](d.t, d.get("/daemons")).Daemons; len(all) == 1 && all[0].Self {
			return all[0]
		}
	}
	d.t.Fatal("the daemon is not entered")
	return models.Daemon{}
}

func TestADaemonIsListedDrainedAndResumed(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	one := d.self()
	if one.ID == "" || one.State != models.DaemonActive || one.Labels == nil || len(one.JobIDs) != 0 || one.StartedAt.IsZero() || one.LastHeartbeat.IsZero() {
		t.Errorf("%+v", one)
	}
	id := d.running("/dc/vm/a")
	if got := d.self(); len(got.JobIDs) != 1 || got.JobIDs[0] != id {
		t.Errorf("while a job runs: %+v", got)
	}
	path := "/daemons/" + one.ID
	if a := decode[models.Daemon](t, d.post(path+"/drain", `{"wait":true}`)); a.State != models.DaemonDraining || a.Drain != "wait" {
		t.Errorf("the answer to a drain that waits: %+v", a)
	}
	d.Runner.Verdict("/dc/vm/a") <- nil
	d.await(id)
	for d.self().State != models.DaemonDrained {
		pause()
	}
	waits := d.submit("/dc/vm/ok")
	if a := d.get("/jobs/" + waits); !strings.Contains(a.body, "every daemon is drained") {
		t.Errorf("a job of a daemon that is drained: %s", a.body)
	}
	if a := d.post(path+"/drain", ""); a.status != http.StatusOK || !strings.Contains(a.body, `"drain":"now"`) {
		t.Errorf("drain without a body: HTTP %d: %s", a.status, a.body)
	}
	if a := decode[models.Daemon](t, d.post(path+"/resume", "")); a.State != models.DaemonActive || a.Drain != "" {
		t.Errorf("the answer to a resume: %+v", a)
	}
	d.await(waits)
	for _, what := range []string{"drain", "resume"} {
		if a := d.post("/daemons/nope/"+what, ""); a.status != http.StatusNotFound || !strings.Contains(a.body, "no such daemon") {
			t.Errorf("%s of an unknown daemon: HTTP %d: %s", what, a.status, a.body)
		}
	}
	for _, body := range []string{`{"wait":"yes"}`, `{"now":true}`, `[]`, `null`, `{`} {
		if a := d.post(path+"/drain", body); a.status != http.StatusBadRequest {
			t.Errorf("drain with %s: HTTP %d: %s", body, a.status, a.body)
		}
	}
	if a := d.get("/audit"); !strings.Contains(a.body, `"daemons.drain"`) || !strings.Contains(a.body, `"daemons.resume"`) || !strings.Contains(a.body, one.ID) {
		t.Errorf("the audit log: %s", a.body)
	}
}
