package vspheretest

import (
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// gateway answers the calls that the simulator has no or another answer to.
//
// Registry.Handler may name another object to handle a call, but the session's
// registry is asked once more, by method.This, and wins. So method.This is
// replaced by a reference that no registry knows: the gateway then stays the
// handler, and the request's own This still names the object that was meant.
type gateway struct {
	unlocked
	srv *Server
}

var gatewayRef = types.ManagedObjectReference{Type: "LabGateway", Value: "lab"}

// unlocked opts out of the simulator's lock per object: the gateway stands for
// every object and must not make them wait for each other.
type unlocked struct{}

func (*unlocked) Reference() types.ManagedObjectReference { return gatewayRef }
func (*unlocked) Lock()                                   {}
func (*unlocked) Unlock()                                 {}

// refusal answers a call with a fault.
type refusal struct {
	unlocked
	fault *soap.Fault
}

type refusedBody struct {
	Fault_ *soap.Fault
}

func (b *refusedBody) Fault() *soap.Fault { return b.Fault_ }

// Refuse has the shape of a method that the simulator calls.
func (r *refusal) Refuse(types.AnyType) soap.HasFault { return &refusedBody{r.fault} }

// refuse turns a call into one of Refuse.
func refuse(method *simulator.Method, message string, fault types.BaseMethodFault) *refusal {
	method.This, method.Name = gatewayRef, "Refuse"
	return &refusal{fault: simulator.Fault(message, fault)}
}

// lockedMethods are refused on a VM while a lease on it is open (F-NFC-1).
var lockedMethods = []string{
	"PowerOnVM_Task", "Destroy_Task", "UnregisterVM", "MigrateVM_Task", "RelocateVM_Task",
	"RemoveSnapshot_Task", "RemoveAllSnapshots_Task",
}

// intercept looks at each authenticated call before the simulator does, and
// returns who shall handle it; nil leaves it to the simulator.
func (g *gateway) intercept(method *simulator.Method) interface {
	Reference() types.ManagedObjectReference
} {
	if refused := g.forbid(method); refused != nil {
		return refused
	}
	locked := slices.Contains(lockedMethods, method.Name)
	if locked {
		if l := g.srv.leases.on(method.This); l != nil {
			return refuse(method, "The operation is not allowed while the virtual machine is being exported.",
				&types.TaskInProgress{Task: taskOf(l)})
		}
	}
	if strings.HasSuffix(method.Name, "_Task") || slices.Contains(busyMethods, method.Name) {
		guest := g.srv.subject(method.This)
		if guest != nil && (locked || slices.Contains(busyMethods, method.Name)) {
			if t := g.srv.tasks.on(guest.ref); t != nil {
				return refuse(method, "Another task is already in progress.", &types.TaskInProgress{Task: t.task.Self})
			}
		}
		if start := g.slowTask(method, guest); start != nil {
			return start
		}
	}
	if method.Name == "CancelTask" && g.srv.tasks.named(method.This) == nil {
		return nil // one of the simulator's
	}
	if g.srv.bulk.wants(method) {
		method.This = gatewayRef
		return g
	}
	owner := map[string]string{
		"ExportVm":                     "VirtualMachine",
		"ExportSnapshot":               "VirtualMachineSnapshot",
		"QueryChangedDiskAreas":        "VirtualMachine",
		"CancelTask":                   "Task",
		"ShutdownGuest":                "VirtualMachine",
		"CreateDescriptor":             "OvfManager",
		"CreateContainerView":          "ViewManager",
		"Logout":                       "SessionManager",
		"HasPrivilegeOnEntities":       "AuthorizationManager",
		"FetchUserPrivilegeOnEntities": "AuthorizationManager",
	}[method.Name]
	if owner == "" || owner != method.This.Type {
		return nil
	}
	method.This = gatewayRef
	return g
}

// ExportVm opens a lease on a VM that is powered off (F-NFC-2).
func (g *gateway) ExportVm(ctx *simulator.Context, req *types.ExportVm) soap.HasFault {
	body := new(methods.ExportVmBody)
	var ref types.ManagedObjectReference
	if ref, body.Fault_ = g.export(ctx, req.This, req.This, "ExportVm"); body.Fault_ == nil {
		body.Res = &types.ExportVmResponse{Returnval: ref}
	}
	return body
}

// ExportSnapshot opens a lease on a snapshot, whatever the VM's power state (F-NFC-3).
func (g *gateway) ExportSnapshot(ctx *simulator.Context, req *types.ExportSnapshot) soap.HasFault {
	body := new(methods.ExportSnapshotBody)
	snap, ok := ctx.Map.Get(req.This).(*simulator.VirtualMachineSnapshot)
	if !ok {
		body.Fault_ = simulator.Fault("The snapshot no longer exists.", &types.ManagedObjectNotFound{Obj: req.This})
		return body
	}
	var ref types.ManagedObjectReference
	if ref, body.Fault_ = g.export(ctx, snap.Vm, req.This, "ExportSnapshot"); body.Fault_ == nil {
		body.Res = &types.ExportSnapshotResponse{Returnval: ref}
	}
	return body
}

// export checks whether the VM may be exported and opens the lease.
func (g *gateway) export(ctx *simulator.Context, vmRef, source types.ManagedObjectReference, call string) (types.ManagedObjectReference, *soap.Fault) {
	var none types.ManagedObjectReference
	vm, ok := ctx.Map.Get(vmRef).(*simulator.VirtualMachine)
	if !ok {
		return none, simulator.Fault("The object has been deleted.", &types.ManagedObjectNotFound{Obj: vmRef})
	}
	guest := g.srv.guest(vmRef)
	if guest == nil {
		return none, simulator.Fault("The virtual machine has no data.", &types.FileFault{File: vmRef.Value})
	}
	if f := guest.exportFault(call); f != nil {
		return none, f
	}
	var power types.VirtualMachinePowerState
	ctx.WithLock(vm, func() { power = vm.Runtime.PowerState })
	if source == vmRef && power != types.VirtualMachinePowerStatePoweredOff {
		return none, simulator.Fault(
			"The attempted operation cannot be performed in the current state (Powered on).",
			&types.InvalidPowerState{RequestedState: types.VirtualMachinePowerStatePoweredOff, ExistingState: power})
	}
	ref, fault := g.srv.openLease(ctx, guest, source)
	if fault != nil {
		return none, simulator.Fault("Another task is already in progress.", fault)
	}
	return ref, nil
}

// exportFault is what keeps this VM from being exported at any time, or nil.
func (g *guest) exportFault(call string) *soap.Fault {
	switch {
	case slices.Contains(g.vm.DisabledMethods, call):
		return simulator.Fault("The operation is disabled on the virtual machine.", &types.MethodDisabled{})
	case g.vm.VTPM:
		return simulator.Fault("A virtual machine with a virtual TPM cannot be exported.", &types.NotSupported{})
	case g.vm.Encrypted:
		return simulator.Fault("An encrypted virtual machine cannot be exported.", &types.NotSupported{})
	case g.vm.FaultTolerant:
		return simulator.Fault("A fault tolerant virtual machine cannot be exported.", &types.NotSupported{})
	}
	return nil
}
