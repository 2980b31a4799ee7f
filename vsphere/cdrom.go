package vsphere

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
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

// CDROMChange takes the CD/DVD drives out of a VM, and puts them back. It can be
// written down in JSON before anything is changed, and be restored from there by
// another process ([Client.LoadCDROM]).
type CDROMChange struct {
	// Drives describes each change for people, as "CD/DVD drive 1: removed
	// ([datastore1] iso/debian.iso)". Empty when there is nothing to do.
	Drives []string

	client  *Client
	vm      VM
	spec    []types.BaseVirtualDeviceConfigSpec // what Apply does
	removed []types.VirtualCdrom                // as they were
	emptied []types.VirtualCdrom

	mu sync.Mutex // one Restore at a time
}

// PlanCDROM prepares to take out the drives of a VM that is powered off. Those
// of a running VM cannot be taken out: their images are to be ejected, and they
// disconnected. What an earlier change was to do, nil for none, belongs to the
// new change too: its Restore puts back both. A drive that both change is put
// back as it was before the earlier one, whether or not that one took effect.
func (c *Client) PlanCDROM(ctx context.Context, vm VM, earlier *CDROMChange) (*CDROMChange, error) {
	var m mo.VirtualMachine
	if err := c.properties(ctx, vmRef(vm.Ref), []string{"runtime.powerState", "config.hardware"}, &m); err != nil {
		return nil, translate(opCDROM, vm.Path, err)
	}
	ch := &CDROMChange{client: c, vm: vm}
	if earlier != nil {
		ch.Drives = slices.Clone(earlier.Drives)
		ch.removed, ch.emptied = slices.Clone(earlier.removed), slices.Clone(earlier.emptied)
	}
	for _, drive := range cdroms(&m) {
		switch {
		case m.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOff:
			ch.remove(drive)
		case hasImage(&drive.VirtualDevice):
			ch.empty(drive)
		}
	}
	return ch, nil
}

// remove plans to take a drive out. One that an earlier change was to disconnect
// is put back as it was before that.
func (ch *CDROMChange) remove(drive *types.VirtualCdrom) {
	ch.edit(drive, types.VirtualDeviceConfigSpecOperationRemove)
	if recorded(ch.removed, drive) >= 0 {
		return
	}
	was := *drive
	if i := recorded(ch.emptied, drive); i >= 0 {
		was = ch.emptied[i]
		ch.emptied = slices.Delete(ch.emptied, i, i+1)
		if i := slices.Index(ch.Drives, describe(&was, disconnected)); i >= 0 {
			ch.Drives = slices.Delete(ch.Drives, i, i+1)
		}
	}
	ch.removed = append(ch.removed, was)
	ch.Drives = append(ch.Drives, describe(&was, removed))
}

// empty plans to eject a drive's image and to disconnect it.
func (ch *CDROMChange) empty(drive *types.VirtualCdrom) {
	ch.edit(emptied(drive), types.VirtualDeviceConfigSpecOperationEdit)
	if recorded(ch.removed, drive) >= 0 || recorded(ch.emptied, drive) >= 0 {
		return
	}
	ch.emptied = append(ch.emptied, *drive)
	ch.Drives = append(ch.Drives, describe(drive, disconnected))
}

func (ch *CDROMChange) edit(drive *types.VirtualCdrom, op types.VirtualDeviceConfigSpecOperation) {
	ch.spec = append(ch.spec, &types.VirtualDeviceConfigSpec{Device: drive, Operation: op})
}

// What is done to a drive, for people.
const (
	removed      = "removed"
	disconnected = "disconnected"
)

// recorded is the index of the drive that was at drive's place, or -1.
func recorded(drives []types.VirtualCdrom, drive *types.VirtualCdrom) int {
	return slices.IndexFunc(drives, func(d types.VirtualCdrom) bool { return samePlace(&d, drive) })
}

// samePlace says whether two drives are at one unit of one controller.
func samePlace(a, b *types.VirtualCdrom) bool {
	return a.ControllerKey == b.ControllerKey && unit(a) == unit(b)
}

// Apply makes the change: all of it at once or not at all. When vSphere's answer is
// lost, it looks whether the drives are out. When ctx ends meanwhile, the change
// is undone. A [PendingError] says that it may be made all the same: ask Made, or
// Restore it, once that is known.
func (ch *CDROMChange) Apply(ctx context.Context) error {
	if len(ch.spec) == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, reconfigureLimit)
	defer cancel()
	late, cancel := bounded(limited, cleanup)
	defer cancel()
	t := Task{What: "take the CD/DVD drives out", On: ch.vm.Path}
	err := ch.client.patient(limited, t, func() error {
		return ch.client.reconfigure(limited, late, t, ch.vm, types.VirtualMachineConfigSpec{DeviceChange: ch.spec})
	})
	if err == nil && ctx.Err() != nil { // it was made after the caller had given up
		err = errors.Join(ctx.Err(), ch.Restore(late))
	}
	var pending *PendingError
	switch {
	case errors.As(err, &pending) && limited.Err() == nil:
		if err = ch.look(limited, pending); err != nil && limited.Err() != nil {
			err = ch.settle(late, pending)
		}
	case errors.As(err, &pending):
		err = ch.settle(late, pending)
	}
	if err != nil {
		return translate(opCDROM, ch.vm.Path, err)
	}
	ch.client.log.Info("CD/DVD drives changed", "vm", ch.vm.Path, "drives", strings.Join(ch.Drives, ", "))
	return nil
}

// Made reports whether the VM's drives are as Apply makes them.
func (ch *CDROMChange) Made(ctx context.Context) (bool, error) {
	again, err := ch.client.PlanCDROM(ctx, ch.vm, ch)
	return err == nil && len(again.spec) == 0, err
}

