package web_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
	"github.com/hyper2kvm/hyper2kvm/daemon/web"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// inventory is a vCenter with VMs, one of them hostile.
type inventory struct {
	vms   []models.VM
	walks atomic.Int64
}

const hostile = `x" onload=alert(1) <script>alert(2)</script>`

func newInventory() *inventory {
	inv := &inventory{}
	for i := range 1000 {
		inv.vms = append(inv.vms, models.VM{Name: fmt.Sprintf("vm-%d", i), Path: fmt.Sprintf("/DC/vm/a/vm-%d", i), PowerState: "poweredOff", DiskBytes: 1 << 30})
	}
	inv.vms = append(inv.vms,
		models.VM{Name: "prod-db", Path: "/DC/vm/prod/prod-db", PowerState: "poweredOn", Problem: "snapshots"},
		models.VM{Name: "prod-db", Path: "/DC/vm/old/prod-db", PowerState: "poweredOff"},
		models.VM{Name: hostile, Path: "/DC/vm/" + hostile, PowerState: "suspended", GuestOS: hostile, Problem: hostile})
	return inv
}

func (i *inventory) VMs(_ context.Context, vcenter string, _ func(int)) ([]models.VM, error) {
	if vcenter != "lab" {
		return nil, api.ErrUnknownVCenter
	}
	i.walks.Add(1)
	return i.vms, nil
}

func (i *inventory) Check(_ context.Context, def job.Definition) (models.CheckResult, error) {
	if strings.Contains(def.VMPath, "prod-db") {
		return models.CheckResult{Findings: []models.Finding{{Severity: models.SeverityError, Code: "power", Message: "the VM runs <b>", Hint: "shut it down"}}}, nil
	}
	if strings.Contains(def.VMPath, "script") {
		return models.CheckResult{}, errors.New("the vCenter does not answer")
	}
	return models.CheckResult{}, nil
}

type limit struct{ atomic.Int64 }

func (l *limit) Limit() int64     { return l.Load() }
func (l *limit) SetLimit(n int64) { l.Store(n) }

// startPages runs a daemon with everything that pages show, and a browser for each role.
func startPages(t *testing.T) (d *daemon, inv *inventory, as map[string]*browser) {
	t.Helper()
	inv = newInventory()
	d = startWith(t, access.SessionOptions{}, api.Options{Inventory: inv, Bandwidth: &limit{}, Rates: &memory.Rates{}},
		web.Options{VCenters: []string{"lab"}, Output: "/images"})
	as = map[string]*browser{}
	for _, role := range []access.Role{access.Viewer, access.Operator, access.Admin} {
		as[role.String()] = d.as(d.token(role.String(), role))
	}
	for strings.Contains(as["viewer"].get("/ui/vms").body, "is being read") { // a busy machine is no quick vCenter
	}
	return d, inv, as
}

func wants(t *testing.T, a answer, status int, texts ...string) {
	t.Helper()
	if a.status != status {
		t.Errorf("HTTP %d, want %d: %.3000s", a.status, status, a.body)
	}
	for _, text := range texts {
		if !strings.Contains(a.body, text) {
			t.Errorf("no %q in %.3000s", text, a.body)
		}
	}
}

