package vspheretest_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// running is a lab with a VM that runs, whose guest has Tools and an address, and one
// without Tools.
func running(t *testing.T) *vspheretest.Server {
	t.Helper()
	return vspheretest.Start(t, vspheretest.Config{VMs: []vspheretest.VM{
		{
			Name: "web1", PoweredOn: true, NICs: []vspheretest.NIC{{MAC: "00:50:56:aa:bb:01", Network: "lan"}, {MAC: "00:50:56:aa:bb:02"}},
			Guest: &vspheretest.Guest{HostName: "web1.example.com", Net: []types.GuestNicInfo{{
				MacAddress: "00:50:56:aa:bb:01", Network: "lan", Connected: true, DeviceConfigId: 4000,
				IpAddress: []string{"2001:db8::10", "192.0.2.10"},
				IpConfig: &types.NetIpConfigInfo{IpAddress: []types.NetIpConfigInfoIpAddress{
					{IpAddress: "2001:db8::10", PrefixLength: 64}, {IpAddress: "192.0.2.10", PrefixLength: 24},
				}},
			}}},
		},
		{Name: "bare", PoweredOn: true},
	}})
}

// vmInfo is what govc vm.info -json says of a VM, as far as it is looked at here.
type vmInfo struct {
	Config struct {
		CPUHotAdd    *bool `json:"cpuHotAddEnabled"`
		MemoryHotAdd *bool `json:"memoryHotAddEnabled"`
	} `json:"config"`
	Guest struct {
		HostName string `json:"hostName"`
		Address  string `json:"ipAddress"`
		Tools    string `json:"toolsRunningStatus"`
		Net      []struct {
			MAC string `json:"macAddress"`
		} `json:"net"`
	} `json:"guest"`
	Summary struct {
		Guest struct {
			HostName string `json:"hostName"`
			Address  string `json:"ipAddress"`
		} `json:"guest"`
	} `json:"summary"`
}

func info(t *testing.T, srv *vspheretest.Server, vm string) vmInfo {
	t.Helper()
	var all struct {
		VirtualMachines []vmInfo `json:"virtualMachines"`
	}
	text := run(t, srv, "vm.info", "-json", vm)
	if err := json.Unmarshal([]byte(text), &all); err != nil || len(all.VirtualMachines) != 1 {
		t.Fatalf("vm.info -json: %v\n%s", err, text)
	}
	return all.VirtualMachines[0]
}

func TestGovcShutsAGuestDownAndSeesWhatItsToolsTellWhileItRuns(t *testing.T) {
	t.Parallel()
	srv := running(t)
	if got := strings.TrimSpace(run(t, srv, "vm.ip", "-wait", "1m", "web1")); got != "192.0.2.10" {
		t.Errorf("vm.ip says %q", got)
	}
	if got := strings.TrimSpace(run(t, srv, "vm.ip", "-wait", "1m", "-n", "ethernet-0", "-v4", "web1")); got != "192.0.2.10" {
		t.Errorf("vm.ip -n says %q", got)
	}
	vm := info(t, srv, "web1")
	if vm.Guest.HostName != "web1.example.com" || vm.Guest.Address != "192.0.2.10" || vm.Guest.Tools != "guestToolsRunning" ||
		len(vm.Guest.Net) != 1 || vm.Guest.Net[0].MAC != "00:50:56:aa:bb:01" ||
		vm.Summary.Guest.HostName != vm.Guest.HostName || vm.Summary.Guest.Address != vm.Guest.Address {
		t.Errorf("while it runs: %+v", vm)
	}
	run(t, srv, "vm.power", "-s", "web1")
	run(t, srv, "object.collect", "/DC0/vm/web1", "-runtime.powerState", "poweredOff") // which waits for it
	run(t, srv, "object.collect", "/DC0/vm/web1", "-guest.toolsRunningStatus", "guestToolsNotRunning")
	if vm := info(t, srv, "web1"); vm.Guest.HostName+vm.Guest.Address+vm.Summary.Guest.Address != "" || len(vm.Guest.Net) != 0 {
		t.Errorf("when it is off: %+v", vm)
	}
	if out, err := govc.Command(t, srv, "vm.power", "-s", "bare").CombinedOutput(); err == nil || !strings.Contains(string(out), "Tools") {
		t.Errorf("a guest without Tools is shut down: %v\n%s", err, out)
	}
}

func TestGovcMarksAVMAndTakesTheMarksAwayAgain(t *testing.T) {
	t.Parallel()
	srv := running(t)
	run(t, srv, "fields.add", "-type", "VirtualMachine", "hyper2kvm")
	run(t, srv, "fields.set", "hyper2kvm", "migrated", "vm/web1")
	run(t, srv, "device.disconnect", "-vm", "web1", "ethernet-0")
	run(t, srv, "object.rename", "vm/web1", "web1-migrated")
	if s := srv.Settings("web1"); s.Name != "web1-migrated" || s.Attributes["hyper2kvm"] != "migrated" || !slices.Equal(s.Cards, []bool{false, true}) {
		t.Errorf("the marks are %+v", s)
	}
	if text := run(t, srv, "fields.info", "-n", "hyper2kvm", "vm/web1-migrated"); !strings.Contains(text, "migrated") {
		t.Errorf("fields.info says %s", text)
	}
	run(t, srv, "object.rename", "vm/web1-migrated", "web1")
	run(t, srv, "device.connect", "-vm", "web1", "ethernet-0")
	run(t, srv, "fields.set", "hyper2kvm", "", "vm/web1")
	if s := srv.Settings("web1"); s.Name != "web1" || len(s.Attributes) != 0 || !slices.Equal(s.Cards, []bool{true, true}) {
		t.Errorf("without marks they are %+v", s)
	}
}

func TestGovcTakesSnapshotsAndChangesHotAdd(t *testing.T) {
	t.Parallel()
	srv := running(t)
	run(t, srv, "snapshot.create", "-vm", "web1", "-m=false", "before")
	run(t, srv, "snapshot.create", "-vm", "web1", "-m=false", "after")
	tree := func() []string { // "." is where the VM is
		return slices.DeleteFunc(strings.Fields(run(t, srv, "snapshot.tree", "-vm", "web1")), func(name string) bool { return name == "." })
	}
	if got := tree(); !slices.Equal(got, []string{"before", "after"}) {
		t.Errorf("the snapshots are %q", got)
	}
	run(t, srv, "snapshot.remove", "-vm", "web1", "before")
	if got := tree(); !slices.Equal(got, []string{"after"}) {
		t.Errorf("the snapshots are %q", got)
	}
	on := func(b *bool) bool { return b != nil && *b }
	if vm := info(t, srv, "bare"); on(vm.Config.CPUHotAdd) || on(vm.Config.MemoryHotAdd) {
		t.Errorf("at first: %+v", vm.Config)
	}
	run(t, srv, "vm.power", "-off", "bare")
	run(t, srv, "vm.change", "-vm", "bare", "-cpu-hot-add-enabled", "-memory-hot-add-enabled")
	if vm := info(t, srv, "bare"); !on(vm.Config.CPUHotAdd) || !on(vm.Config.MemoryHotAdd) {
		t.Errorf("then: %+v", vm.Config)
	}
}