// look finds out whether a change was made of which nobody learned. Its error is
// why nobody did or, while the change may still be made, the [PendingError].
func (ch *CDROMChange) look(ctx context.Context, unknown *PendingError) error {
	call, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if ch.client.Settled(call, ch.vm, unknown.Wait) != nil {
		return unknown
	}
	switch made, err := ch.Made(ctx); {
	case err != nil:
		return unknown
	case made:
		return nil
	case unknown.Ref == "": // without a task, the call may still arrive
		return unknown
	}
	return unknown.Err
}

// settle undoes a change that may have been made although nobody learned of it.
// It returns why nobody did or, while the change may still be made, the
// [PendingError].
func (ch *CDROMChange) settle(ctx context.Context, unknown *PendingError) error {
	call, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if ch.client.Settled(call, ch.vm, unknown.Wait) != nil || ch.Restore(call) != nil || unknown.Ref == "" {
		return unknown // without a task, the call may still arrive
	}
	return unknown.Err
}

const (
	opCDROM   = "remove the CD/DVD drives"
	opRestore = "put the CD/DVD drives back"
)

// cdromRecord is a change in JSON, devices in the form of vSphere's own JSON.
type cdromRecord struct {
	Drives  []string             `json:"drives"`
	Removed []types.VirtualCdrom `json:"removed,omitempty"`
	Emptied []types.VirtualCdrom `json:"emptied,omitempty"`
}

// MarshalJSON writes down what Restore needs.
func (ch *CDROMChange) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	err := types.NewJSONEncoder(&b).Encode(cdromRecord{ch.Drives, ch.removed, ch.emptied})
	return b.Bytes(), err
}

// LoadCDROM returns a change of vm that was written down, to be restored.
func (c *Client) LoadCDROM(vm VM, data []byte) (*CDROMChange, error) {
	var r cdromRecord
	if err := types.NewJSONDecoder(bytes.NewReader(data)).Decode(&r); err != nil {
		return nil, fmt.Errorf("a record of the CD/DVD drives of %s: %w", vm.Path, err)
	}
	return &CDROMChange{client: c, vm: vm, Drives: r.Drives, removed: r.Removed, emptied: r.Emptied}, nil
}

// Restore puts back what was changed and has not been put back yet: the same
// drive, at the same place, with the same image and connection. It works with
// a ctx that has ended, in bounded time, and may be called again: after an error
// the drives are not back, or not known to be. The drives of a VM that is gone
// are [ErrNotFound].
func (ch *CDROMChange) Restore(ctx context.Context) error {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if len(ch.Drives) == 0 {
		return nil
	}
	call, cancel := undoing(ctx)
	defer cancel()
	t := Task{What: opRestore, On: ch.vm.Path}
	restore := func() error {
		return ch.client.patient(call, t, func() error {
			var m mo.VirtualMachine
			if err := ch.client.properties(call, vmRef(ch.vm.Ref), []string{"config.hardware"}, &m); err != nil {
				return err
			}
			spec := ch.undo(cdroms(&m))
			if len(spec) == 0 {
				return nil
			}
			return ch.client.reconfigure(context.WithoutCancel(call), call, t, ch.vm, types.VirtualMachineConfigSpec{DeviceChange: spec})
		})
	}
	err := restore()
	var pending *PendingError
	if errors.As(err, &pending) && pending.Ref == "" && ch.client.Settled(call, ch.vm, pending.Wait) == nil {
		// The answer was lost. What is back is not put back twice, and where a drive
		// is, vSphere adds no other.
		err = restore()
	}
	return translate(opRestore, ch.vm.Path, err)
}

// undo compares what was with the drives there are now.
func (ch *CDROMChange) undo(now []*types.VirtualCdrom) []types.BaseVirtualDeviceConfigSpec {
	at := func(d *types.VirtualCdrom) *types.VirtualCdrom {
		for _, n := range now {
			if samePlace(n, d) {
				return n
			}
		}
		return nil
	}
	var spec []types.BaseVirtualDeviceConfigSpec
	put := func(d types.VirtualCdrom, key int32, op types.VirtualDeviceConfigSpecOperation) {
		d.Key = key
		spec = append(spec, &types.VirtualDeviceConfigSpec{Device: &d, Operation: op})
	}
	for i, was := range ch.removed {
		switch n := at(&was); {
		case n == nil:
			put(was, int32(-1-i), types.VirtualDeviceConfigSpecOperationAdd) // vSphere gives it a key
		case hasImage(&was.VirtualDevice) && !hasImage(&n.VirtualDevice): // it was only disconnected so far
			put(was, n.Key, types.VirtualDeviceConfigSpecOperationEdit)
		}
	}
	for _, was := range ch.emptied {
		n := at(&was)
		if n == nil || imageOf(n.Backing) == imageOf(was.Backing) && connected(&n.VirtualDevice) == connected(&was.VirtualDevice) {
			continue
		}
		put(was, n.Key, types.VirtualDeviceConfigSpecOperationEdit)
	}
	return spec
}

// reconfigure changes a VM's configuration, as [Client.runTask] says.
func (c *Client) reconfigure(ctx, late context.Context, t Task, vm VM, spec types.VirtualMachineConfigSpec) error {
	_, err := c.runTask(ctx, late, t, func(ctx context.Context) (types.ManagedObjectReference, error) {
		res, err := methods.ReconfigVM_Task(ctx, c.vim(), &types.ReconfigVM_Task{
			This: vmRef(vm.Ref), Spec: spec,
		})
		if err != nil {
			return types.ManagedObjectReference{}, err
		}
		return res.Returnval, nil
	})
	return err
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
	return imageOf(d.Backing) != "" || connected(d)
}

// connected says whether the drive is connected, now or at power-on.
func connected(d *types.VirtualDevice) bool {
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
