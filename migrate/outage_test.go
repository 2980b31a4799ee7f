package migrate_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// vCenter goes away in the middle of a call, any of an export, and is back after
// a while. The run waits for it and goes on; where it was a change to the VM whose
// answer was lost, it looks what came of it.
func TestAnOutageThatBeginsWithAnyCallOfAnExportLosesNothing(t *testing.T) {
	t.Parallel()
	hows := []vspheretest.Outage{vspheretest.Refuse, vspheretest.Unavailable, vspheretest.Reset, vspheretest.HTML}
	for i, method := range []string{
		"Login", "RetrievePropertiesEx", "CreateContainerView", "HasPrivilegeOnEntities",
		"CreateSnapshot_Task", "ReconfigVM_Task", "ExportVm", "ExportSnapshot", "HttpNfcLeaseSetManifestChecksumType",
		"HttpNfcLeaseProgress", "HttpNfcLeaseGetManifest", "HttpNfcLeaseComplete", "CreateDescriptor", "RemoveSnapshot_Task", "Logout",
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			exportInOutage(t, method, hows[i%len(hows)])
		})
	}
}

func exportInOutage(t *testing.T, method string, how vspheretest.Outage) {
	t.Helper()
	guest := vspheretest.VM{Name: "guest1", ISO: []byte("image"), PoweredOn: strings.Contains(method, "Snapshot")}
	b := newBench(t, vspheretest.Config{VMs: []vspheretest.VM{guest}, LeaseTimeout: 5 * time.Second}, rawDisk(t, 4*mib, extent{0, 2 * mib, false}))
	b.m.LeasePause, b.m.Arrival = time.Millisecond, 3*time.Second
	cfg := b.config()
	cfg.DialOutage = time.Minute
	b.m.Endpoint = func(job.Definition) (vsphere.Config, error) { return cfg, nil }
	var once sync.Once
	b.OnCall(method, func() {
		once.Do(func() { time.AfterFunc(1500*time.Millisecond, b.Down(vspheretest.Control, how)) })
	})
	def := b.job(job.FormatOVF)
	def.Options.Snapshot, def.Options.RemoveCDROM = guest.PoweredOn, true
	result, tracker, err := b.run(context.Background(), def)
	if err != nil {
		t.Fatalf("%v\n%s", err, events(tracker))
	}
	b.identical(result)
	if method == "Login" { // nobody can end a session whose key nobody has received
		b.EndSessions()
	}
	b.clean()
}

func TestARunShowsThatItWaitsForVCenter(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, rawDisk(t, 4*mib, extent{0, mib, false}))
	tracker := progress.New()
	var shown string
	cfg := b.config()
	cfg.DialOutage = time.Minute
	up := b.Down(vspheretest.Control, vspheretest.Unavailable)
	cfg.OnOutage = func(o vsphere.Outage) { // told after the run
		if !o.Back {
			shown = tracker.Snapshot().Activity
			up()
		}
	}
	b.m.Endpoint = func(job.Definition) (vsphere.Config, error) { return cfg, nil }
	if _, err := b.m.Run(context.Background(), b.job(job.FormatRaw), tracker); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(shown, "waiting for "+cfg.URL.Host+" since ") || !strings.Contains(shown, "503") {
		t.Errorf("shown as %q", shown)
	}
	if a := tracker.Snapshot().Activity; a != "" {
		t.Errorf("after the run it still shows %q", a)
	}
	if e := events(tracker); !strings.Contains(e, "answers again") {
		t.Errorf("events:\n%s", e)
	}
}
