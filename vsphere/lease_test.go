package vsphere_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestALeaseGivesTheDisksAsTheHostSendsThem(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{{
		Name: "web", EFI: true, NVRAM: []byte("firmware variables"), ISO: []byte("an image"),
		Disks: []vspheretest.Disk{
			{Path: rawDisk(t, "first", 1<<20), Controller: vspheretest.PVSCSI},
			{Path: rawDisk(t, "second", 3<<20), Controller: vspheretest.SATA},
			{Path: rawDisk(t, "third", 2<<20), Controller: vspheretest.NVMe},
		},
	}}})
	c := dial(t, labConfig(t, lab))
	vm := find(t, c, "web")
	l := open(t, c, vsphere.Target{VM: vm})
	if err := l.SetSHA256(t.Context()); err != nil {
		t.Fatal(err)
	}
	var disks, others int
	sums := map[string]string{}
	for _, item := range l.Items() {
		size, sum := read(t, l.Source(item))
		sums[item.Key] = sum
		if !item.Disk {
			others++
			if item.Size != size {
				t.Errorf("%s has %d bytes, the lease said %d", item.Name, size, item.Size)
			}
			continue
		}
		want := lab.Stream("web", disks)
		if sum != want.SHA256 || item.Capacity != want.Capacity || item.DiskKey != vm.Disks[disks].Key || item.Size != -1 {
			t.Errorf("item %+v with sum %s does not fit disk %+v, stream %+v", item, sum, vm.Disks[disks], want)
		}
		disks++
	}
	if disks != 3 || others != 2 {
		t.Errorf("%d disks and %d other files, want 3 and 2", disks, others)
	}
	manifest, err := l.Manifest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range manifest {
		if e.Algorithm != "sha256" || e.Sum != sums[e.Key] {
			t.Errorf("manifest says %s %s for %s, the bytes have %s", e.Algorithm, e.Sum, e.Key, sums[e.Key])
		}
	}
	if len(manifest) != len(sums) {
		t.Errorf("%d manifest entries for %d files", len(manifest), len(sums))
	}
	if err := l.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if open := lab.Leases(); len(open) != 0 {
		t.Errorf("leases after Complete: %+v", open)
	}
}

func TestDescriptorNamesTheFilesThatWereWritten(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{{
		Name: "web", Disks: []vspheretest.Disk{{Path: rawDisk(t, "disk", 1<<20)}},
	}}})
	c := dial(t, labConfig(t, lab))
	target := vsphere.Target{VM: find(t, c, "web")}
	l := open(t, c, target)
	item := l.Items()[0]
	size, _ := read(t, l.Source(item))
	d, err := c.Descriptor(t.Context(), target, []vsphere.OVFFile{{Key: item.Key, Path: "web-disk-0.vmdk", Size: size, Capacity: item.Capacity}})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(d.XML, "web-disk-0.vmdk") || !strings.Contains(d.XML, "Envelope") {
		t.Errorf("descriptor:\n%s", d.XML)
	}
	if _, err := c.Descriptor(t.Context(), target, nil); err == nil {
		t.Error("a descriptor of no files was made")
	}
}

func TestOpenLeaseSaysWhyNot(t *testing.T) {
	t.Parallel()
	disk := []vspheretest.Disk{{Path: rawDisk(t, "disk", 1<<20)}}
	lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{
		{Name: "running", Disks: disk, PoweredOn: true},
		{Name: "tpm", Disks: disk, VTPM: true},
		{Name: "forbidden", Disks: disk, DeniedPrivileges: []string{"VApp.Export"}},
		{Name: "disabled", Disks: disk, DisabledMethods: []string{"ExportVm"}},
		{Name: "busy", Disks: disk},
	}})
	c := dial(t, labConfig(t, lab))
	open(t, c, vsphere.Target{VM: find(t, c, "busy")})
	for name, want := range map[string]error{
		"running": vsphere.ErrPoweredOn, "tpm": vsphere.ErrNotExportable, "forbidden": vsphere.ErrNoPermission,
		"disabled": vsphere.ErrNotExportable, "busy": vsphere.ErrBusy,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vm := find(t, c, name)
			_, err := c.OpenLease(t.Context(), vsphere.Target{VM: vm})
			var e *vsphere.Error
			if !errors.Is(err, want) || !errors.As(err, &e) || e.Hint == "" || e.On != vm.Path {
				t.Errorf("error %v, want %v with a hint and the path", err, want)
			}
			if name == "forbidden" && e.Privilege != "VApp.Export" {
				t.Errorf("privilege %q", e.Privilege)
			}
		})
	}
	t.Run("deleted meanwhile", func(t *testing.T) {
		t.Parallel()
		_, err := c.OpenLease(t.Context(), vsphere.Target{VM: vsphere.VM{Ref: "vm-no-more", Path: "/DC0/vm/gone"}})
		if !errors.Is(err, vsphere.ErrNotFound) {
			t.Errorf("error %v", err)
		}
	})
}

