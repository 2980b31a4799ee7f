package vspheretest

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// denied tells whether the lab withholds a privilege on an object: a VM denies its
// own, and the user may lack some on all objects.
func (g *gateway) denied(ref types.ManagedObjectReference, privilege string) bool {
	guest := g.srv.guest(ref)
	return g.srv.lacks(privilege) || guest != nil && slices.Contains(guest.vm.DeniedPrivileges, privilege)
}

// lacks tells whether the user has a privilege nowhere.
func (s *Server) lacks(privilege string) bool {
	return slices.Contains(s.cfg.DeniedPrivileges, privilege)
}

// privileged are the privileges that calls on a VM, or on a snapshot of it, need.
var privileged = map[string][]string{
	"ExportVm":              {"VApp.Export"},
	"ExportSnapshot":        {"VApp.Export"},
	"CreateSnapshot_Task":   {"VirtualMachine.State.CreateSnapshot"},
	"RemoveSnapshot_Task":   {"VirtualMachine.State.RemoveSnapshot"},
	"QueryChangedDiskAreas": {"VirtualMachine.Provisioning.DiskRandomRead"},
	"PowerOnVM_Task":        {"VirtualMachine.Interact.PowerOn"},
	"PowerOffVM_Task":       {"VirtualMachine.Interact.PowerOff"},
	"ShutdownGuest":         {"VirtualMachine.Interact.PowerOff"},
}

// forbid refuses a call for which a privilege is missing; nil lets it pass.
func (g *gateway) forbid(method *simulator.Method) *refusal {
	needs := privileged[method.Name]
	if req, is := method.Body.(*types.ReconfigVM_Task); is {
		needs = drivePrivileges(req.Spec)
		if req.Spec.Name != "" {
			needs = append(needs, "VirtualMachine.Config.Rename")
		}
	}
	on := method.This
	switch req := method.Body.(type) {
	case *types.SetField:
		on, needs = req.Entity, []string{"Global.SetCustomField"}
	case *types.AddCustomFieldDef:
		if p := "Global.ManageCustomFields"; g.srv.lacks(p) {
			return refuse(method, "Permission to perform this operation was denied.", &types.NoPermission{Object: &on, PrivilegeId: p})
		}
	}
	if len(needs) == 0 {
		return nil
	}
	guest := g.srv.subject(on)
	if guest == nil {
		return nil
	}
	for _, p := range needs {
		if g.denied(guest.ref, p) {
			return refuse(method, "Permission to perform this operation was denied.", &types.NoPermission{Object: &guest.ref, PrivilegeId: p})
		}
	}
	return nil
}

// drivePrivileges are those that changes of CD drives and network cards need, as the reference of
// ReconfigVM_Task lists them.
func drivePrivileges(spec types.VirtualMachineConfigSpec) (needs []string) {
	for _, change := range spec.DeviceChange {
		c := change.GetVirtualDeviceConfigSpec()
		if _, is := c.Device.(types.BaseVirtualEthernetCard); is && c.Operation == types.VirtualDeviceConfigSpecOperationEdit {
			needs = append(needs, "VirtualMachine.Config.EditDevice", "VirtualMachine.Interact.DeviceConnection")
			continue
		}
		drive, is := c.Device.(*types.VirtualCdrom)
		if !is {
			continue
		}
		if c.Operation != types.VirtualDeviceConfigSpecOperationEdit {
			needs = append(needs, "VirtualMachine.Config.AddRemoveDevice")
		} else {
			needs = append(needs, "VirtualMachine.Config.EditDevice", "VirtualMachine.Interact.DeviceConnection", "VirtualMachine.Interact.SetCDMedia")
		}
		if _, image := drive.Backing.(types.BaseVirtualDeviceFileBackingInfo); image && c.Operation != types.VirtualDeviceConfigSpecOperationRemove {
			needs = append(needs, "VirtualMachine.Interact.SetCDMedia", "Datastore.Browse")
		}
	}
	return needs
}

// HasPrivilegeOnEntities is the simulator's answer less what VMs deny.
func (g *gateway) HasPrivilegeOnEntities(ctx *simulator.Context, req *types.HasPrivilegeOnEntities) soap.HasFault {
	m := ctx.Map.Get(req.This).(*simulator.AuthorizationManager)
	res := m.HasPrivilegeOnEntities(req)
	if body, ok := res.(*methods.HasPrivilegeOnEntitiesBody); ok && body.Res != nil {
		for _, e := range body.Res.Returnval {
			g.withhold(e.Entity, e.PrivAvailability)
		}
	}
	return res
}

// FetchUserPrivilegeOnEntities is the simulator's answer less what VMs deny.
func (g *gateway) FetchUserPrivilegeOnEntities(ctx *simulator.Context, req *types.FetchUserPrivilegeOnEntities) soap.HasFault {
	m := ctx.Map.Get(req.This).(*simulator.AuthorizationManager)
	res := m.FetchUserPrivilegeOnEntities(req)
	if body, ok := res.(*methods.FetchUserPrivilegeOnEntitiesBody); ok && body.Res != nil {
		for i, r := range body.Res.Returnval {
			body.Res.Returnval[i].Privileges = slices.DeleteFunc(slices.Clone(r.Privileges), func(p string) bool {
				return g.denied(r.Entity, p)
			})
		}
	}
	return res
}

func (g *gateway) withhold(ref types.ManagedObjectReference, list []types.PrivilegeAvailability) {
	for i := range list {
		if g.denied(ref, list[i].PrivId) {
			list[i].IsGranted = false
		}
	}
}
