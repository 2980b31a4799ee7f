package vsphere_test

import (
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/simulator"

	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestListShowsEveryVMOnceWithItsPathInOrder(t *testing.T) {
	t.Parallel()
	_, cfg := simulate(t, func(m *simulator.Model) { m.App, m.Folder, m.Machine = 1, 1, 3 })
	c := dial(t, cfg)
	vms, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, vm := range vms {
		paths = append(paths, vm.Path)
		if vm.Power == "" || vm.HostName == "" || vm.CPUs == 0 || vm.MemoryMiB == 0 || vm.InstanceUUID == "" ||
			len(vm.Datastores) == 0 || vm.DiskCount != 1 || !strings.HasPrefix(vm.Path, vm.Datacenter+"/") || vm.Datacenter == "" {
			t.Errorf("incomplete: %+v", vm)
		}
	}
	want := []string{
		"/F0/DC0/host/F0/DC0_C0/Resources/DC0_C0_APP0/DC0_C0_APP0_VM0", // as `govc find / -type m` prints them
		"/F0/DC0/host/F0/DC0_C0/Resources/DC0_C0_APP0/DC0_C0_APP0_VM1",
		"/F0/DC0/host/F0/DC0_C0/Resources/DC0_C0_APP0/DC0_C0_APP0_VM2",
		"/F0/DC0/vm/F0/DC0_C0_RP0_VM0", "/F0/DC0/vm/F0/DC0_C0_RP0_VM1", "/F0/DC0/vm/F0/DC0_C0_RP0_VM2",
		"/F0/DC0/vm/F0/DC0_H0_VM0", "/F0/DC0/vm/F0/DC0_H0_VM1", "/F0/DC0/vm/F0/DC0_H0_VM2",
	}
	if !slices.Equal(paths, want) {
		t.Errorf("paths\n%s\nwant\n%s", strings.Join(paths, "\n"), strings.Join(want, "\n"))
	}
}

func TestListWalksAllPages(t *testing.T) {
	t.Parallel()
	model, cfg := simulate(t, nil)
	crowd(model, 4321)
	vms, err := dial(t, cfg).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, vm := range vms {
		seen[vm.Ref] = true
	}
	if len(vms) != 4321+4 || len(seen) != len(vms) {
		t.Errorf("%d VMs, %d of them different; want %d", len(vms), len(seen), 4321+4)
	}
}

func TestFindByWhateverIdentifiesAVM(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{
		{Name: "web", Folder: "prod"}, {Name: "web", Folder: "test"},
		{Name: "db"}, {Name: `it's "Müller" & Söhne 名`, Folder: "odd ones"},
	}})
	cfg := labConfig(t, lab)
	c := dial(t, cfg)
	cfg.Datacenter = env(lab)["GOVC_DATACENTER"]
	relative := dial(t, cfg)
	db := find(t, c, "db")
	for ref, want := range map[string]string{
		db.Path:                           "db",
		db.Path + "/":                     "db",
		db.Ref:                            "db",
		"VirtualMachine:" + db.Ref:        "db",
		db.InstanceUUID:                   "db",
		strings.ToUpper(db.BIOSUUID):      "db",
		"prod/web":                        "prod/web",
		`it's "Müller" & Söhne 名`:         `odd ones/it's "Müller" & Söhne 名`,
		lab.InventoryPath("test/web"):     "test/web",
		lab.InventoryPath("prod/web")[1:]: "prod/web", // without its first slash
	} {
		if vm := find(t, c, ref); vm.Path != lab.InventoryPath(want) {
			t.Errorf("%q gives %s, want %s", ref, vm.Path, want)
		}
		if vm := find(t, relative, ref); vm.Path != lab.InventoryPath(want) {
			t.Errorf("with a datacenter, %q gives %s, want %s", ref, vm.Path, want)
		}
	}
	if vm := find(t, relative, "test/web"); vm.Path != lab.InventoryPath("test/web") {
		t.Errorf("relative path gives %s", vm.Path)
	}
}

func TestFindDoesNotChooseBetweenVMsOfOneName(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "web", Folder: "prod"}, {Name: "web", Folder: "test"}}})
	_, err := dial(t, labConfig(t, lab)).Find(t.Context(), "web")
	var ambiguous *vsphere.AmbiguousError
	if !errors.As(err, &ambiguous) || len(ambiguous.Matches) != 2 {
		t.Fatalf("error %v", err)
	}
	for _, vm := range []string{"prod/web", "test/web"} {
		if path := lab.InventoryPath(vm); !strings.Contains(err.Error(), path) {
			t.Errorf("%q does not name %s", err, path)
		}
	}
}

