package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// weather lets a lab go wrong by chance: at every so many requests something
// happens, drawn from menu. Whatever it is, a good client gets over it.
type weather struct {
	t        *testing.T
	lab      *vspheretest.Server
	long     bool // there is time for what takes minutes to get over
	machines map[string]*machine

	mu      sync.Mutex
	rng     *rand.Rand
	calm    bool
	cancel  func(job string)
	left    int            // requests until the next thing happens
	renewed time.Time      // when the host last got another certificate
	others  map[string]int // what happened beside the lab's faults, by kind
	diary   diary
}

// between is how many requests lie between two things that go wrong, on average.
const between = 12

func newWeather(t *testing.T, lab *vspheretest.Server, rng *rand.Rand, long bool, machines []*machine) *weather {
	w := &weather{
		t: t, lab: lab, rng: rng, long: long, left: between,
		machines: make(map[string]*machine), others: make(map[string]int),
	}
	for _, g := range machines {
		w.machines[lab.InventoryPath(g.vm.Name)] = g
	}
	lab.OnRequest(w.request)
	return w
}

// request may let something happen before a request is answered.
func (w *weather) request(r vspheretest.Request) {
	w.diary.note(r.VM, "%s %s %s, session %q", r.Plane, r.Method, r.Range, r.Session)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calm {
		return
	}
	if g := w.machines[r.VM]; r.Method == "ExportVm" && g != nil && len(g.states) > 1 {
		w.runGuest(g)
	}
	if g := w.machines[r.VM]; g != nil && g.cancelAt > 0 {
		if g.cancelAt--; g.cancelAt == 0 {
			w.others["job cancelled"]++
			w.diary.note(r.VM, "somebody cancels %s", g.job)
			w.cancel(g.job)
		}
	}
	if w.left--; w.left > 0 {
		return
	}
	w.left = 1 + w.rng.IntN(2*between)
	w.happen()
}

// plan draws when the jobs of the n-th wave are to be cancelled that are.
func (w *weather) plan(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, path := range slices.Sorted(maps.Keys(w.machines)) {
		g := w.machines[path]
		if g.cancelled {
			g.job, g.cancelAt = jobID(n, g), 1+w.rng.IntN(70)
		}
	}
}

// runGuest changes what is on the disks of a VM, as if it had run since the last
// lease on it ended. It works on the VM of a lease that is about to be opened.
func (w *weather) runGuest(g *machine) {
	path := w.lab.InventoryPath(g.vm.Name)
	for _, l := range w.lab.Leases() {
		if l.VM == path {
			return
		}
	}
	if w.rng.IntN(3) > 0 {
		return
	}
	w.others["guest ran"]++
	state := g.states[w.rng.IntN(len(g.states))]
	for i, disk := range state {
		if err := w.lab.SetDisk(path, i, disk); err != nil {
			w.t.Error(err)
		}
	}
	w.lab.Touch(path)
}

// happen draws from the menu.
func (w *weather) happen() {
	total := 0
	for _, m := range menu {
		if w.long || !m.long {
			total += m.weight
		}
	}
	n := w.rng.IntN(total)
	for _, m := range menu {
		if m.long && !w.long {
			continue
		}
		if n -= m.weight; n >= 0 {
			continue
		}
		rule := m.rule(w.rng)
		w.diary.note("", "from now on: %s", rule)
		if rule == "renew" {
			w.renew()
		} else if err := w.lab.AddFault(rule); err != nil {
			w.t.Error(err)
		}
		return
	}
}

// renewals are at least so far apart: a second one before a lease that tells of the
// first is used would rightly be taken for an impostor's.
const renewals = time.Minute

// renew gives the host another certificate.
func (w *weather) renew() {
	if time.Since(w.renewed) < renewals {
		return
	}
	w.renewed = time.Now()
	w.others["certificate renewed"]++
	if err := w.lab.RenewHostCertificate(0); err != nil {
		w.t.Error(err)
	}
}

// clear ends what goes wrong, for good.
func (w *weather) clear() {
	w.mu.Lock()
	w.calm = true
	w.mu.Unlock()
	w.lab.ClearFaults()
	w.lab.Release()
}

