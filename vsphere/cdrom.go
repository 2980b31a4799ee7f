package vsphere

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// reconfigureLimit bounds a change of hardware. A guest that holds on to its
// CD makes vSphere ask a person, and wait.
const reconfigureLimit = 2 * time.Minute

// CDROMChange is what [Client.RemoveCDROM] has changed.
type CDROMChange struct {
	// Drives describes each change for people, as "CD/DVD drive 1: removed
	// ([datastore1] iso/debian.iso)". Empty when there was nothing to do.
	Drives []string

	client  *Client
	vm      VM
	removed []*types.VirtualCdrom // as they were
	emptied []*types.VirtualCdrom

	mu sync.Mutex // one Restore at a time
}

// RemoveCDROM takes the CD/DVD drives out of a VM that is powered off. Those of
// a running VM cannot be taken out: their images are ejected and they are
// disconnected. All of it happens at once or not at all; when ctx ends
// meanwhile, it is undone.
func (c *Client) RemoveCDROM(ctx context.Context, vm VM) (*CDROMChange, error) {
	const op = "remove the CD/DVD drives"
	var m mo.VirtualMachine
	if err := c.properties(ctx, vmRef(vm.Ref), []string{"runtime.powerState", "config.hardware"}, &m); err != nil {
		return nil, translate(op, vm.Path, err)
	}
	change := &CDROMChange{client: c, vm: vm}
	var spec []types.BaseVirtualDeviceConfigSpec
	for _, drive := range cdroms(&m) {
		edit := &types.VirtualDeviceConfigSpec{Device: drive, Operation: types.VirtualDeviceConfigSpecOperationRemove}
		switch {
		case m.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOff:
			change.removed = append(change.removed, drive)
			change.Drives = append(change.Drives, describe(drive, "removed"))
		case hasImage(&drive.VirtualDevice):
			change.emptied = append(change.emptied, drive)
			change.Drives = append(change.Drives, describe(drive, "disconnected"))
			edit.Device, edit.Operation = emptied(drive), types.VirtualDeviceConfigSpecOperationEdit
		default:
			continue
		}
		spec = append(spec, edit)
	}
	if len(spec) == 0 {
		return change, nil
	}
	done, err := c.reconfigure(ctx, vm, spec)
	if done && err != nil {
		_ = change.Restore(ctx)
	}
	if err != nil {
		return nil, translate(op, vm.Path, err)
	}
	c.log.Info("CD/DVD drives changed", "vm", vm.Path, "drives", strings.Join(change.Drives, ", "))
	return change, nil
}

// Restore puts back what was changed and has not been put back yet: the same
// drive, at the same place, with the same image and connection. It works with
// a ctx that has ended, in bounded time, and may be called again.
func (ch *CDROMChange) Restore(ctx context.Context) error {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if len(ch.Drives) == 0 {
		return nil
	}
	const op = "put the CD/DVD drives back"
	call, cancel := bounded(ctx, cleanup)
	defer cancel()
	err := patient(call, func() error {
		var m mo.VirtualMachine
		if err := ch.client.properties(call, vmRef(ch.vm.Ref), []string{"config.hardware"}, &m); err != nil {
			return err
		}
		spec := ch.undo(cdroms(&m))
		if len(spec) == 0 {
			return nil
		}
		_, err := ch.client.reconfigure(call, ch.vm, spec)
		return err
	})
	return translate(op, ch.vm.Path, err)
}

// undo compares what was with the drives there are now.
func (ch *CDROMChange) undo(now []*types.VirtualCdrom) []types.BaseVirtualDeviceConfigSpec {
	at := func(d *types.VirtualCdrom) *types.VirtualCdrom {
		for _, n := range now {
			if n.ControllerKey == d.ControllerKey && unit(n) == unit(d) {
				return n
			}
		}
		return nil
	}
	var spec []types.BaseVirtualDeviceConfigSpec
	for i, d := range ch.removed {
		if at(d) != nil {
			continue
		}
		add := *d
		add.Key = int32(-1 - i) // vSphere gives it a key
		spec = append(spec, &types.VirtualDeviceConfigSpec{Device: &add, Operation: types.VirtualDeviceConfigSpecOperationAdd})
	}
	for _, d := range ch.emptied {
		n := at(d)
		if n == nil || imageOf(n.Backing) == imageOf(d.Backing) && connected(n) == connected(d) {
			continue
		}
		edit := *d
		edit.Key = n.Key
		spec = append(spec, &types.VirtualDeviceConfigSpec{Device: &edit, Operation: types.VirtualDeviceConfigSpecOperationEdit})
	}
	return spec
}

// reconfigure changes devices. done says whether it took effect, which it may
// have even though err tells that ctx ended.
func (c *Client) reconfigure(ctx context.Context, vm VM, spec []types.BaseVirtualDeviceConfigSpec) (done bool, err error) {
	limited, cancel := context.WithTimeout(ctx, reconfigureLimit)
	defer cancel()
	_, done, err = c.runTask(limited, func(ctx context.Context) (types.ManagedObjectReference, error) {
		res, err := methods.ReconfigVM_Task(ctx, c.vim(), &types.ReconfigVM_Task{
			This: vmRef(vm.Ref), Spec: types.VirtualMachineConfigSpec{DeviceChange: spec},
		})
		if err != nil {
			return types.ManagedObjectReference{}, err
		}
		return res.Returnval, nil
	})
	return done, err
}

// cdroms lists the VM's CD/DVD drives.
func cdroms(m *mo.VirtualMachine) []*types.VirtualCdrom {
	var out []*types.VirtualCdrom
	if m.Config == nil {
		return nil
	}
	for _, d := range m.Config.Hardware.Device {
		if cd, ok := d.(*types.VirtualCdrom); ok {
			out = append(out, cd)
		}
	}
	return out
}

// emptied is the drive without image and connection.
func emptied(d *types.VirtualCdrom) *types.VirtualCdrom {
	out := *d
	out.Backing = &types.VirtualCdromRemotePassthroughBackingInfo{}
	connect := types.VirtualDeviceConnectInfo{AllowGuestControl: true}
	if d.Connectable != nil {
		connect = *d.Connectable
	}
	connect.Connected, connect.StartConnected = false, false
	out.Connectable = &connect
	return &out
}

// hasImage says whether a CD or floppy drive is connected, now or at power-on,
// or has an image file in it.
func hasImage(d *types.VirtualDevice) bool {
	return imageOf(d.Backing) != "" || d.Connectable != nil && (d.Connectable.Connected || d.Connectable.StartConnected)
}

// connected says whether the drive is connected, now or at power-on.
func connected(d *types.VirtualCdrom) bool {
	return d.Connectable != nil && (d.Connectable.Connected || d.Connectable.StartConnected)
}

// imageOf is the image file in a drive, or "".
func imageOf(backing types.BaseVirtualDeviceBackingInfo) string {
	if f, ok := backing.(types.BaseVirtualDeviceFileBackingInfo); ok {
		return f.GetVirtualDeviceFileBackingInfo().FileName
	}
	return ""
}

func unit(d *types.VirtualCdrom) int32 {
	if d.UnitNumber == nil {
		return 0
	}
	return *d.UnitNumber
}

func describe(d *types.VirtualCdrom, what string) string {
	s := label(&d.VirtualDevice)
	if s == "" {
		s = "CD/DVD drive"
	}
	s += ": " + what
	if image := imageOf(d.Backing); image != "" {
		s += " (" + image + ")"
	}
	return s
}
