package vspheretest

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	bulkTeams = 20 // folders under Bulk
	bulkApps  = 10 // folders under each of them
)

// addBulk makes n VMs that can be listed but hold no data. Each is a copy of
// one real VM: going through the API would take some 40 ms for each.
func (in *inventory) addBulk(n int) error {
	if n <= 0 {
		return nil
	}
	seed := &guest{vm: VM{Name: "bulk-00000", Folder: bulkFolder(0)}, escaped: "bulk-00000"}
	seed.vm.NICs = []NIC{{}}
	seed.disks = []*disk{{capacity: 40 << 30}}
	if err := in.add(seed); err != nil {
		return fmt.Errorf("make the first of %d VMs: %w", n, err)
	}
	first := in.ctx.Map.Get(seed.ref).(*simulator.VirtualMachine)
	hosts := make([]*simulator.HostSystem, len(in.hosts))
	for i, ref := range in.hosts {
		hosts[i] = in.ctx.Map.Get(ref).(*simulator.HostSystem)
	}
	refs := map[types.ManagedObjectReference]bool{} // the first one is made like any other, and may change
	pool := in.ctx.Map.Get(in.pool).(*simulator.ResourcePool)
	for i := 1; i < n; i++ {
		folder, err := in.folder(bulkFolder(i))
		if err != nil {
			return err
		}
		vm := bulkCopy(first, i, in.hosts[i%len(hosts)], in.stores[i%datastores].Self)
		in.ctx.Map.PutEntity(folder, vm)
		vm.Summary.Vm = &vm.Self
		folder.ChildEntity = append(folder.ChildEntity, vm.Self)
		hosts[i%len(hosts)].Vm = append(hosts[i%len(hosts)].Vm, vm.Self)
		in.stores[i%datastores].Vm = append(in.stores[i%datastores].Vm, vm.Self)
		pool.Vm = append(pool.Vm, vm.Self)
		in.attach(vm)
		refs[vm.Self] = true
	}
	return in.srv.bulk.prepare(first, refs)
}

func bulkFolder(i int) string {
	return fmt.Sprintf("Bulk/Team-%02d/App-%02d", i%bulkTeams, i/bulkTeams%bulkApps)
}

// bulkCopy returns the i-th VM, which differs from the first in what lists show.
func bulkCopy(first *simulator.VirtualMachine, i int, host, store types.ManagedObjectReference) *simulator.VirtualMachine {
	vm := *first
	config, guest := *first.Config, *first.Guest
	vm.Config, vm.Guest = &config, &guest
	vm.Self = types.ManagedObjectReference{Type: "VirtualMachine"}
	vm.Datastore = []types.ManagedObjectReference{store}

	name := fmt.Sprintf("bulk-%05d", i)
	id := uuid.NewSHA1(uuid.NameSpaceOID, []byte(name))
	instance := uuid.NewSHA1(uuid.NameSpaceURL, []byte(name))
	os := []types.VirtualMachineGuestOsIdentifier{
		types.VirtualMachineGuestOsIdentifierDebian12_64Guest,
		types.VirtualMachineGuestOsIdentifierRhel9_64Guest,
		types.VirtualMachineGuestOsIdentifierWindows2019srvNext_64Guest,
		types.VirtualMachineGuestOsIdentifierUbuntu64Guest,
	}[i%4]
	power := types.VirtualMachinePowerStatePoweredOn
	switch {
	case i%10 == 0:
		power = types.VirtualMachinePowerStateSuspended
	case i%3 == 0:
		power = types.VirtualMachinePowerStatePoweredOff
	}

	vm.Name, config.Name, vm.Summary.Config.Name = name, name, name
	config.Uuid, vm.Summary.Config.Uuid = id.String(), id.String()
	config.InstanceUuid, vm.Summary.Config.InstanceUuid = instance.String(), instance.String()
	config.GuestId, config.GuestFullName = string(os), string(os)
	vm.Summary.Config.GuestId, vm.Summary.Config.GuestFullName = string(os), string(os)
	config.Hardware.NumCPU = int32(1 << (i % 5))
	config.Hardware.MemoryMB = int32(1024 << (i % 6))
	vm.Summary.Config.NumCpu, vm.Summary.Config.MemorySizeMB = config.Hardware.NumCPU, config.Hardware.MemoryMB
	vm.Runtime.PowerState, vm.Runtime.Host = power, &host
	vm.Summary.Runtime.PowerState, vm.Summary.Runtime.Host = power, &host
	return &vm
}
