package vspheretest_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestNamesMayHaveAnythingInThem(t *testing.T) {
	t.Parallel()
	disk := []vspheretest.Disk{{Path: rawDisk(t, mib, kib, 0)}}
	names := []string{"with space", "a/b", `quo"te's`, "ünï-文字", "100%", "tail ", "a=b,c;d", "[x] *"}
	var cfg vspheretest.Config
	for _, n := range names {
		cfg.VMs = append(cfg.VMs, vspheretest.VM{Name: n, Disks: disk})
	}
	for _, folder := range []string{"Prod", "Test/Deep"} {
		cfg.VMs = append(cfg.VMs, vspheretest.VM{Name: "twin", Folder: folder, Disks: disk, Snapshots: []string{folder}})
	}
	srv := vspheretest.Start(t, cfg)
	c := connect(t, srv)
	found := c.list()
	for _, vm := range cfg.VMs {
		id := vm.Name
		if vm.Folder != "" {
			id = vm.Folder + "/" + vm.Name
		}
		if srv.InventoryPath(id) == "" {
			t.Errorf("%q has no inventory path", id)
		}
		stored := strings.NewReplacer("%", "%25", "/", "%2f").Replace(vm.Name)
		ref, ok := found[srv.InventoryPath(id)]
		if !ok || filepath.Base(srv.InventoryPath(id)) != stored {
			t.Errorf("%q is listed as %q: %v", vm.Name, srv.InventoryPath(id), ok)
			continue
		}
		lease, err := object.NewVirtualMachine(c.Client.Client, ref).Export(t.Context())
		if err != nil {
			t.Errorf("export %q: %v", vm.Name, err)
			continue
		}
		info, err := lease.Wait(t.Context(), nil)
		if err != nil {
			t.Errorf("export %q: %v", vm.Name, err)
			continue
		}
		if a := get(t, diskURLs(info)[0]); a.sha256() != srv.Stream(id, 0).SHA256 {
			t.Errorf("%q: %s, %d bytes", vm.Name, a.Status, len(a.body))
		}
	}
	for _, folder := range []string{"Prod", "Test/Deep"} {
		if got := srv.Snapshots(folder + "/twin"); !slices.Equal(got, []string{folder}) {
			t.Errorf("snapshots of %s/twin: %q", folder, got)
		}
	}
}

// list returns every VM's reference by inventory path.
func (c *client) list() map[string]types.ManagedObjectReference {
	c.t.Helper()
	ctx := c.t.Context()
	v, err := view.NewManager(c.Client.Client).CreateContainerView(ctx, c.ServiceContent.RootFolder, []string{"VirtualMachine", "Folder", "Datacenter"}, true)
	if err != nil {
		c.t.Fatal(err)
	}
	var all []mo.ManagedEntity
	if err := v.Retrieve(ctx, []string{"VirtualMachine", "Folder", "Datacenter"}, []string{"name", "parent"}, &all); err != nil {
		c.t.Fatal(err)
	}
	byRef := make(map[types.ManagedObjectReference]mo.ManagedEntity)
	for _, e := range all {
		byRef[e.Self] = e
	}
	paths := make(map[string]types.ManagedObjectReference)
	for ref := range byRef {
		if ref.Type != "VirtualMachine" {
			continue
		}
		var path string
		for at := ref; ; {
			e, ok := byRef[at]
			if !ok {
				break
			}
			path = "/" + e.Name + path
			if e.Parent == nil {
				break
			}
			at = *e.Parent
		}
		paths[path] = ref
	}
	return paths
}

func TestTenThousandVMsAreListed(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.BulkVMs, c.Hosts = 10_000, 3 })
	c := connect(t, srv)
	v, err := view.NewManager(c.Client.Client).CreateContainerView(t.Context(), c.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
	if err != nil {
		t.Fatal(err)
	}
	var o mo.ContainerView
	if err := c.RetrieveOne(t.Context(), v.Reference(), []string{"view"}, &o); err != nil {
		t.Fatal(err)
	}
	if len(o.View) != 10_001 {
		t.Errorf("%d VMs, want 10,001", len(o.View))
	}
	ref, err := object.NewSearchIndex(c.Client.Client).FindByInventoryPath(t.Context(), "/DC0/vm/Bulk/Team-19/App-03/bulk-00079")
	if err != nil || ref == nil {
		t.Errorf("bulk-00079 is not where it should be: %v", err)
	}
}

func TestAMissingPrivilegeShows(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.VMs[0].DeniedPrivileges = []string{"VApp.Export"} })
	c := connect(t, srv)
	m := object.NewAuthorizationManager(c.Client.Client)
	refs := []types.ManagedObjectReference{c.vm("guest1").Reference()}
	user, err := c.SessionManager.UserSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	res, err := methods.HasPrivilegeOnEntities(t.Context(), c.Client.Client, &types.HasPrivilegeOnEntities{
		This: m.Reference(), Entity: refs, SessionId: user.Key, PrivId: []string{"VApp.Export", "System.View"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := res.Returnval[0].PrivAvailability; got[0].IsGranted || !got[1].IsGranted {
		t.Errorf("HasPrivilegeOnEntities: %+v", got)
	}
	all, err := m.FetchUserPrivilegeOnEntities(t.Context(), refs, user.UserName)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(all[0].Privileges, "VApp.Export") || !slices.Contains(all[0].Privileges, "System.View") {
		t.Errorf("FetchUserPrivilegeOnEntities: %q", all[0].Privileges)
	}
}

func TestTheCDDriveIsEjectedAndPutBack(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.VMs[0].ISO = []byte("image") })
	if cd := srv.CDROM("guest1"); !cd.Present || !cd.StartConnected || cd.Image != "[LocalDS_0] iso/guest1.iso" {
		t.Fatalf("the drive: %+v", cd)
	}
	vm := connect(t, srv).vm("guest1")
	devices, err := vm.Device(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	drive, err := devices.FindCdrom("")
	if err != nil {
		t.Fatal(err)
	}
	if err := vm.RemoveDevice(t.Context(), true, drive); err != nil {
		t.Fatal(err)
	}
	if cd := srv.CDROM("guest1"); cd.Present {
		t.Errorf("after its removal: %+v", cd)
	}
	if err := vm.AddDevice(t.Context(), drive); err != nil {
		t.Fatal(err)
	}
	if cd := srv.CDROM("guest1"); !cd.Present || cd.Image != "[LocalDS_0] iso/guest1.iso" {
		t.Errorf("after it was put back: %+v", cd)
	}
}
