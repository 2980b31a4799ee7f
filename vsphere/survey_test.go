package vsphere_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestASurveySeesOfEveryVMWhatALookAtItAloneSees(t *testing.T) {
	t.Parallel()
	raw := func(n string) vspheretest.Disk { return vspheretest.Disk{Path: rawDisk(t, n, 1<<20)} }
	with := func(n string, change func(*vspheretest.Disk)) []vspheretest.Disk {
		d := raw(n)
		change(&d)
		return []vspheretest.Disk{raw(n + "-first"), d}
	}
	lab := startLab(t, vspheretest.Config{BulkVMs: 3, VMs: []vspheretest.VM{
		{Name: "plain", Disks: []vspheretest.Disk{raw("plain")}, NICs: []vspheretest.NIC{{}, {Type: "e1000e", Network: "DMZ"}, {Type: "e1000"}}},
		{Name: "running", PoweredOn: true, Disks: []vspheretest.Disk{raw("running")}},
		{Name: "tpm", VTPM: true, Disks: []vspheretest.Disk{raw("tpm")}},
		{Name: "encrypted", Encrypted: true, Disks: []vspheretest.Disk{raw("encrypted")}},
		{Name: "tolerant", FaultTolerant: true, Disks: []vspheretest.Disk{raw("tolerant")}},
		{Name: "physical", Disks: with("physical", func(d *vspheretest.Disk) { d.RDM = vspheretest.RDMPhysical })},
		{Name: "virtual", Disks: with("virtual", func(d *vspheretest.Disk) { d.RDM = vspheretest.RDMVirtual })},
		{Name: "independent", PoweredOn: true, Disks: with("independent", func(d *vspheretest.Disk) { d.Independent = true })},
		{Name: "sata", Disks: with("sata", func(d *vspheretest.Disk) { d.Controller = vspheretest.SATA })},
		{Name: "nvme", Disks: with("nvme", func(d *vspheretest.Disk) { d.Controller = vspheretest.NVMe })},
		{Name: "ide", Disks: with("ide", func(d *vspheretest.Disk) { d.Controller = vspheretest.IDE })},
		{Name: "sas", Disks: with("sas", func(d *vspheretest.Disk) { d.Controller = vspheretest.LSILogicSAS })},
		{Name: "snapshots", Snapshots: []string{"one", "hyper2kvm-stray", "three"}, Disks: []vspheretest.Disk{raw("snapshots")}},
		{Name: "image", ISO: []byte("an image"), Disks: []vspheretest.Disk{raw("image")}},
		{Name: "disabled", DisabledMethods: []string{"ExportVm", "CreateSnapshot_Task"}, Disks: []vspheretest.Disk{raw("disabled")}},
		{Name: "diskless"},
	}})
	c := dial(t, labConfig(t, lab))
	before := len(lab.Requests(vspheretest.SOAP))
	told := 0
	seen, err := c.Survey(t.Context(), func(vms int) { told = vms })
	if err != nil || len(seen) != 19 || told != 19 {
		t.Fatalf("%d VMs, told of %d, %v", len(seen), told, err)
	}
	if calls := len(lab.Requests(vspheretest.SOAP)) - before; calls > 5 {
		t.Errorf("%d calls for %d VMs", calls, len(seen))
	}
	reach := func(context.Context, string, int) error { return nil }
	for _, s := range seen {
		full, err := c.Refresh(t.Context(), s.VM)
		if err != nil {
			t.Fatal(err)
		}
		// What a survey does not ask for.
		ignore := cmpopts.IgnoreFields(vsphere.VM{}, "CoresPerSocket", "ProvisionedBytes", "Firmware", "SecureBoot", "ChangeTracking", "ChangeVersion", "Annotation", "Guest")
		if diff := cmp.Diff(full, s.VM, ignore, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: -alone +survey:\n%s", s.VM.Name, diff)
		}
		for _, o := range []vsphere.PreflightOptions{{Reach: reach}, {Snapshot: true, Reach: reach}, {RemoveCDROM: true, Reach: reach}} {
			want, err := c.Preflight(t.Context(), s.VM, o)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, s.Obstacles(o), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s, snapshot %t: -alone +survey:\n%s", s.VM.Name, o.Snapshot, diff)
			}
		}
	}
}