func TestTheInventoryIsSearchedAsByThePickerAndShownInWindows(t *testing.T) {
	t.Parallel()
	_, inv, as := startPages(t)
	b := as["viewer"]
	a := b.get("/ui/vms")
	wants(t, a, 200, "1003", "needs the role operator")
	if n := strings.Count(a.body, `aria-rowindex=`); n != 100 {
		t.Errorf("%d rows", n)
	}
	if strings.Contains(a.body, "<script>alert") || strings.Contains(a.body, `" onload=`) {
		t.Error("a VM's name is taken for HTML")
	}
	a = b.get("/ui/vms?q=prdb")
	wants(t, a, 200, "/DC/vm/prod/prod-db", "/DC/vm/old/prod-db", "snapshots")
	if n := strings.Count(a.body, `aria-rowindex=`); n != 2 {
		t.Errorf("prdb finds %d", n)
	}
	for query, rows := range map[string]int{"from=900&count=300": 103, "from=0&count=300": 300, "from=0&count=100000": 100, "from=-5&count=x": 100, "from=99999999999999999999": 100, "q=nothing+at+all": 0} {
		a := b.get("/ui/vms/rows?" + query)
		wants(t, a, 200)
		if n := strings.Count(a.body, `<tr aria-rowindex=`); n != rows || strings.Contains(a.body, "<html") {
			t.Errorf("%s: %d rows", query, n)
		}
	}
	if n := inv.walks.Load(); n != 1 {
		t.Errorf("the vCenter was walked %d times", n)
	}
	wants(t, b.get("/ui/vms?vcenter=other"), 404, "no such vCenter")
}