func TestALeaseIsAbortedWhenTheCallerGivesUpWhileItInitializes(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{
		LeaseDelay: time.Hour,
		VMs:        []vspheretest.VM{{Name: "web", Disks: []vspheretest.Disk{{Path: rawDisk(t, "disk", 1<<20)}}}},
	})
	c := dial(t, labConfig(t, lab))
	vm := find(t, c, "web")
	ctx, cancel := context.WithCancel(t.Context())
	aborted := make(chan struct{})
	lab.OnLease(func(e vspheretest.LeaseEvent) {
		switch e.Kind {
		case vspheretest.LeaseOpened:
			cancel()
		case vspheretest.LeaseAborted:
			close(aborted)
		}
	})
	if _, err := c.OpenLease(ctx, vsphere.Target{VM: vm}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	<-aborted
}

func TestKeepRenewsUntilItIsToldToStop(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{
		LeaseTimeout: 6 * time.Second, // which a loaded machine does not sleep through; every 2 s it is renewed
		VMs:          []vspheretest.VM{{Name: "web", Disks: []vspheretest.Disk{{Path: rawDisk(t, "disk", 1<<20)}}}},
	})
	c := dial(t, labConfig(t, lab))
	l := open(t, c, vsphere.Target{VM: find(t, c, "web")})
	renewed := make(chan int32, 100)
	lab.OnLease(func(e vspheretest.LeaseEvent) {
		if e.Kind == vspheretest.LeaseRenewed {
			renewed <- e.Percent
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Keep(ctx, func() int { return 142 }) }()
	for range 3 {
		select {
		case p := <-renewed:
			if p != 100 {
				t.Errorf("renewed with %d %%, want it cut to 100", p)
			}
		case err := <-done:
			t.Fatalf("Keep ended before it was told to: %v", err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Keep after cancel: %v", err)
	}
}

func TestKeepReportsALeaseThatIsLost(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*vspheretest.Server){
		"it times out":        (*vspheretest.Server).ExpireLeases,
		"its session is gone": (*vspheretest.Server).EndSessions,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab := startLab(t, vspheretest.Config{
				LeaseTimeout: 10 * time.Second,
				VMs:          []vspheretest.VM{{Name: "web", Disks: []vspheretest.Disk{{Path: rawDisk(t, "disk", 1<<20)}}}},
			})
			c := dial(t, labConfig(t, lab))
			l, err := c.OpenLease(t.Context(), vsphere.Target{VM: find(t, c, "web")})
			if err != nil {
				t.Fatal(err)
			}
			renewed := make(chan struct{}, 100)
			lab.OnLease(func(e vspheretest.LeaseEvent) {
				if e.Kind == vspheretest.LeaseRenewed {
					renewed <- struct{}{}
				}
			})
			done := make(chan error, 1)
			go func() { done <- l.Keep(t.Context(), nil) }()
			select {
			case <-renewed:
			case err := <-done:
				t.Fatalf("Keep ended before it renewed the lease once: %v", err)
			}
			end(lab)
			if err := <-done; !errors.Is(err, vsphere.ErrLeaseLost) {
				t.Errorf("Keep: %v", err)
			}
			if err := l.Abort(t.Context(), "lost"); err != nil {
				t.Errorf("Abort of a lease that is gone: %v", err)
			}
		})
	}
}

func TestAbortWorksAfterTheContextHasEndedAndOnlyOnce(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "web", Disks: []vspheretest.Disk{{Path: rawDisk(t, "disk", 1<<20)}}}}})
	c := dial(t, labConfig(t, lab))
	vm := find(t, c, "web")
	l, err := c.OpenLease(t.Context(), vsphere.Target{VM: vm})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		if err := l.Abort(ctx, "tired of it"); err != nil {
			t.Error(err)
		}
	}
	if open := lab.Leases(); len(open) != 0 {
		t.Errorf("leases after Abort: %+v", open)
	}
	open(t, c, vsphere.Target{VM: vm}) // the VM is free for the next
}

