package vsphere

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// Find returns the VM that ref means, with everything filled in. ref may be an
// inventory path, a path relative to Config.Datacenter or to any folder, a
// name, an instance or BIOS UUID, or a managed object id. In paths and names a
// slash inside a name may be written as %2f or as it is (F-INV-1).
//
// Errors: [*NotFoundError] (an [ErrNotFound]) with names that come near,
// [*AmbiguousError] with the VMs that fit equally well.
func (c *Client) Find(ctx context.Context, ref string) (VM, error) {
	vm, _, err := c.FindAmong(ctx, ref)
	return vm, err
}

// FindAmong is Find, and returns beside the VM every one that this user may see,
// that one too, with name, path and UUIDs.
func (c *Client) FindAmong(ctx context.Context, ref string) (VM, []VM, error) {
	inv, err := c.walk(ctx, newInventory, named)
	if err != nil {
		return VM{}, nil, err
	}
	vm, err := pick(inv.vms, ref, c.cfg.Datacenter)
	if err != nil {
		return VM{}, nil, err
	}
	vm, err = c.Refresh(ctx, vm)
	return vm, inv.vms, err
}

// pick returns the one VM that ref means. Errors are those of [Client.Find].
func pick(vms []VM, ref, datacenter string) (VM, error) {
	fits := match(vms, ref, datacenter)
	switch len(fits) {
	case 0:
		return VM{}, &NotFoundError{Ref: ref, Near: near(vms, ref)}
	case 1:
		return fits[0], nil
	}
	return VM{}, &AmbiguousError{Ref: ref, Matches: fits}
}

