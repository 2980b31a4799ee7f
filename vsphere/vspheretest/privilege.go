package vspheretest

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// denied tells whether the lab withholds a privilege on an object.
func (g *gateway) denied(ref types.ManagedObjectReference, privilege string) bool {
	guest := g.srv.guest(ref)
	return guest != nil && slices.Contains(guest.vm.DeniedPrivileges, privilege)
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