func TestARunningVMIsExportedFromATemporarySnapshot(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{{
		Name: "db", PoweredOn: true,
		Disks: []vspheretest.Disk{{Path: rawDisk(t, "one", 1<<20)}, {Path: rawDisk(t, "own", 1<<20), Independent: true}},
	}}})
	c := dial(t, labConfig(t, lab))
	vm := find(t, c, "db")
	snap, err := c.CreateSnapshot(t.Context(), vm, "nightly")
	if err != nil {
		t.Fatal(err)
	}
	if got := lab.Snapshots("db"); len(got) != 1 || got[0] != vsphere.SnapshotPrefix+"nightly" {
		t.Errorf("snapshots %v", got)
	}
	l := open(t, c, vsphere.Target{VM: vm, Snapshot: snap})
	items := l.Items()
	if len(items) != 1 || items[0].DiskKey != vm.Disks[0].Key || items[0].Capacity != 1<<20 {
		t.Errorf("items %+v, want the dependent disk only", items)
	}
	if _, sum := read(t, l.Source(items[0])); sum != lab.Stream("db", 0).SHA256 {
		t.Error("other bytes than the host's")
	}
	if err := l.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	left, err := c.FindSnapshots(t.Context(), vm, vsphere.SnapshotPrefix)
	if err != nil || len(left) != 1 || left[0].Ref != snap.Ref {
		t.Errorf("found %+v, %v", left, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // as after Ctrl-C
	for range 2 {
		if err := c.RemoveSnapshot(ctx, snap); err != nil {
			t.Error(err)
		}
	}
	if got := lab.Snapshots("db"); len(got) != 0 {
		t.Errorf("snapshots %v", got)
	}
}

func TestDeviceURLsOfAHostAndWithNamesInThem(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]vspheretest.Config{
		"a star for the host": {DirectURLs: true},
		"the VM's name":       {NamedURLs: true},
		"a PEM certificate":   {APIVersion: "9.0.0.0"},
		"ranges":              {Profile: vspheretest.Ranged},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg.VMs = []vspheretest.VM{{Name: `a/b 100% "süß" #1?`, Disks: []vspheretest.Disk{{Path: rawDisk(t, "disk", 1<<20)}}}}
			lab := startLab(t, cfg)
			c := dial(t, labConfig(t, lab))
			l := open(t, c, vsphere.Target{VM: find(t, c, `a/b 100% "süß" #1?`)})
			if size, sum := read(t, l.Source(l.Items()[0])); sum != lab.Stream(`a/b 100% "süß" #1?`, 0).SHA256 {
				t.Errorf("%d other bytes", size)
			}
		})
	}
}

func TestAForeignItemHasNoSource(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "web", Disks: []vspheretest.Disk{{Path: rawDisk(t, "disk", 1<<20)}}}}})
	c := dial(t, labConfig(t, lab))
	l := open(t, c, vsphere.Target{VM: find(t, c, "web")})
	if _, err := l.Source(vsphere.Item{Key: "/vm-0/none"}).Open(t.Context(), 0, -1); err == nil {
		t.Error("opened")
	}
}

func TestALeaseOfAProcessThatDiedCanBeAborted(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "web", Disks: []vspheretest.Disk{{Path: rawDisk(t, "disk", 1<<20)}}}}})
	c := dial(t, labConfig(t, lab))
	l, err := c.OpenLease(t.Context(), vsphere.Target{VM: find(t, c, "web")})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.AbortLease(t.Context(), l.Ref()); err != nil {
			t.Error(err)
		}
	}
	if open := lab.Leases(); len(open) != 0 {
		t.Errorf("leases %+v", open)
	}
}

func TestASnapshotWhoseCallerGaveUpIsNotLeftBehind(t *testing.T) {
	t.Parallel()
	model, cfg := simulate(t, nil)
	c := dial(t, cfg)
	vm := find(t, c, "DC0_H0_VM0")
	ctx, cancel := context.WithCancel(t.Context())
	started := watch(model, "CreateSnapshot_Task", cancel)
	_, err := c.CreateSnapshot(ctx, vm, "given-up")
	if !errors.Is(err, context.Canceled) || !started.Load() {
		t.Errorf("error %v, called %t", err, started.Load())
	}
	left, err := c.FindSnapshots(t.Context(), vm, "")
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %+v, %v", left, err)
	}
}

func TestARestoredDriveAfterTheCallerGaveUp(t *testing.T) {
	t.Parallel()
	model, cfg := simulate(t, nil)
	c := dial(t, cfg)
	vm := find(t, c, "DC0_H0_VM0")
	ctx, cancel := context.WithCancel(t.Context())
	started := watch(model, "ReconfigVM_Task", cancel)
	change, err := c.PlanCDROM(t.Context(), vm, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := change.Apply(ctx); !errors.Is(err, context.Canceled) || !started.Load() {
		t.Errorf("error %v, called %t", err, started.Load())
	}
	change, err = c.PlanCDROM(t.Context(), vm, nil)
	if err != nil || len(change.Drives) != 1 {
		t.Errorf("the drive is not back: %+v, %v", change, err)
	}
}
