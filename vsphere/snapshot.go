package vsphere

import (
	"context"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func snapshotRef(s SnapshotRef) types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "VirtualMachineSnapshot", Value: s.Ref}
}

// CreateSnapshot takes a temporary snapshot of a VM, without its memory:
// quiesced when VMware Tools run in the guest, and crash-consistent when they
// do not or cannot. [SnapshotPrefix] is put before a name that lacks it. When
// ctx ends meanwhile, nothing is left behind.
func (c *Client) CreateSnapshot(ctx context.Context, vm VM, name string) (SnapshotRef, error) {
	const op = "take a snapshot"
	if !strings.HasPrefix(name, SnapshotPrefix) {
		name = SnapshotPrefix + name
	}
	var m mo.VirtualMachine
	if err := c.properties(ctx, vmRef(vm.Ref), []string{"runtime.powerState", "guest.toolsRunningStatus"}, &m); err != nil {
		return SnapshotRef{}, translate(op, vm.Path, err)
	}
	snap := SnapshotRef{Name: name, Created: time.Now()}
	snap.Quiesced = m.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn && m.Guest != nil &&
		m.Guest.ToolsRunningStatus == string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
	err := c.createSnapshot(ctx, vm, &snap)
	if snap.Quiesced && ctx.Err() == nil && cannotQuiesce(err) {
		c.log.Warn("the guest cannot be quiesced; the snapshot is crash-consistent", "vm", vm.Path, "reason", plainFault(err).Error())
		snap.Quiesced = false
		err = c.createSnapshot(ctx, vm, &snap)
	}
	if err != nil {
		return SnapshotRef{}, translate(op, vm.Path, err)
	}
	return snap, nil
}

// createSnapshot runs the task and fills in snap.Ref.
func (c *Client) createSnapshot(ctx context.Context, vm VM, snap *SnapshotRef) error {
	result, done, err := c.runTask(ctx, func(ctx context.Context) (types.ManagedObjectReference, error) {
		res, err := methods.CreateSnapshot_Task(ctx, c.vim(), &types.CreateSnapshot_Task{
			This: vmRef(vm.Ref), Name: snap.Name, Quiesce: snap.Quiesced,
			Description: "Temporary, for an export by hyper2kvm. Safe to delete when no export of this VM runs.",
		})
		if err != nil {
			return types.ManagedObjectReference{}, err
		}
		return res.Returnval, nil
	})
	if !done {
		if ctx.Err() != nil {
			c.removeStray(ctx, vm, snap.Name)
		}
		return err
	}
	ref, ok := result.(types.ManagedObjectReference)
	if !ok {
		if err == nil {
			err = errNoRef
		}
		return err
	}
	snap.Ref = ref.Value
	if err != nil { // it was made after the caller had given up
		_ = c.RemoveSnapshot(ctx, *snap)
	}
	return err
}

// removeStray looks for a snapshot that may have been made although nobody
// waited for the answer, and removes it.
func (c *Client) removeStray(ctx context.Context, vm VM, name string) {
	call, cancel := bounded(ctx, cleanup)
	defer cancel()
	strays, err := c.FindSnapshots(call, vm, name)
	if err == nil && len(strays) > 0 {
		err = c.RemoveSnapshot(call, strays[0])
	}
	if err != nil {
		c.log.Warn("a snapshot may have been left behind", "vm", vm.Path, "snapshot", name, "reason", err.Error())
	}
}

// cannotQuiesce says whether a snapshot failed because the guest did not play
// along, so that one without it may succeed.
func cannotQuiesce(err error) bool {
	return isFault(err, "ApplicationQuiesceFault", "FilesystemQuiesceFault", "ToolsUnavailable",
		"GuestOperationsUnavailable", "SnapshotFault", "GenericVmConfigFault")
}

// RemoveSnapshot deletes a snapshot and merges its data back, which may take
// long on a busy VM. A ctx that has ended still gives it the time to be
// started; vSphere then finishes it alone. A snapshot that is gone is no error.
func (c *Client) RemoveSnapshot(ctx context.Context, s SnapshotRef) error {
	call, cancel := bounded(ctx, cleanup)
	defer cancel()
	err := patient(call, func() error {
		res, err := methods.RemoveSnapshot_Task(call, c.vim(), &types.RemoveSnapshot_Task{
			This: snapshotRef(s), Consolidate: types.NewBool(true),
		})
		if err != nil {
			return err
		}
		_, err = c.waitTask(call, res.Returnval)
		return err
	})
	if isFault(err, "ManagedObjectNotFound") {
		return nil
	}
	return translate("remove the snapshot "+s.Name, "", err)
}

// patience bounds how long a VM that is still busy with the end of something
// else, such as an aborted export, is waited for.
const patience = 20 * time.Second

// patient runs step again while the VM is busy.
func patient(ctx context.Context, step func() error) error {
	limit := time.Now().Add(patience)
	return poll(ctx, func() (bool, error) {
		err := step()
		if isFault(err, "TaskInProgress", "ConcurrentAccess") && time.Now().Before(limit) {
			return false, nil
		}
		return true, err
	})
}

// FindSnapshots returns the VM's snapshots whose names begin with prefix, the
// oldest first: with [SnapshotPrefix], what a run that died has left behind.
func (c *Client) FindSnapshots(ctx context.Context, vm VM, prefix string) ([]SnapshotRef, error) {
	var m mo.VirtualMachine
	if err := c.properties(ctx, vmRef(vm.Ref), []string{"snapshot"}, &m); err != nil {
		return nil, translate("read the snapshots", vm.Path, err)
	}
	if m.Snapshot == nil {
		return nil, nil
	}
	var out []SnapshotRef
	var walk func([]types.VirtualMachineSnapshotTree)
	walk = func(trees []types.VirtualMachineSnapshotTree) {
		for _, t := range trees {
			if strings.HasPrefix(t.Name, prefix) {
				out = append(out, SnapshotRef{Ref: t.Snapshot.Value, Name: t.Name, Created: t.CreateTime, Quiesced: t.Quiesced})
			}
			walk(t.ChildSnapshotList)
		}
	}
	walk(m.Snapshot.RootSnapshotList)
	return out, nil
}
