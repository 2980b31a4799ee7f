package vspheretest

import (
	"errors"
	"fmt"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// distributed is the port group of a distributed switch that cards are on which name
// no network.
const distributed = "DC0_DVPG0"

// network returns how a card is attached to the network of that name, which is made
// as a port group of a standard switch where there is none.
func (in *inventory) network(name string) (types.BaseVirtualDeviceBackingInfo, error) {
	if name == "" || name == distributed {
		return in.net, nil
	}
	reg := in.ctx.Map
	switch found := reg.FindByName(name, in.dc.Network).(type) {
	case nil:
	case *mo.Network:
		return standardBacking(name), nil
	default:
		return nil, fmt.Errorf("network %q is one that cards cannot be on here: %T", name, found)
	}
	folder, ok := reg.Get(in.dc.NetworkFolder).(*simulator.Folder)
	if !ok {
		return nil, errors.New("the simulator made no folder of networks")
	}
	n := &mo.Network{}
	n.Name, n.Host = name, in.hosts
	reg.PutEntity(folder, n)
	n.Summary = &types.NetworkSummary{Network: &n.Self, Name: name, Accessible: true}
	folder.ChildEntity = append(folder.ChildEntity, n.Self)
	in.dc.Network = append(in.dc.Network, n.Self)
	return standardBacking(name), nil
}

func standardBacking(name string) types.BaseVirtualDeviceBackingInfo {
	return &types.VirtualEthernetCardNetworkBackingInfo{
		VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: name},
	}
}

// attach enters a VM at the networks that it is on, which the simulator leaves to
// others: it knows the networks of a VM only.
func (in *inventory) attach(vm *simulator.VirtualMachine) {
	seen := map[types.ManagedObjectReference]bool{}
	for _, ref := range vm.Network {
		if seen[ref] {
			continue
		}
		seen[ref] = true
		switch n := in.ctx.Map.Get(ref).(type) {
		case *mo.Network:
			n.Vm = append(n.Vm, vm.Self)
		case *simulator.DistributedVirtualPortgroup:
			n.Vm = append(n.Vm, vm.Self)
		}
	}
}
