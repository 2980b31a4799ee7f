package migrate

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// snapshot makes the temporary snapshot that a running VM is exported from
// (F-NFC-3).
func (r *run) snapshot(ctx context.Context) (ref vsphere.SnapshotRef, err error) {
	name := vsphere.SnapshotPrefix + uuid.NewString()
	err = r.insist(ctx, "make the snapshot "+name,
		func(w vsphere.Wait) error { return r.work.NoteSnapshot(name, w) },
		func() (err error) {
			ref, err = r.client.CreateSnapshot(ctx, r.vm, name)
			return err
		},
		func() (bool, error) {
			found, err := r.client.SnapshotsNamed(ctx, r.vm, name)
			if len(found) > 0 {
				ref = found[0]
			}
			return len(found) > 0, err
		})
	if err != nil {
		return ref, err
	}
	r.info("", "the VM runs: exporting from the temporary snapshot %s", name)
	return ref, nil
}

// removals is how often a snapshot is removed that is there again, or still.
const removals = 3

// dropSnapshot removes every snapshot of the name that the ledger has, if any, and
// strikes the name out once none is there and none is being made. The disks that
// came from it are forgotten: they cannot be completed from another snapshot.
func (r *run) dropSnapshot(ctx context.Context) error {
	name := r.work.Owed().Snapshot
	if name == "" {
		return nil
	}
	removed := false
	for range removals {
		found, err := r.client.SnapshotsNamed(ctx, r.vm, name)
		if err == nil && len(found) == 0 && !removed {
			found, err = r.snapshotsToCome(ctx, name)
		}
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return r.work.StrikeSnapshot()
		}
		for _, s := range found {
			if err := r.changeBack(workdir.DebtSnapshot, "remove the snapshot "+name, func() error { return r.client.RemoveSnapshot(ctx, s) }); err != nil {
				return err
			}
		}
		removed = true
	}
	return fmt.Errorf("the snapshot %s of %s is still there after it was removed %d times", name, r.vm.Path, removals)
}

// snapshotsToCome waits for the snapshots that vSphere makes of the VM at this
// moment, and returns those of that name. It is a last look, for a snapshot that
// is not there although it is owed.
func (r *run) snapshotsToCome(ctx context.Context, name string) ([]vsphere.SnapshotRef, error) {
	if err := r.client.AwaitSnapshots(ctx, r.vm); err != nil {
		return nil, err
	}
	return r.client.SnapshotsNamed(ctx, r.vm, name)
}
