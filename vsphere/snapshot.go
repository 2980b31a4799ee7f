package vsphere

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func snapshotRef(s SnapshotRef) types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "VirtualMachineSnapshot", Value: s.Ref}
}

const opSnapshot = "take a snapshot"

// CreateSnapshot takes a temporary snapshot of a VM, without its memory:
// quiesced when VMware Tools run in the guest, and crash-consistent when they
// do not or cannot. [SnapshotPrefix] is put before a name that lacks it. When
// ctx ends meanwhile, or vSphere's answer is lost, nothing is left behind, or
// the error names the snapshot that may have been.
func (c *Client) CreateSnapshot(ctx context.Context, vm VM, name string) (SnapshotRef, error) {
	if !strings.HasPrefix(name, SnapshotPrefix) {
		name = SnapshotPrefix + name
	}
	var m mo.VirtualMachine
	if err := c.properties(ctx, vmRef(vm.Ref), []string{"runtime.powerState", "guest.toolsRunningStatus"}, &m); err != nil {
		return SnapshotRef{}, translate(opSnapshot, vm.Path, err)
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
		return SnapshotRef{}, translate(opSnapshot, vm.Path, err)
	}
	return snap, nil
}

// createSnapshot runs the task and fills in snap.Ref. When it cannot be told
// whether a snapshot was made, one that was is removed.
func (c *Client) createSnapshot(ctx context.Context, vm VM, snap *SnapshotRef) error {
	asked := false // and not refused
	result, done, err := c.runTask(ctx, func(ctx context.Context) (types.ManagedObjectReference, error) {
		res, err := methods.CreateSnapshot_Task(ctx, c.vim(), &types.CreateSnapshot_Task{
			This: vmRef(vm.Ref), Name: snap.Name, Quiesce: snap.Quiesced,
			Description: "Temporary, for an export by hyper2kvm. Safe to delete when no export of this VM runs.",
		})
		asked = faultOf(err) == nil
		if err != nil {
			return types.ManagedObjectReference{}, err
		}
		return res.Returnval, nil
	})
	if !done {
		if !asked || errors.As(err, new(*taskError)) {
			return err
		}
		return c.removeStray(ctx, vm, snap.Name, err)
	}
	ref, ok := result.(types.ManagedObjectReference)
	if !ok {
		if err == nil {
			err = errNoRef
		}
		return c.removeStray(ctx, vm, snap.Name, err)
	}
	snap.Ref = ref.Value
	if err != nil { // it was made after the caller had given up
		_ = c.RemoveSnapshot(ctx, *snap)
	}
	return err
}

// removeStray looks for a snapshot that may have been made although nobody
// learned of it because of cause, and removes it. It returns cause, which then
// also tells if a snapshot may have been left behind.
func (c *Client) removeStray(ctx context.Context, vm VM, name string, cause error) error {
	call, cancel := bounded(ctx, cleanup)
	defer cancel()
	err := c.settled(call, vm)
	found, findErr := c.FindSnapshots(call, vm, name)
	i := slices.IndexFunc(found, func(s SnapshotRef) bool { return s.Name == name })
	switch {
	case findErr != nil:
		err = findErr
	case i >= 0:
		err = c.RemoveSnapshot(call, found[i])
	}
	if err == nil {
		return cause
	}
	c.log.Warn("a snapshot may have been left behind", "vm", vm.Path, "snapshot", name, "reason", err.Error())
	return fmt.Errorf("%w; the snapshot %s may have been left behind: delete it if it is there (%v)",
		translate(opSnapshot, vm.Path, cause), name, err)
}

// settled waits for the VM's tasks: the one that makes a snapshot may be among
// them, still running. An error says that one may still run.
func (c *Client) settled(ctx context.Context, vm VM) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var m mo.VirtualMachine
	if err := c.properties(limited, vmRef(vm.Ref), []string{"recentTask"}, &m); err != nil {
		return translate("read the tasks", vm.Path, err)
	}
	for _, task := range m.RecentTask {
		_, err := c.waitTask(limited, task)
		if err != nil && !errors.As(err, new(*taskError)) && !isFault(err, "ManagedObjectNotFound") {
			return translate("wait for the tasks", vm.Path, err)
		}
	}
	return nil
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