// menu is what can go wrong. What is marked long takes the product's time-outs,
// of a minute and more, to get over.
var menu = []struct {
	weight int
	long   bool
	rule   func(*rand.Rand) string
}{
	{6, false, at("cut")},
	{3, false, at("truncate")},
	{4, false, at("corrupt")},
	{1, true, at("stall")},
	{3, false, func(r *rand.Rand) string { return "status:code=" + pick(r, "500", "502", "503", "504") }},
	{2, false, always("empty")},
	{2, false, always("norange")},
	{1, false, always("change")},
	{2, false, at("expire")},
	{2, false, at("session")},
	{2, false, func(r *rand.Rand) string { return at("session")(r) + ",keep=true" }},
	{1, false, always("renew")},
	{3, false, func(r *rand.Rand) string { return "manifest:late=" + upTo(r, 2*time.Second) }},
	{2, false, func(r *rand.Rand) string { return "touch:on=" + pick(r, "open", "end") }},
	{2, false, func(r *rand.Rand) string { return down(r, 1500*time.Millisecond, "refuse", "reset", "503", "html") }},
	{4, true, func(r *rand.Rand) string { return down(r, 1500*time.Millisecond, "refuse", "reset", "503", "html") }},
	{1, true, func(r *rand.Rand) string { return down(r, time.Minute, "refuse", "reset", "503", "html", "hang") }},
	{5, false, func(r *rand.Rand) string {
		return "late:call=" + pick(r, anyCalls...) + ",after=" + upTo(r, 2*time.Second)
	}},
	{1, true, func(r *rand.Rand) string {
		return "hang:call=" + pick(r, anyCalls...) + ",effect=" + pick(r, "true", "false")
	}},
	{6, false, lose(slowCalls...)},
	{4, true, lose("*", "CreateSnapshot_Task", "ReconfigVM_Task")}, // looked after for a minute
	{4, false, func(r *rand.Rand) string { return "fault:" + pick(r, refusals...) }},
	{6, false, func(r *rand.Rand) string {
		return "task:call=" + pick(r, "CreateSnapshot_Task", "RemoveSnapshot_Task", "ReconfigVM_Task") +
			",takes=" + upTo(r, 3*time.Second) + ",cancel=" + pick(r, "false", "true", "ignore")
	}},
	{1, true, func(r *rand.Rand) string {
		return "task:call=" + pick(r, "CreateSnapshot_Task", "RemoveSnapshot_Task", "ReconfigVM_Task") + ",takes=" + upTo(r, 90*time.Second)
	}},
}

// slowCalls are the calls whose answer may be late or lost.
var slowCalls = []string{
	"ExportVm", "ExportSnapshot", "RemoveSnapshot_Task",
	"HttpNfcLeaseGetManifest", "HttpNfcLeaseComplete", "HttpNfcLeaseAbort", "HttpNfcLeaseProgress",
	"HttpNfcLeaseSetManifestChecksumType", "CreateDescriptor", "RetrievePropertiesEx", "Logout",
}

// anyCalls are those and any other.
var anyCalls = slices.Concat(slowCalls, []string{"*", "*", "CreateSnapshot_Task", "ReconfigVM_Task"})

// refusals are faults of calls that a second try gets over.
var refusals = []string{
	"call=ExportVm,fault=TaskInProgress", "call=ExportSnapshot,fault=TaskInProgress",
	"call=CreateSnapshot_Task,fault=TaskInProgress", "call=RemoveSnapshot_Task,fault=TaskInProgress",
	"call=ReconfigVM_Task,fault=TaskInProgress", "call=HttpNfcLeaseAbort,fault=SystemError",
	"call=HttpNfcLeaseProgress,fault=SystemError", "call=HttpNfcLeaseComplete,fault=SystemError",
}

func always(rule string) func(*rand.Rand) string {
	return func(*rand.Rand) string { return rule }
}

// at strikes at a byte that most disks have.
func at(kind string) func(*rand.Rand) string {
	return func(r *rand.Rand) string { return fmt.Sprintf("%s:at=%d", kind, r.IntN(smallest)) }
}

func down(r *rand.Rand, most time.Duration, how ...string) string {
	return "down:plane=" + pick(r, "control", "control", "hosts", "all") + ",how=" + pick(r, how...) + ",for=" + upTo(r, most)
}

func lose(calls ...string) func(*rand.Rand) string {
	return func(r *rand.Rand) string {
		return "lose:call=" + pick(r, calls...) + ",how=" + pick(r, "reset", "503", "html") + ",effect=" + pick(r, "true", "false")
	}
}

func pick(r *rand.Rand, from ...string) string { return from[r.IntN(len(from))] }

func upTo(r *rand.Rand, most time.Duration) string {
	return (time.Duration(1+r.Int64N(int64(most/time.Millisecond))) * time.Millisecond).String()
}
