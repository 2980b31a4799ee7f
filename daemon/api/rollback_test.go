package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// back asks for the way back from a job.
func (d *daemon) back(id, body string) answer {
	d.t.Helper()
	return d.post("/jobs/"+id+"/rollback", body)
}

func TestTheWayBackFromAJobIsAJobThatThereIsOnce(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	done := decode[models.SubmitResult](t, d.post("/jobs/submit",
		`{"id":"move","vm_path":"/dc/vm/ok","output_path":"/out","options":{"format":"raw","shutdown":true,"finish":"tag","libvirt":"qemu:///system","define":true}}`)).JobIDs[0]
	d.await(done)
	j := decode[models.Job](t, d.back(done, `{"stop_timeout":"90s"}`))
	def := j.Definition
	if def.ID != "move-rollback" || !def.Options.Back || def.Options.StopTimeout != "90s" || def.Options.Libvirt != "qemu:///system" || def.Options.Define || def.Options.Shutdown ||
		def.VMPath != "/dc/vm/ok" || def.OutputPath != "/out" {
		t.Errorf("the way back is %+v", def)
	}
	d.await("move-rollback")
	if again := decode[models.Job](t, d.back(done, "")); again.Definition.ID != "move-rollback" || again.Status != models.StatusCompleted {
		t.Errorf("asked for again, it is %+v", again)
	}
	if a := d.back("move-rollback", ""); a.status != http.StatusConflict || !strings.Contains(a.body, "is the way back") {
		t.Errorf("the way back from a way back: HTTP %d %s", a.status, a.body)
	}
}

func TestAWayBackThatFailedIsFollowedByAnother(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	id := d.submit("/dc/vm/fail") // so does its way back
	d.await(id)
	for _, want := range []string{id + "-rollback", id + "-rollback-2"} {
		if j := decode[models.Job](t, d.back(id, "{}")); j.Definition.ID != want {
			t.Errorf("the way back is %s, and not %s", j.Definition.ID, want)
		}
		d.await(want)
	}
	long := strings.Repeat("x", 64)
	decode[models.SubmitResult](t, d.post("/jobs/submit", `{"id":"`+long+`","vm_path":"/dc/vm/ok","output_path":"/out"}`))
	d.await(long)
	if j := decode[models.Job](t, d.back(long, "")); !strings.HasSuffix(j.Definition.ID, "-rollback") {
		t.Errorf("of a job with a long id it is %+v", j.Definition)
	}
	other := decode[models.SubmitResult](t, d.post("/jobs/submit", `[{"id":"a","vm_path":"/dc/vm/ok","output_path":"/out"},{"id":"a-rollback","vm_path":"/dc/vm/ok2","output_path":"/out"}]`))
	for _, id := range other.JobIDs {
		d.await(id)
	}
	if j := decode[models.Job](t, d.back("a", "")); j.Definition.ID != "a-rollback-2" || j.Definition.VMPath != "/dc/vm/ok" {
		t.Errorf("beside a job that bears its id it is %+v", j.Definition)
	}
}

func TestTheWayBackIsRefusedWhereThereIsNone(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	done := d.submit("/dc/vm/ok")
	d.await(done)
	running := d.running("/dc/vm/slow")
	own := decode[models.SubmitResult](t, d.post("/jobs/submit",
		`{"vm_path":"/dc/vm/ok","output_path":"/out","vcenter_url":"https://vc.example.com","username":"u","password":"hunter2"}`)).JobIDs[0]
	d.await(own)
	for name, c := range map[string]struct {
		id, body string
		status   int
		text     string
	}{
		"no such job":              {"none", "", http.StatusNotFound, "no such job"},
		"one that runs":            {running, "", http.StatusConflict, "has not ended"},
		"a key that is none":       {done, `{"force":true}`, http.StatusBadRequest, "force"},
		"no object":                {done, `[]`, http.StatusBadRequest, "body"},
		"a time that is none":      {done, `{"stop_timeout":"soon"}`, http.StatusUnprocessableEntity, "options.stop_timeout"},
		"without a password":       {own, "", http.StatusConflict, "give it as password"},
		"a time that is no text":   {done, `{"stop_timeout":5}`, http.StatusBadRequest, "stop_timeout"},
		"a word of the daemon's":   {"rollback", "", http.StatusNotFound, "no such job"},
		"a yes that is no boolean": {done, `{"target_is_stopped":"yes"}`, http.StatusBadRequest, "target_is_stopped"},
	} {
		if a := d.back(c.id, c.body); a.status != c.status || !strings.Contains(a.body, c.text) {
			t.Errorf("%s: HTTP %d %s", name, a.status, a.body)
		}
	}
	a := d.back(own, `{"password":"hunter3"}`)
	if j := decode[models.Job](t, a); j.Definition.Username != "u" || strings.Contains(a.body+d.Log(), "hunter3") {
		t.Errorf("with the password: %s", a.body)
	}
	d.finish("/dc/vm/slow", running, nil)
}
