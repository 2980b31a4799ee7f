package vspheretest_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/vmware/govmomi/nfc"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// events returns a channel of what happens to leases.
func events(srv *vspheretest.Server, kinds ...vspheretest.LeaseEventKind) <-chan vspheretest.LeaseEvent {
	ch := make(chan vspheretest.LeaseEvent, 100)
	srv.OnLease(func(e vspheretest.LeaseEvent) {
		for _, k := range kinds {
			if e.Kind == k {
				ch <- e
			}
		}
	})
	return ch
}

func TestAnExpiredLeaseIsAnErrorAndServesNothing(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, nil)
	expired := events(srv, vspheretest.LeaseExpired)
	lease, info := connect(t, srv).export("guest1")
	srv.ExpireLeases()
	<-expired

	o, err := lease.Properties(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if o.State != types.HttpNfcLeaseStateError || o.Error == nil {
		t.Errorf("the expired lease has state %s and error %v", o.State, o.Error)
	}
	wantFault[*types.Timedout](t, lease.Progress(t.Context(), 1), "Progress")
	wantFault[*types.Timedout](t, lease.Complete(t.Context()), "Complete")
	if a := get(t, diskURLs(info)[0]); a.StatusCode != http.StatusNotFound {
		t.Errorf("the expired lease's URL answers %d", a.StatusCode)
	}
	if len(srv.Leases()) != 0 {
		t.Errorf("still open: %+v", srv.Leases())
	}
}

func TestAnExpiringLeaseCutsWhatIsBeingSent(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, nil)
	srv.OnByte("guest1", 0, mib, srv.ExpireLeases)
	_, info := connect(t, srv).export("guest1")
	a := get(t, diskURLs(info)[0])
	if a.err == nil {
		t.Errorf("all %d bytes arrived with a clean end", len(a.body))
	}
}

func TestAVMIsLockedWhileItsLeaseIsOpen(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, nil)
	c := connect(t, srv)
	vm := c.vm("guest1")
	for _, end := range []struct {
		name string
		f    func(*nfc.Lease) error
	}{
		{"Complete", func(l *nfc.Lease) error { return l.Complete(t.Context()) }},
		{"Abort", func(l *nfc.Lease) error { return l.Abort(t.Context(), nil) }},
	} {
		lease, info := c.export("guest1")
		_, err := vm.PowerOn(t.Context())
		wantFault[*types.TaskInProgress](t, err, "PowerOn")
		_, err = vm.Destroy(t.Context())
		wantFault[*types.TaskInProgress](t, err, "Destroy")
		_, err = vm.Export(t.Context())
		wantFault[*types.TaskInProgress](t, err, "a second ExportVm")

		if err := end.f(lease); err != nil {
			t.Fatalf("%s: %v", end.name, err)
		}
		if a := get(t, diskURLs(info)[0]); a.StatusCode != http.StatusNotFound {
			t.Errorf("after %s the URL answers %d", end.name, a.StatusCode)
		}
		wantFault[*types.InvalidState](t, end.f(lease), end.name+" again")
	}
	task, err := vm.PowerOn(t.Context())
	if err != nil {
		t.Fatalf("power on after the leases: %v", err)
	}
	if err := task.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := srv.PowerState("guest1"); got != types.VirtualMachinePowerStatePoweredOn {
		t.Errorf("power state %s", got)
	}
}

func TestExportVmFaultsForWhatCannotBeExported(t *testing.T) {
	t.Parallel()
	disk := []vspheretest.Disk{{Path: rawDisk(t, mib, kib, 0)}}
	srv := vspheretest.Start(t, vspheretest.Config{VMs: []vspheretest.VM{
		{Name: "running", Disks: disk, PoweredOn: true},
		{Name: "tpm", Disks: disk, VTPM: true},
		{Name: "encrypted", Disks: disk, Encrypted: true},
		{Name: "ft", Disks: disk, FaultTolerant: true},
		{Name: "forbidden", Disks: disk, DeniedPrivileges: []string{"VApp.Export"}},
		{Name: "disabled", Disks: disk, DisabledMethods: []string{"ExportVm"}},
	}})
	c := connect(t, srv)
	export := func(name string) error {
		_, err := c.vm(name).Export(t.Context())
		return err
	}
	wantFault[*types.InvalidPowerState](t, export("running"), "running")
	wantFault[*types.NotSupported](t, export("tpm"), "tpm")
	wantFault[*types.NotSupported](t, export("encrypted"), "encrypted")
	wantFault[*types.NotSupported](t, export("ft"), "ft")
	wantFault[*types.NoPermission](t, export("forbidden"), "forbidden")
	wantFault[*types.MethodDisabled](t, export("disabled"), "disabled")
	if len(srv.Leases()) != 0 {
		t.Errorf("open leases: %+v", srv.Leases())
	}
}

