package vsphere_test

import (
	"slices"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestAListHasThePortGroupsOfEveryVM(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{BulkVMs: 2, VMs: []vspheretest.VM{
		{Name: "one", NICs: []vspheretest.NIC{{Network: "VM Network"}, {Network: "DMZ"}, {Network: "DMZ"}, {}}},
		{Name: "two", NICs: []vspheretest.NIC{{Network: "DMZ"}}},
		{Name: "none"},
	}})
	vms, err := dial(t, labConfig(t, lab)).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"one": {"DC0_DVPG0", "DMZ", "VM Network"}, "two": {"DMZ"}, "none": nil, "bulk-00000": {"DC0_DVPG0"}, "bulk-00001": {"DC0_DVPG0"},
	}
	if len(vms) != len(want) {
		t.Errorf("%d VMs", len(vms))
	}
	for _, vm := range vms {
		if !slices.Equal(vm.Networks, want[vm.Name]) {
			t.Errorf("%s is on %q, want %q", vm.Name, vm.Networks, want[vm.Name])
		}
	}
	one := vms[slices.IndexFunc(vms, func(vm vsphere.VM) bool { return vm.Name == "one" })]
	full, err := dial(t, labConfig(t, lab)).Refresh(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"VM Network", "DMZ", "DMZ", "DC0_DVPG0"} {
		if full.NICs[i].Network != want {
			t.Errorf("card %d is on %q", i, full.NICs[i].Network)
		}
	}
}
