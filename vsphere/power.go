package vsphere

import (
	"context"
	"errors"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	opShutdown = "shut the guest down"
	opPowerOff = "power the VM off"
	opPowerOn  = "power the VM on"
)

// powerLimit bounds a change of the power state. A VM that a person must first answer
// a question about takes longer; the task then goes on by itself.
const powerLimit = 2 * time.Minute

// Power reads the VM's power state: [PoweredOn], [PoweredOff] or [Suspended]. A VM that
// is gone is [ErrNotFound].
func (c *Client) Power(ctx context.Context, vm VM) (string, error) {
	var m mo.VirtualMachine
	if err := c.everyProperty(ctx, vmRef(vm.Ref), []string{"runtime.powerState"}, &m); err != nil {
		return "", translate("read the power state", vm.Path, err)
	}
	return string(m.Runtime.PowerState), nil
}

// ShutdownGuest has VMware Tools shut the guest down, and does not wait for it: see
// when [Client.Power] is [PoweredOff] (F-POWER-1). Of a VM that does not run nothing is
// asked. A [PendingError] says that the guest may have been asked.
func (c *Client) ShutdownGuest(ctx context.Context, vm VM) error {
	w := Wait{Task: Task{What: opShutdown, On: vm.Path}, Since: time.Now()}
	over := c.waiting(w)
	_, err := methods.ShutdownGuest(ctx, c.vim(), &types.ShutdownGuest{This: vmRef(vm.Ref)})
	over()
	switch {
	case isFault(err, "InvalidPowerState") && !errors.Is(err, ErrUncertain):
		return nil
	case errors.Is(err, ErrUncertain):
		return &PendingError{w, translate(opShutdown, vm.Path, err)}
	}
	return translate(opShutdown, vm.Path, err)
}

// PowerOff powers the VM off at once, as if its plug was pulled. One that does not run
// is no error: look at [Client.Power]. A [PendingError] says that it may go off.
func (c *Client) PowerOff(ctx context.Context, vm VM) error {
	return c.power(ctx, vm, opPowerOff, func(ctx context.Context) (types.ManagedObjectReference, error) {
		res, err := methods.PowerOffVM_Task(ctx, c.vim(), &types.PowerOffVM_Task{This: vmRef(vm.Ref)})
		if err != nil {
			return types.ManagedObjectReference{}, err
		}
		return res.Returnval, nil
	})
}

// PowerOn powers the VM on. One that runs is no error. It works with a ctx that has
// ended, in bounded time. A [PendingError] says that it may still come on.
func (c *Client) PowerOn(ctx context.Context, vm VM) error {
	call, cancel := undoing(ctx)
	defer cancel()
	return c.power(call, vm, opPowerOn, func(ctx context.Context) (types.ManagedObjectReference, error) {
		res, err := methods.PowerOnVM_Task(ctx, c.vim(), &types.PowerOnVM_Task{This: vmRef(vm.Ref)})
		if err != nil {
			return types.ManagedObjectReference{}, err
		}
		return res.Returnval, nil
	})
}

// power runs a task that changes the power state.
func (c *Client) power(ctx context.Context, vm VM, what string, start func(context.Context) (types.ManagedObjectReference, error)) error {
	limited, cancel := context.WithTimeout(ctx, powerLimit)
	defer cancel()
	late, cancel := bounded(limited, cleanup)
	defer cancel()
	t := Task{What: what, On: vm.Path}
	err := c.patient(limited, t, func() error {
		_, err := c.runTask(limited, late, t, start)
		return err
	})
	if isFault(err, "InvalidPowerState") && !errors.Is(err, ErrPending) {
		return nil
	}
	return translate(what, vm.Path, err)
}