func TestFindNamesWhatComesNear(t *testing.T) {
	t.Parallel()
	_, cfg := simulate(t, nil)
	c := dial(t, cfg)
	_, err := c.Find(t.Context(), "/DC0/vm/dc0_h0_vm9")
	var missing *vsphere.NotFoundError
	if !errors.Is(err, vsphere.ErrNotFound) || !errors.As(err, &missing) {
		t.Fatalf("error %v", err)
	}
	if !slices.Contains(missing.Near, "/DC0/vm/DC0_H0_VM0") || !strings.Contains(err.Error(), "/DC0/vm/DC0_H0_VM0") {
		t.Errorf("near: %v", missing.Near)
	}
	for _, ref := range []string{"", "/", "zzzzzzzzz"} {
		if _, err := c.Find(t.Context(), ref); !errors.As(err, &missing) || len(missing.Near) != 0 {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

func TestFindShowsTheHardware(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{{
		Name: "erp", CPUs: 8, CoresPerSocket: 4, MemoryMiB: 4096, EFI: true, SecureBoot: true, CPUHotAdd: true, MemoryHotAdd: true,
		GuestID: "debian12_64Guest", Annotation: "the important one", CBT: true,
		NICs: []vspheretest.NIC{{Type: "vmxnet3", MAC: "00:50:56:aa:bb:01"}, {Type: "e1000e", MAC: "00:50:56:aa:bb:02"}},
		Disks: []vspheretest.Disk{
			{Path: rawDisk(t, "a", 1<<20), Controller: vspheretest.PVSCSI},
			{Path: rawDisk(t, "b", 2<<20), Controller: vspheretest.LSILogicSAS},
			{Path: rawDisk(t, "c", 3<<20), Controller: vspheretest.SATA},
			{Path: rawDisk(t, "d", 4<<20), Controller: vspheretest.NVMe},
			{Path: rawDisk(t, "e", 5<<20), Controller: vspheretest.IDE},
			{Path: rawDisk(t, "f", 6<<20), Controller: vspheretest.LSILogic, Independent: true},
		},
		Snapshots: []string{"one", "two"},
	}}})
	vm := find(t, dial(t, labConfig(t, lab)), "erp")
	if vm.CPUs != 8 || vm.CoresPerSocket != 4 || vm.MemoryMiB != 4096 || vm.Firmware != vsphere.EFI || !vm.SecureBoot ||
		vm.GuestID != "debian12_64Guest" || vm.Annotation != "the important one" || vm.Power != vsphere.PoweredOff ||
		vm.Snapshots != 2 || vm.DiskCount != 6 || !vm.ChangeTracking || vm.ConnectionState != "connected" || vm.HostName == "" {
		t.Errorf("VM %+v", vm)
	}
	if !vm.CPUHotAdd || !vm.MemoryHotAdd || vm.MaxMemoryMiB != 0 { // a VM that is off has no bound
		t.Errorf("CPUs can be added: %t, memory: %t, up to %d", vm.CPUHotAdd, vm.MemoryHotAdd, vm.MaxMemoryMiB)
	}
	kinds := []string{vsphere.PVSCSI, vsphere.LSISAS, vsphere.SATA, vsphere.NVMe, vsphere.IDE, vsphere.LSILogic}
	for i, d := range vm.Disks {
		if d.Controller != kinds[i] || d.Capacity != int64(i+1)<<20 || d.Label == "" || d.Datastore == "" ||
			!strings.HasSuffix(d.File, ".vmdk") || d.Independent() != (i == 5) {
			t.Errorf("disk %d: %+v", i, d)
		}
	}
	if len(vm.NICs) != 2 || vm.NICs[0].Type != "vmxnet3" || vm.NICs[1].Type != "e1000e" ||
		vm.NICs[1].MAC != "00:50:56:aa:bb:02" || vm.NICs[0].Network == "" {
		t.Errorf("NICs %+v", vm.NICs)
	}
}

func TestListGoesOnWhenTheSessionHasEnded(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "web"}}})
	c := dial(t, labConfig(t, lab))
	lab.EndSessions()
	vms, err := c.List(t.Context())
	if err != nil || len(vms) != 1 {
		t.Errorf("%d VMs, %v", len(vms), err)
	}
}

// env is the lab's environment as a map.
func env(lab *vspheretest.Server) map[string]string {
	out := map[string]string{}
	for _, line := range lab.Env() {
		k, v, _ := strings.Cut(line, "=")
		out[k] = v
	}
	return out
}

func BenchmarkList10000(b *testing.B) {
	if os.Getenv("H2KVM_BENCH_LAB") == "" {
		model, cfg := simulate(b, nil)
		crowd(model, 10_000)
		benchmarkList(b, dial(b, cfg))
		return
	}
	lab := startLab(b, vspheretest.Config{BulkVMs: 10_000})
	benchmarkList(b, dial(b, labConfig(b, lab)))
}

func benchmarkList(b *testing.B, c *vsphere.Client) {
	b.ReportAllocs()
	for b.Loop() {
		vms, err := c.List(b.Context())
		if err != nil || len(vms) < 10_000 {
			b.Fatal(len(vms), err)
		}
	}
}

func TestAVMIsReadAgainWithoutAWalkOfTheInventory(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{
		VMs: []vspheretest.VM{{Name: "one", Folder: "Prod", Disks: []vspheretest.Disk{{Path: rawDisk(t, "d", 1<<20)}}}},
	})
	c := dial(t, labConfig(t, lab))
	found := find(t, c, "Prod/one")
	list, err := c.List(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("%d VMs, %v", len(list), err)
	}
	before := len(lab.Requests(vspheretest.SOAP))
	for name, vm := range map[string]vsphere.VM{"found": found, "listed": list[0], "with a host of before": {
		Ref: found.Ref, Path: found.Path, Name: found.Name, Datacenter: found.Datacenter, Datastores: found.Datastores,
		Host: "host-gone", HostName: "of before",
	}} {
		again, err := c.Refresh(t.Context(), vm)
		if err != nil || !reflect.DeepEqual(again, found) {
			t.Errorf("%s: %+v, %v, want %+v", name, again, err, found)
		}
	}
	for _, r := range lab.Requests(vspheretest.SOAP)[before:] {
		if r.Method == "CreateContainerView" {
			t.Error("the inventory was walked")
		}
	}
	if _, err := c.Refresh(t.Context(), vsphere.VM{Ref: "vm-none", Path: "/none"}); !errors.Is(err, vsphere.ErrNotFound) {
		t.Errorf("a VM that is gone: %v", err)
	}
}
