package api_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// inventory is a vCenter in memory.
type inventory struct {
	vms      []models.VM
	findings []models.Finding
}

func (v inventory) VMs(_ context.Context, vcenter string, _ func(int)) ([]models.VM, error) {
	switch vcenter {
	case "", "prod":
		return v.vms, nil
	case "down":
		return nil, errors.New("vcenter.example.com does not answer")
	}
	return nil, fmt.Errorf("look up: %w", api.ErrUnknownVCenter)
}

func (v inventory) Check(_ context.Context, def job.Definition) (models.CheckResult, error) {
	if def.Options.Format != job.FormatOVF {
		return models.CheckResult{}, errors.New("defaults are not filled in")
	}
	return models.CheckResult{Findings: v.findings}, nil
}

func TestVMsArePagedInOrderOfPath(t *testing.T) {
	t.Parallel()
	inv := inventory{}
	for _, i := range []int{3, 1, 4, 0, 2} {
		inv.vms = append(inv.vms, models.VM{Name: fmt.Sprint(i), Path: fmt.Sprintf("/DC0/vm/%d", i)})
	}
	d := start(t, api.Options{Inventory: inv})
	var got []string
	cursor := ""
	for {
		p := decode[models.VMPage](t, d.get("/vms?vcenter=prod&limit=2&cursor="+cursor))
		if p.Total != 5 || len(p.VMs) > 2 {
			t.Errorf("page: %+v", p)
		}
		for _, v := range p.VMs {
			got = append(got, v.Name)
		}
		if cursor = p.NextCursor; cursor == "" {
			break
		}
	}
	if s := strings.Join(got, ""); s != "01234" {
		t.Errorf("got %s", s)
	}
	if p := decode[models.VMPage](t, d.get("/vms")); len(p.VMs) != 5 {
		t.Errorf("without a limit: %+v", p)
	}
}

func TestVMsTellWhatIsWrong(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{Inventory: inventory{}})
	if b := d.get("/vms").body; !strings.Contains(b, `"vms":[]`) {
		t.Errorf("vms is not an empty list: %s", b)
	}
	assertProblem(t, d.get("/vms?vcenter=hunter2"), 404)
	assertProblem(t, d.get("/vms?limit=-1"), 422)
	assertProblem(t, d.get("/vms?limit=hunter2"), 422)
	assertProblem(t, d.get("/vms?cursor=***"), 400)
	a := d.get("/vms?vcenter=down")
	assertProblem(t, a, 502)
	if !strings.Contains(a.body, "does not answer") {
		t.Errorf("the reason is missing: %s", a.body)
	}
	for _, q := range []string{"vcenter=hunter2", "limit=hunter2"} {
		if a := d.get("/vms?" + q); strings.Contains(a.body, "hunter2") {
			t.Errorf("a value is echoed: %s", a.body)
		}
	}
	none := start(t, api.Options{})
	assertProblem(t, none.get("/vms"), 501)
	assertProblem(t, none.post("/jobs/check", "{}"), 501)
}

func TestCheckReportsFindings(t *testing.T) {
	t.Parallel()
	const job = `{"vm_path":"/a","output_path":"/o"}`
	for name, tt := range map[string]struct {
		findings []models.Finding
		ok       bool
	}{
		"none":      {nil, true},
		"a warning": {[]models.Finding{{Severity: "warning", Code: "snapshot", Message: "m"}}, true},
		"an error":  {[]models.Finding{{Severity: "warning"}, {Severity: "error", Code: "vtpm", Message: "m", Hint: "h"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := start(t, api.Options{Inventory: inventory{findings: tt.findings}})
			a := d.post("/jobs/check", job)
			r := decode[models.CheckResult](t, a)
			if a.status != 200 || r.OK != tt.ok || len(r.Findings) != len(tt.findings) || strings.Contains(a.body, "null") {
				t.Errorf("HTTP %d %s", a.status, a.body)
			}
			if s := decode[models.DaemonStatus](t, d.get("/status")); s.TotalJobs != 0 {
				t.Error("the check queued a job")
			}
		})
	}
	d := start(t, api.Options{Inventory: inventory{}})
	assertProblem(t, d.post("/jobs/check", `{"vm_path":"/a","output_path":"hunter2"}`), 422)
	assertProblem(t, d.post("/jobs/check", "["+job+","+job+"]"), 422)
	assertProblem(t, d.post("/jobs/check", `{"vm":1}`), 400)
}
