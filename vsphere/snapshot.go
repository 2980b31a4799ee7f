package vsphere

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
// do not or cannot. [SnapshotPrefix] is put before a name that lacks it.
//
// The name is to be one that no other snapshot has: when vSphere's answer is lost,
// a snapshot of that name is taken for the one that was asked for. When ctx ends
// meanwhile, a snapshot that was made is removed. A [PendingError] says that there
// may be one, or may come to be: look for it by its name later on.
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
// whether a snapshot was made, it looks for one, and when ctx has ended it removes
// one.
func (c *Client) createSnapshot(ctx context.Context, vm VM, snap *SnapshotRef) error {
	late, cancel := bounded(ctx, cleanup)
	defer cancel()
	t := Task{What: "make the snapshot " + snap.Name, On: vm.Path}
	var result any
	err := c.patient(ctx, t, func() (err error) {
		result, err = c.runTask(ctx, late, t, func(ctx context.Context) (types.ManagedObjectReference, error) {
			res, err := methods.CreateSnapshot_Task(ctx, c.vim(), &types.CreateSnapshot_Task{
				This: vmRef(vm.Ref), Name: snap.Name, Quiesce: snap.Quiesced,
				Description: "Temporary, for an export by hyper2kvm. Safe to delete when no export of this VM runs.",
			})
			if err != nil {
				return types.ManagedObjectReference{}, err
			}
			return res.Returnval, nil
		})
		return err
	})
	var pending *PendingError
	switch ref, ok := result.(types.ManagedObjectReference); {
	case errors.As(err, &pending):
		return c.snapshotUnknown(ctx, late, vm, snap, pending)
	case err != nil:
		return err
	case !ok:
		return c.snapshotUnknown(ctx, late, vm, snap, &PendingError{Wait{Task: t}, errNoRef})
	case ctx.Err() != nil: // it was made after the caller had given up
		snap.Ref = ref.Value
		return leftBehind(vm, snap.Name, &PendingError{Wait{Task: t}, ctx.Err()}, c.RemoveSnapshot(late, *snap))
	default:
		snap.Ref = ref.Value
		return nil
	}
}

// snapshotUnknown looks for a snapshot that may have been made although nobody
// learned of it: to use it or, when ctx has ended, to remove it.
func (c *Client) snapshotUnknown(ctx, late context.Context, vm VM, snap *SnapshotRef, unknown *PendingError) error {
	if ctx.Err() == nil {
		err := c.adoptSnapshot(ctx, vm, snap, unknown)
		if err == nil || ctx.Err() == nil {
			return err
		}
	}
	return c.removeStray(late, vm, snap.Name, unknown)
}

// adoptSnapshot fills in snap from the snapshot of its name that there is, once
// none is being made any more. Its error is why nobody learned of one or, while
// there may come to be one, the [PendingError].
func (c *Client) adoptSnapshot(ctx context.Context, vm VM, snap *SnapshotRef, unknown *PendingError) error {
	if unknown.Ref != "" {
		if err := c.taskEnded(ctx, vm, unknown.Wait); err != nil {
			return leftBehind(vm, snap.Name, unknown, err)
		}
	} else if err := c.AwaitSnapshots(ctx, vm); err != nil {
		return leftBehind(vm, snap.Name, unknown, err)
	}
	found, err := c.SnapshotsNamed(ctx, vm, snap.Name)
	switch {
	case errors.Is(err, ErrNotFound): // the VM is gone
		return unknown.Err
	case err != nil:
		return leftBehind(vm, snap.Name, unknown, err)
	case len(found) > 0:
		c.log.Warn("vSphere's answer was lost, and the snapshot is there", "vm", vm.Path, "snapshot", snap.Name, "reason", unknown.Err.Error())
		*snap = found[0]
		return nil
	case unknown.Ref == "" && !errors.Is(unknown, errNoRef): // the call may still arrive
		return unknown
	}
	return unknown.Err
}

// removeStray looks for a snapshot that may have been made although nobody
// learned of it, and removes it. It returns why nobody did or, while there may
// be a snapshot, the [PendingError].
func (c *Client) removeStray(ctx context.Context, vm VM, name string, unknown *PendingError) error {
	call, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := c.Settled(call, vm, unknown.Wait); err != nil {
		return leftBehind(vm, name, unknown, err)
	}
	found, err := c.SnapshotsNamed(call, vm, name)
	switch {
	case errors.Is(err, ErrNotFound): // the VM is gone
		return unknown.Err
	case err != nil:
		return leftBehind(vm, name, unknown, err)
	case len(found) == 0 && unknown.Ref == "" && !errors.Is(unknown, errNoRef): // the call may still arrive
		return unknown
	}
	for _, s := range found {
		err = errors.Join(err, c.RemoveSnapshot(call, s))
	}
	return leftBehind(vm, name, unknown, err)
}