// match returns the VMs that ref fits best, judged by the first rule that any
// VM satisfies.
func match(vms []VM, ref, datacenter string) []VM {
	if ref == "" {
		return nil
	}
	trimmed := strings.TrimRight(ref, "/")
	absolute := strings.HasPrefix(ref, "/")
	inDatacenter := func(vm VM) bool { return vm.in(datacenter) }
	rules := []func(VM) bool{
		func(vm VM) bool { return vm.Path == trimmed },
		func(vm VM) bool {
			return !absolute && datacenter != "" && inDatacenter(vm) &&
				(vm.Path == vm.Datacenter+"/vm/"+trimmed || vm.Path == vm.Datacenter+"/"+trimmed)
		},
		func(vm VM) bool {
			return inDatacenter(vm) && (vm.Name == ref || vm.DisplayName() == ref) ||
				vm.Ref == strings.TrimPrefix(ref, "VirtualMachine:") ||
				strings.EqualFold(vm.InstanceUUID, ref) || strings.EqualFold(vm.BIOSUUID, ref)
		},
		func(vm VM) bool { return unescapeName(vm.Path) == unescapeName(trimmed) },
		func(vm VM) bool {
			return !absolute && strings.Contains(trimmed, "/") && inDatacenter(vm) &&
				strings.HasSuffix(unescapeName(vm.Path), "/"+unescapeName(trimmed))
		},
	}
	for _, fits := range rules {
		var out []VM
		for _, vm := range vms {
			if fits(vm) {
				out = append(out, vm)
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return nil
}

// near returns the paths of the few VMs whose names are most like ref's.
func near(vms []VM, ref string) []string {
	const most = 3
	want := strings.ToLower(unescapeName(ref))
	if !strings.Contains(ref, "%") {
		want = want[strings.LastIndexByte(want, '/')+1:]
	}
	if want == "" {
		return nil
	}
	type scored struct {
		path     string
		distance int
	}
	var close []scored
	for _, vm := range vms {
		have := strings.ToLower(vm.DisplayName())
		d := editDistance(want, have)
		if strings.Contains(have, want) {
			d = 1
		}
		if d <= 1+len(want)/4 {
			close = append(close, scored{vm.Path, d})
		}
	}
	slices.SortStableFunc(close, func(a, b scored) int { return cmp.Compare(a.distance, b.distance) })
	var out []string
	for _, s := range close[:min(most, len(close))] {
		out = append(out, s.path)
	}
	return out
}

// editDistance counts the insertions, deletions and replacements between a and
// b, in bytes; names of very different length are far apart without counting.
func editDistance(a, b string) int {
	if d := len(a) - len(b); max(d, -d) > 1+len(a)/4 {
		return max(len(a), len(b))
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			step := diagonal
			if a[i] != b[j] {
				step++
			}
			diagonal = row[j+1]
			row[j+1] = min(step, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// detailed are the properties that make a VM complete.
var detailed = []string{
	"snapshot", "runtime.powerState", "runtime.connectionState", "runtime.host", "summary.storage",
	"config.instanceUuid", "config.uuid", "config.guestId", "config.guestFullName",
	"config.template", "config.firmware", "config.changeVersion", "config.hardware", "config.annotation",
	"config.bootOptions", "config.changeTrackingEnabled", "guest.toolsRunningStatus",
	"config.cpuHotAddEnabled", "config.memoryHotAddEnabled", "config.hotPlugMemoryLimit",
	"guest.hostName", "guest.net", "guest.ipStack",
}

// Refresh reads a VM that List or Find returned again, with everything that a
// list leaves out. Where it is in the inventory is taken from vm, but for its
// host. It costs one call, or few, however large the inventory is.
func (c *Client) Refresh(ctx context.Context, vm VM) (VM, error) {
	const op = "read the hardware"
	var m mo.VirtualMachine
	if err := c.properties(ctx, vmRef(vm.Ref), detailed, &m); err != nil {
		return VM{}, translate(op, vm.Path, err)
	}
	vm.setDetail(&m)
	if err := errors.Join(c.nameHost(ctx, &vm, m.Runtime.Host), c.nameNetworks(ctx, vm.NICs)); err != nil {
		return VM{}, translate(op, vm.Path, err)
	}
	return vm, nil
}

// setDetail takes in the [detailed] properties.
func (vm *VM) setDetail(m *mo.VirtualMachine) {
	vm.Power = string(m.Runtime.PowerState)
	vm.ConnectionState = string(m.Runtime.ConnectionState)
	vm.Snapshots = 0
	if m.Snapshot != nil {
		vm.Snapshots = countSnapshots(m.Snapshot.RootSnapshotList)
	}
	if s := m.Summary.Storage; s != nil {
		vm.CommittedBytes, vm.ProvisionedBytes = s.Committed, s.Committed+s.Uncommitted
	}
	vm.Guest = guestNetworkOf(m.Guest)
	if m.Guest != nil {
		vm.ToolsRunning = toolsRun(m.Guest)
	}
	if m.Config != nil {
		vm.setConfig(m.Config)
	}
}

// nameHost takes in the host that the VM is on now. One that this user may not
// see has no name.
func (c *Client) nameHost(ctx context.Context, vm *VM, host *types.ManagedObjectReference) error {
	if host == nil || host.Value == vm.Host && vm.HostName != "" {
		return nil
	}
	vm.Host, vm.HostName = host.Value, ""
	var m mo.HostSystem
	err := c.properties(ctx, *host, []string{"name"}, &m)
	if err != nil && faultOf(err) == nil {
		return err
	}
	vm.HostName = m.Name
	return nil
}

// setConfig takes in a VM's configuration.
func (vm *VM) setConfig(cfg *types.VirtualMachineConfigInfo) {
	vm.InstanceUUID, vm.BIOSUUID = cfg.InstanceUuid, cfg.Uuid
	vm.GuestID, vm.GuestFullName = cfg.GuestId, cfg.GuestFullName
	vm.Firmware, vm.ChangeVersion = cfg.Firmware, cfg.ChangeVersion
	vm.Annotation, vm.Template = cfg.Annotation, cfg.Template
	vm.ChangeTracking = isTrue(cfg.ChangeTrackingEnabled)
	vm.CPUs = int(cfg.Hardware.NumCPU)
	vm.CoresPerSocket = 1
	if n := cfg.Hardware.NumCoresPerSocket; n != nil && *n > 0 {
		vm.CoresPerSocket = int(*n)
	}
	vm.MemoryMiB = int64(cfg.Hardware.MemoryMB)
	vm.CPUHotAdd, vm.MemoryHotAdd = isTrue(cfg.CpuHotAddEnabled), isTrue(cfg.MemoryHotAddEnabled)
	vm.MaxMemoryMiB = cfg.HotPlugMemoryLimit
	if cfg.BootOptions != nil {
		vm.SecureBoot = isTrue(cfg.BootOptions.EfiSecureBootEnabled)
	}
	vm.Disks = disksOf(cfg.Hardware.Device)
	vm.NICs = nicsOf(cfg.Hardware.Device)
	vm.DiskCount = len(vm.Disks)
	if vm.Firmware == "" {
		vm.Firmware = BIOS
	}
}

// nameNetworks replaces the keys of distributed port groups by their names.
// One that this user may not see keeps its key.
func (c *Client) nameNetworks(ctx context.Context, nics []NIC) error {
	for i := range nics {
		key, ok := strings.CutPrefix(nics[i].Network, portgroupMark)
		if !ok {
			continue
		}
		nics[i].Network = key
		ref := types.ManagedObjectReference{Type: "DistributedVirtualPortgroup", Value: key}
		var m mo.DistributedVirtualPortgroup
		err := c.properties(ctx, ref, []string{"name"}, &m)
		switch {
		case err == nil && m.Name != "":
			nics[i].Network = unescapeName(m.Name)
		case err != nil && faultOf(err) == nil:
			return err
		}
	}
	return nil
}

func isTrue(b *bool) bool { return b != nil && *b }

// toolsRun reports whether VMware Tools run in the guest.
func toolsRun(g *types.GuestInfo) bool {
	return g != nil && g.ToolsRunningStatus == string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
}