func TestJobsAreSubmittedForWhatWasChosenEachToADirectoryOfItsOwn(t *testing.T) {
	t.Parallel()
	d, _, as := startPages(t)
	b := as["operator"]
	paths := []string{"/DC/vm/prod/prod-db", "/DC/vm/old/prod-db", "/DC/vm/a/vm-7", "/DC/vm/a/vm-7"}
	form := func(more ...string) url.Values {
		f := url.Values{"vcenter": {"lab"}, "vm": paths, "format": {"qcow2"}, "output_path": {"/images"}, "snapshot": {"on"}}
		for i := 0; i < len(more); i += 2 {
			f.Set(more[i], more[i+1])
		}
		return f
	}
	wants(t, b.post("/ui/vms", "/ui/submit", url.Values{"vcenter": {"lab"}, "vm": paths}), 200, "Options for 3 VMs", `value="/images"`, "1 not powered off")
	wants(t, b.post("/ui/vms", "/ui/submit", form("step", "check")), 200, "the VM runs &lt;b&gt;", "shut it down", "Nothing stands in the way of 1 of 3")
	wants(t, b.post("/ui/vms", "/ui/submit", form("step", "submit", "output_path", "relative", "parallel_downloads", "900", "limit", "fast")), 422,
		`id="output_path-error"`, `id="parallel_downloads-error"`, `id="limit-error"`, `value="900"`)
	a := b.post("/ui/vms", "/ui/submit", form("step", "submit"))
	if a.status != http.StatusSeeOther || a.header.Get("Location") != "/ui/jobs" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	page, err := d.API.Jobs(access.WithPrincipal(t.Context(), access.Principal{Role: access.Viewer}), jobs.Query{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]job.Definition{}
	for _, j := range page.Jobs {
		got[j.Definition.OutputPath] = j.Definition
	}
	if len(got) != 3 || !got["/images/prod-db"].Options.Snapshot || got["/images/prod-db-2"].VMPath != "/DC/vm/old/prod-db" ||
		got["/images/prod-db-2"].Options.Snapshot || got["/images/vm-7"].Options.Format != job.FormatQcow2 || got["/images/vm-7"].VCenter != "lab" {
		t.Errorf("%+v", got)
	}
	for _, j := range page.Jobs {
		if j.Status == models.StatusRunning || j.Status == models.StatusPending {
			d.Runner.Verdict(j.Definition.VMPath) <- nil
		}
	}
}

func TestAllThatASearchFindsIsChosenAtOnceAndNothingIsNoChoice(t *testing.T) {
	t.Parallel()
	d, _, as := startPages(t)
	b := as["operator"]
	wants(t, b.post("/ui/vms", "/ui/submit", url.Values{"vcenter": {"lab"}, "all": {"1"}, "q": {"vm-1"}, "vm": {"/DC/vm/prod/prod-db"}}), 200, "Options for 271 VMs", "and 251 more")
	wants(t, b.post("/ui/vms", "/ui/submit", url.Values{"vcenter": {"lab"}}), 422, "No VM is chosen")
	wants(t, b.post("/ui/vms", "/ui/submit", url.Values{"vcenter": {"lab"}, "vm": {"/gone", "/DC/vm/a/vm-1"}}), 200, "Options for 1 VM", "1 VM that you chose cannot be found")
	gone := url.Values{"vcenter": {"lab"}, "vm": {"/gone", "/DC/vm/a/vm-1"}, "step": {"submit"}, "output_path": {"/images"}, "format": {"qcow2"}}
	wants(t, b.post("/ui/vms", "/ui/submit", gone), 422, "1 VM that you chose cannot be found", "Submit 1 job")
	page, err := d.API.Jobs(access.WithPrincipal(t.Context(), access.Principal{Role: access.Viewer}), jobs.Query{})
	if err != nil || page.Total != 0 {
		t.Errorf("fewer jobs than were asked for were submitted: %+v, %v", page, err)
	}
	wants(t, b.post("/ui/vms", "/ui/submit", url.Values{"vcenter": {"lab"}, "vm": {"/DC/vm/" + hostile}, "step": {"check"}, "output_path": {"/images"}}), 200, "It could not be checked: check: the vCenter does not answer")
}

func TestLimitsAreChangedByThoseWhoMay(t *testing.T) {
	t.Parallel()
	d, _, as := startPages(t)
	id := d.running("/DC/vm/a/vm-1")
	wants(t, as["viewer"].get("/ui/limits"), 200, "No limit", "needs the role admin", "vm-1")
	wants(t, as["operator"].post("/ui/vms", "/ui/limits", url.Values{"limit": {"1MB/s"}}), 403, "does not suffice")
	wants(t, as["operator"].post("/ui/vms", "/ui/limits/job", url.Values{"id": {id}, "limit": {"nonsense"}}), 422, "must be a rate")
	wants(t, as["operator"].post("/ui/vms", "/ui/limits/job", url.Values{"id": {id}, "limit": {"25MiB/s"}}), 303)
	wants(t, as["operator"].get("/ui/limits"), 200, "The limit of vm-1 is 25MiB/s.", `value="25MiB/s"`)
	if n, ok := d.Throttle.Of(id); !ok || n != 25<<20 {
		t.Errorf("the job that runs has %d", n)
	}
	wants(t, as["admin"].post("/ui/limits", "/ui/limits", url.Values{"limit": {"200MB/s"}}), 303)
	wants(t, as["admin"].get("/ui/limits"), 200, "At most <strong>200MB/s</strong>")
	if got := strings.Join(d.actions(), ", "); !strings.Contains(got, "operator jobs.limit") || !strings.Contains(got, "admin limits.set") {
		t.Errorf("the audit log has %s", got)
	}
	d.Runner.Verdict("/DC/vm/a/vm-1") <- nil
}

func TestTheAuditLogIsForAdminsAndIsVerified(t *testing.T) {
	t.Parallel()
	d, _, as := startPages(t)
	for i := range 60 {
		wants(t, as["admin"].post("/ui/limits", "/ui/limits", url.Values{"limit": {fmt.Sprintf("%dMB/s", i+1)}}), 303)
	}
	wants(t, as["operator"].get("/ui/audit"), 403, "does not suffice")
	a := as["admin"].get("/ui/audit")
	wants(t, a, 200, "60MB/s", "Older", "has not been checked")
	wants(t, as["admin"].post("/ui/audit", "/ui/audit/verify", nil), 303)
	wants(t, as["admin"].get("/ui/audit"), 200, "none changed or missing")
	wants(t, as["admin"].get("/ui/audit?cursor=20"), 200, "Newest")
	wants(t, as["admin"].get("/ui/audit?cursor=x"), 400)
	_ = d
}

func TestThroughputIsShownForEachWindow(t *testing.T) {
	t.Parallel()
	_, _, as := startPages(t)
	for _, query := range []string{"", "?window=hour", "?window=day", "?window=month", "?window=nonsense"} {
		wants(t, as["viewer"].get("/ui/throughput"+query), 200, "<svg", "No byte came in this time.")
	}
}
