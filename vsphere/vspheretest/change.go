package vspheretest

import (
	"fmt"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Touch gives a VM's configuration a new changeVersion, as somebody does who
// edits its settings.
func (s *Server) Touch(vm string) {
	g := s.find(vm)
	if g == nil {
		return
	}
	ctx := s.simContext()
	m, ok := ctx.Map.Get(g.ref).(*simulator.VirtualMachine)
	if !ok {
		return
	}
	ctx.WithLock(m, func() {
		ctx.Update(m, []types.PropertyChange{{
			Name: "config.changeVersion", Val: time.Now().UTC().Format(time.RFC3339Nano),
		}})
	})
}

// touchAt lets the touch faults strike that wait for a lease on g to be opened or
// to end.
func (s *Server) touchAt(g *guest, opened bool) {
	for _, f := range s.faults.find(func(f *fault) bool {
		return f.kind == faultTouch && f.onOpen == opened && f.matches(g, f.disk)
	}) {
		if s.faults.take(f) {
			s.Touch(g.path)
		}
	}
}

// SetDisk replaces the data of a VM's disk by those of the file at path, a raw
// disk or a stream-optimized VMDK of the same capacity, as a guest does that runs
// between two exports. Open leases go on with what they have.
func (s *Server) SetDisk(vm string, disk int, path string) error {
	g := s.find(vm)
	if g == nil || disk < 0 || disk >= len(g.disks) {
		return fmt.Errorf("VM %q has no disk %d", vm, disk)
	}
	d := g.disks[disk]
	data, capacity, err := s.prepareData(path)
	if err != nil {
		return err
	}
	if capacity != d.capacity {
		return fmt.Errorf("%s: %d bytes, but disk %d of VM %q has %d", path, capacity, disk, vm, d.capacity)
	}
	data.before = d.now()
	d.data.Store(data)
	return nil
}

// PowerOn starts a VM, past leases and slow tasks.
func (s *Server) PowerOn(vm string) error {
	return s.power(vm, func(ctx *simulator.Context, m *simulator.VirtualMachine) soap.HasFault {
		return m.PowerOnVMTask(ctx, &types.PowerOnVM_Task{This: m.Self})
	})
}

// PowerOff stops a VM at once.
func (s *Server) PowerOff(vm string) error {
	return s.power(vm, func(ctx *simulator.Context, m *simulator.VirtualMachine) soap.HasFault {
		return m.PowerOffVMTask(ctx, &types.PowerOffVM_Task{This: m.Self})
	})
}

func (s *Server) power(vm string, call func(*simulator.Context, *simulator.VirtualMachine) soap.HasFault) error {
	g := s.find(vm)
	if g == nil {
		return fmt.Errorf("there is no VM %q", vm)
	}
	ctx := s.simContext()
	m := ctx.Map.Get(g.ref).(*simulator.VirtualMachine)
	var body soap.HasFault
	ctx.WithLock(m, func() { body = call(ctx, m) })
	if f := body.Fault(); f != nil {
		return fmt.Errorf("VM %q: %s", vm, f.String)
	}
	var ref types.ManagedObjectReference
	switch b := body.(type) {
	case *methods.PowerOnVM_TaskBody:
		ref = b.Res.Returnval
	case *methods.PowerOffVM_TaskBody:
		ref = b.Res.Returnval
	}
	task := ctx.Map.Get(ref).(*simulator.Task)
	task.Wait()
	if e := task.Info.Error; e != nil {
		return fmt.Errorf("VM %q: %T", vm, e.Fault)
	}
	return nil
}

// RenewHostCertificate gives the i-th ESXi host another certificate. Connections
// from now on see it, leases from now on carry its thumbprint, and those that are
// open the old one's.
func (s *Server) RenewHostCertificate(i int) error { return s.hosts[i].renew() }
