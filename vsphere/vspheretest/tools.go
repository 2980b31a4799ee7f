package vspheretest

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Guest is the operating system in a VM, with VMware Tools, which run while the VM does.
type Guest struct {
	// ShutdownTakes is how long the guest needs to shut down, at most: Release ends it
	// sooner. A negative one is a guest that never does, as one that asks who is logged
	// in at its console.
	ShutdownTakes time.Duration

	// What Tools report while they run; nothing of it is left when the VM is off.
	HostName string
	Net      []types.GuestNicInfo
	IPStack  []types.GuestStackInfo
}

// followGuests makes Tools run in the VMs that do, and in no others.
func (s *Server) followGuests() {
	ctx := s.simContext()
	for _, g := range s.guests {
		if g.vm.Guest == nil {
			continue
		}
		m, ok := ctx.Map.Get(g.ref).(*simulator.VirtualMachine)
		if !ok {
			continue
		}
		ctx.WithLock(m, func() { ctx.Update(m, g.vm.Guest.changes(m)) })
	}
}

// changes are those of the properties of a VM with that guest; none when all are as
// they are to be.
func (g *Guest) changes(m *simulator.VirtualMachine) []types.PropertyChange {
	status := types.VirtualMachineToolsRunningStatusGuestToolsNotRunning
	off := new(Guest)
	is := off
	if m.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
		status, is = types.VirtualMachineToolsRunningStatusGuestToolsRunning, g
	}
	if m.Guest.ToolsRunningStatus == string(status) && m.Guest.ToolsVersion != "0" {
		return nil
	}
	return []types.PropertyChange{
		{Name: "guest.toolsVersion", Val: "12389"},
		{Name: "guest.toolsRunningStatus", Val: string(status)},
		{Name: "guest.hostName", Val: is.HostName},
		{Name: "guest.net", Val: is.Net},
		{Name: "guest.ipStack", Val: is.IPStack},
		{Name: "guest.ipAddress", Val: is.address()},
		{Name: "summary.guest", Val: &types.VirtualMachineGuestSummary{
			GuestId: m.Config.GuestId, GuestFullName: m.Config.GuestFullName,
			ToolsRunningStatus: string(status), HostName: is.HostName, IpAddress: is.address(),
		}},
	}
}

// address is the one that Tools report as the guest's: the first of IPv4, or of any.
func (g *Guest) address() (first string) {
	for _, card := range g.Net {
		for _, text := range card.IpAddress {
			if a, err := netip.ParseAddr(text); err == nil && a.Is4() {
				return text
			}
			first = cmp.Or(first, text)
		}
	}
	return first
}

// ShutdownGuest asks the guest to shut down, and does not wait for it.
func (g *gateway) ShutdownGuest(ctx *simulator.Context, req *types.ShutdownGuest) soap.HasFault {
	body := new(methods.ShutdownGuestBody)
	m, ok := ctx.Map.Get(req.This).(*simulator.VirtualMachine)
	guest := g.srv.guest(req.This)
	if !ok || guest == nil {
		body.Fault_ = simulator.Fault("The object has been deleted.", &types.ManagedObjectNotFound{Obj: req.This})
		return body
	}
	var power types.VirtualMachinePowerState
	ctx.WithLock(m, func() { power = m.Runtime.PowerState })
	switch {
	case power != types.VirtualMachinePowerStatePoweredOn:
		body.Fault_ = simulator.Fault("The attempted operation cannot be performed in the current state.",
			&types.InvalidPowerState{RequestedState: types.VirtualMachinePowerStatePoweredOn, ExistingState: power})
		return body
	case guest.vm.Guest == nil:
		body.Fault_ = simulator.Fault("Cannot complete operation because VMware Tools is not running in this virtual machine.", &types.ToolsUnavailable{})
		return body
	case guest.vm.Guest.ShutdownTakes >= 0:
		released := g.srv.released.opened()
		g.srv.tasks.wait.Go(func() { g.srv.shutDown(guest, released) })
	}
	body.Res = new(types.ShutdownGuestResponse)
	return body
}

// shutDown takes the time that the guest needs, and powers the VM off.
func (s *Server) shutDown(g *guest, released <-chan struct{}) {
	timer := time.NewTimer(g.vm.Guest.ShutdownTakes)
	defer timer.Stop()
	select {
	case <-s.closed:
		return
	case <-timer.C:
	case <-released:
	}
	_ = s.PowerOff(g.path) // which somebody else may have done
}