func TestARunningVMIsExportedBySnapshotWithoutItsIndependentDisks(t *testing.T) {
	t.Parallel()
	path := rawDisk(t, mib, kib, 0)
	srv := vspheretest.Start(t, vspheretest.Config{VMs: []vspheretest.VM{{
		Name: "db", PoweredOn: true, Disks: []vspheretest.Disk{
			{Path: path}, {Path: path, Independent: true}, {Path: path, RDM: vspheretest.RDMPhysical}, {Path: path},
		},
	}}})
	c := connect(t, srv)
	vm := c.vm("db")
	task, err := vm.CreateSnapshot(t.Context(), "export", "", false, false)
	if err != nil {
		t.Fatal(err)
	}
	result, err := task.WaitForResult(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	snap := result.Result.(types.ManagedObjectReference)
	lease, err := vm.ExportSnapshot(t.Context(), &snap)
	if err != nil {
		t.Fatal(err)
	}
	info, err := lease.Wait(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(diskURLs(info)); got != 2 {
		t.Errorf("the snapshot's lease has %d disks, want 2", got)
	}
	if got := get(t, diskURLs(info)[1]).sha256(); got != srv.Stream("db", 3).SHA256 {
		t.Error("the last disk's stream differs")
	}
	_, err = vm.RemoveSnapshot(t.Context(), "export", false, nil)
	wantFault[*types.TaskInProgress](t, err, "remove the snapshot under its lease")
	if err := lease.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	removeSnapshot(t, vm, "export")
	if left := srv.Snapshots("db"); len(left) != 0 {
		t.Errorf("snapshots left: %q", left)
	}
}

func removeSnapshot(t *testing.T, vm *object.VirtualMachine, name string) {
	t.Helper()
	task, err := vm.RemoveSnapshot(t.Context(), name, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestALeaseTakesItsTimeToBecomeReady(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.LeaseDelay = 50 * time.Millisecond })
	ready := events(srv, vspheretest.LeaseReady)
	c := connect(t, srv)
	lease, err := c.vm("guest1").Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lease.Wait(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	<-ready
}

func TestTheLeaseCarriesTheHostsThumbprintAndNoSizeOfDisks(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) {
		c.VMs[0].NVRAM, c.VMs[0].ISO = []byte("nvram"), []byte("image")
	})
	_, info := connect(t, srv).export("guest1")
	if got := len(info.DeviceUrl); got != 3 {
		t.Fatalf("%d device URLs, want image, disk and nvram", got)
	}
	for i, d := range info.DeviceUrl {
		if d.SslThumbprint != srv.HostThumbprint(0) || d.SslThumbprint == srv.Thumbprint() {
			t.Errorf("URL %d: thumbprint %s is not the host's", i, d.SslThumbprint)
		}
		wantDisk := i == 1
		if *d.Disk != wantDisk || (d.FileSize == 0) != wantDisk || (d.TargetId != "") != wantDisk {
			t.Errorf("URL %d (%s): disk %v, fileSize %d, targetId %q", i, d.Url, *d.Disk, d.FileSize, d.TargetId)
		}
	}
	if got := string(get(t, info.DeviceUrl[2].Url).body); got != "nvram" {
		t.Errorf("nvram: %q", got)
	}
}

func TestHostsBefore67OfferNoNVRAM(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.VMs[0].NVRAM, c.APIVersion = []byte("x"), "6.5" })
	_, info := connect(t, srv).export("guest1")
	if got := len(info.DeviceUrl); got != 1 {
		t.Errorf("%d device URLs, want the disk alone", got)
	}
}