// leftBehind is why nobody learned of a snapshot and, unless it could be
// removed, that there may be one.
func leftBehind(vm VM, name string, unknown *PendingError, err error) error {
	if err == nil {
		return unknown.Err
	}
	if p := (*PendingError)(nil); errors.As(err, &p) {
		err = p.Err
	}
	out := *unknown
	out.Err = fmt.Errorf("%w; the snapshot %s may have been left behind: delete it if it is there (%v)",
		translate(opSnapshot, vm.Path, unknown.Err), name, err) //nolint:errorlint // what it is, is the first
	return &out
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
//
// After an error the snapshot is there, or may be: [ErrBusy] when the VM was busy
// with something else for longer than is waited for, and a [PendingError] when
// vSphere is at it.
func (c *Client) RemoveSnapshot(ctx context.Context, s SnapshotRef) error {
	call, cancel := undoing(ctx)
	defer cancel()
	t := Task{What: "remove the snapshot " + s.Name}
	err := c.patient(call, t, func() error {
		_, err := c.runTask(context.WithoutCancel(call), call, t, func(ctx context.Context) (types.ManagedObjectReference, error) {
			res, err := methods.RemoveSnapshot_Task(ctx, c.vim(), &types.RemoveSnapshot_Task{
				This: snapshotRef(s), Consolidate: types.NewBool(true),
			})
			if err != nil {
				return types.ManagedObjectReference{}, err
			}
			return res.Returnval, nil
		})
		return err
	})
	if isFault(err, "ManagedObjectNotFound") && !errors.Is(err, ErrPending) {
		return nil
	}
	return translate("remove the snapshot "+s.Name, "", err)
}

// FindSnapshots returns the VM's snapshots whose names begin with prefix, the
// oldest first: with [SnapshotPrefix], what a run that died has left behind.
func (c *Client) FindSnapshots(ctx context.Context, vm VM, prefix string) ([]SnapshotRef, error) {
	var m mo.VirtualMachine
	if err := c.everyProperty(ctx, vmRef(vm.Ref), []string{"snapshot"}, &m); err != nil {
		return nil, translate("read the snapshots", vm.Path, err)
	}
	return temporary(&m, prefix), nil
}

// SnapshotsNamed returns the VM's snapshots of that name, the oldest first. vSphere
// lets several have the same one.
func (c *Client) SnapshotsNamed(ctx context.Context, vm VM, name string) ([]SnapshotRef, error) {
	found, err := c.FindSnapshots(ctx, vm, name)
	return slices.DeleteFunc(found, func(s SnapshotRef) bool { return s.Name != name }), err
}

// temporary lists the VM's snapshots whose names begin with prefix.
func temporary(m *mo.VirtualMachine, prefix string) []SnapshotRef {
	if m.Snapshot == nil {
		return nil
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
	return out
}

// perPage is of how many VMs the snapshots are read in one call.
const perPage = 200

// TemporarySnapshots returns the snapshots of VMs whose names begin with
// [SnapshotPrefix], by the VM's Ref. A VM that is gone has none.
func (c *Client) TemporarySnapshots(ctx context.Context, vms []VM) (map[string][]SnapshotRef, error) {
	found := map[string][]SnapshotRef{}
	for page := range slices.Chunk(vms, perPage) {
		spec := types.PropertyFilterSpec{PropSet: []types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{"snapshot"}}}}
		for _, vm := range page {
			spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: vmRef(vm.Ref)})
		}
		res, err := methods.RetrievePropertiesEx(ctx, c.vim(), &types.RetrievePropertiesEx{
			This: c.session.vim.ServiceContent.PropertyCollector, SpecSet: []types.PropertyFilterSpec{spec},
			Options: types.RetrieveOptions{MaxObjects: perPage},
		})
		switch {
		case isFault(err, "ManagedObjectNotFound") && len(page) == 1:
			continue
		case isFault(err, "ManagedObjectNotFound"): // one of them is gone meanwhile
			for i := range page {
				one, err := c.TemporarySnapshots(ctx, page[i:i+1])
				if err != nil {
					return nil, err
				}
				maps.Copy(found, one)
			}
			continue
		case err != nil:
			return nil, translate("read the snapshots", "", err)
		case res.Returnval == nil:
			continue
		}
		for _, o := range res.Returnval.Objects {
			var m mo.VirtualMachine
			o.MissingSet = nil
			if err := mo.LoadObjectContent([]types.ObjectContent{o}, &m); err != nil {
				return nil, translate("read the snapshots", "", err)
			}
			if s := temporary(&m, SnapshotPrefix); len(s) > 0 {
				found[o.Obj.Value] = s
			}
		}
	}
	return found, nil
}
