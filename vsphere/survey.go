package vsphere

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/vsphere/internal/collector"
)

// surveyed are the properties that a survey reads beside the [listed] ones. Devices
// are most of it.
var surveyed = []string{
	"runtime.connectionState", "runtime.faultToleranceState", "runtime.question", "disabledMethod", "snapshot",
	"config.keyId", "config.hardware.device", "guest.toolsRunningStatus",
}

// facts is what a survey knows of a VM beside the [VM]. It is small, because there
// are many of them: [facts.machine] makes what [Client.Preflight] would read.
type facts struct {
	connection types.VirtualMachineConnectionState
	tolerance  types.VirtualMachineFaultToleranceState
	question   *types.VirtualMachineQuestionInfo
	disabled   []string
	snapshots  []types.VirtualMachineSnapshotTree
	readable   bool // the configuration could be read
	keyed      bool // the VM is encrypted
	devices    []types.BaseVirtualDevice
}

// machine is the VM as vSphere would describe it.
func (f *facts) machine(vm VM) mo.VirtualMachine {
	var m mo.VirtualMachine
	m.Runtime.PowerState = types.VirtualMachinePowerState(vm.Power)
	m.Runtime.ConnectionState, m.Runtime.FaultToleranceState, m.Runtime.Question = f.connection, f.tolerance, f.question
	m.DisabledMethod = f.disabled
	if len(f.snapshots) > 0 {
		m.Snapshot = &types.VirtualMachineSnapshotInfo{RootSnapshotList: f.snapshots}
	}
	if f.readable {
		m.Config = &types.VirtualMachineConfigInfo{Template: vm.Template, Hardware: types.VirtualHardware{Device: f.devices}}
		if f.keyed {
			m.Config.KeyId = &types.CryptoKeyId{}
		}
	}
	return m
}

// Surveyed is a VM with what can be said of its export without asking for it alone.
type Surveyed struct {
	VM    VM // with disks, cards, snapshots and guest tools
	facts *facts
}

// Survey returns every VM that this user may see, ordered by path, in one walk of
// the inventory. What needs calls for each VM (privileges, running tasks, whether its
// host can be reached) is left to [Client.Preflight]. While it goes on, seen is told how
// many VMs have come; that is fewer than before when a walk is begun anew. It may be nil.
func (c *Client) Survey(ctx context.Context, seen func(vms int)) ([]Surveyed, error) {
	begin := func() *inventory {
		inv := newInventory()
		inv.facts, inv.seen = map[string]*facts{}, seen
		return inv
	}
	inv, err := c.walk(ctx, begin, slices.Concat(listed, surveyed))
	if err != nil {
		return nil, err
	}
	ports := map[string]string{}
	for ref, n := range inv.nodes {
		if n.kind == "DistributedVirtualPortgroup" {
			ports[ref] = unescapeName(n.name)
		}
	}
	out := make([]Surveyed, len(inv.vms))
	for i, vm := range inv.vms {
		for j := range vm.NICs {
			if key, ok := strings.CutPrefix(vm.NICs[j].Network, portgroupMark); ok {
				vm.NICs[j].Network = key
				if name := ports[key]; name != "" {
					vm.NICs[j].Network = name
				}
			}
		}
		out[i] = Surveyed{VM: vm, facts: inv.facts[vm.Ref]}
	}
	return out, nil
}

// Problem is the code of the worst that stands in the way of an export, of a VM that is
// not off of one from a temporary snapshot; "" when nothing does.
func (s Surveyed) Problem() string {
	return Problem(s.Obstacles(PreflightOptions{Snapshot: s.VM.Power != PoweredOff}))
}

// Problem is the code of the worst of obstacles, "" when none is worse than
// information.
func Problem(obstacles []Obstacle) string {
	for _, severity := range []Severity{SeverityError, SeverityWarning} {
		for _, o := range obstacles {
			if o.Severity == severity {
				return o.Code
			}
		}
	}
	return ""
}

// Obstacles lists what is known to stand in the way of an export, errors first.
func (s Surveyed) Obstacles(opts PreflightOptions) []Obstacle {
	x := &examination{vm: s.facts.machine(s.VM), opts: opts}
	x.look(s.VM)
	return x.sorted()
}

// factsOf takes in what a survey has of a VM, and fills in what a list leaves out.
func factsOf(o collector.Object, vm *VM) *facts {
	f := &facts{}
	for name, val := range o.Properties() {
		switch name {
		case "runtime.connectionState":
			f.connection = types.VirtualMachineConnectionState(val.Text())
		case "runtime.faultToleranceState":
			f.tolerance = types.VirtualMachineFaultToleranceState(val.Text())
		case "runtime.question":
			f.question = &types.VirtualMachineQuestionInfo{Text: val.Value("text")}
		case "disabledMethod":
			for method := range val.Children() {
				f.disabled = append(f.disabled, method.Text())
			}
		case "snapshot":
			f.snapshots = snapshotsOf(val, "rootSnapshotList")
		case "config.keyId":
			f.keyed = true
		case "config.hardware.device":
			f.devices, f.readable = devicesOf(val), true
		case "guest.toolsRunningStatus":
			vm.ToolsRunning = val.Text() == string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
		}
	}
	vm.ConnectionState, vm.Snapshots = string(f.connection), countSnapshots(f.snapshots)
	if f.readable {
		vm.Disks, vm.NICs = disksOf(f.devices), nicsOf(f.devices)
	}
	return f
}

// snapshotsOf reads the snapshots that are listed below an element.
func snapshotsOf(at collector.Element, name string) []types.VirtualMachineSnapshotTree {
	var out []types.VirtualMachineSnapshotTree
	for child := range at.Children() {
		if child.Name() != name {
			continue
		}
		created, _ := time.Parse(time.RFC3339, child.Value("createTime")) // the zero time is one that is not known
		out = append(out, types.VirtualMachineSnapshotTree{
			Snapshot: types.ManagedObjectReference{Type: "VirtualMachineSnapshot", Value: child.Value("snapshot")},
			Name:     child.Value("name"), CreateTime: created, Quiesced: child.Value("quiesced") == "true",
			ChildSnapshotList: snapshotsOf(child, "childSnapshotList"),
		})
	}
	return out
}
