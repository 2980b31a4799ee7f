package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// prepare readies the VM for a lease. What it changes is in the ledger before
// vSphere is asked for it; putBack undoes it from there.
func (r *run) prepare(ctx context.Context) (err error) {
	r.t.SetPhase(progress.Preparing)
	// As it is now: whoever was waited for may have changed it.
	if r.vm, err = r.client.Refresh(ctx, r.vm); err != nil {
		return err
	}
	snapshot, resumed, err := r.beginLedger(ctx)
	if err != nil {
		return err
	}
	r.prepared = true
	changed, err := r.removeCDROM(ctx)
	if err != nil {
		return err
	}
	r.target = vsphere.Target{VM: r.vm}
	if r.wantsSnapshot() {
		changed = true
		if snapshot.Ref == "" {
			if snapshot, err = r.snapshot(ctx); err != nil {
				return err
			}
		}
		r.target.Snapshot = snapshot
	}
	if changed {
		if err := r.rebase(ctx); err != nil {
			return err
		}
	}
	r.planDisks()
	if done, partial := r.work.Kept(); resumed && done+partial > 0 {
		r.info("", "resuming what an earlier run has brought: %d disk(s) are complete, %d in part", done, partial)
	}
	return nil
}

// change has vSphere change the VM. What is asked for is written down first, with
// note.
func (r *run) change(what string, note func(vsphere.Wait) error, ask func() error) error {
	if err := note(r.waitFor(what)); err != nil {
		return err
	}
	return r.answered(ask())
}

// changeBack has vSphere undo a change. A ledger that cannot be written is no
// reason not to: it says that the change is there.
func (r *run) changeBack(what string, ask func() error) error {
	if err := r.work.NoteUndoing(r.waitFor(what)); err != nil {
		r.log.Warn("the ledger cannot be written", "error", err)
	}
	return r.answered(ask())
}

func (r *run) waitFor(what string) vsphere.Wait {
	return vsphere.Wait{Task: vsphere.Task{What: what, On: r.vm.Path}, Since: time.Now()}
}

// answered strikes out what vSphere was asked for, unless err says that it may
// still be at it.
func (r *run) answered(err error) error {
	var pending *vsphere.Wait
	var e *vsphere.PendingError
	if errors.As(err, &e) {
		pending = &e.Wait
	}
	if uerr := r.work.NoteAnswer(pending); uerr != nil {
		return errors.Join(err, uerr)
	}
	return err
}

// named enters a task into the ledger as soon as vSphere has named it.
func (r *run) named(t vsphere.Task) {
	if r.work == nil {
		return
	}
	if err := r.work.NoteTask(t); err != nil {
		r.log.Warn("the ledger cannot be written", "task", t.Ref, "error", err)
	}
}

// removeCDROM takes the CD/DVD drives out, if that was asked for. An earlier run
// that died may have done so, or been about to: the ledger then goes on saying
// what they were. changed says that the VM's configuration has.
func (r *run) removeCDROM(ctx context.Context) (changed bool, err error) {
	if !r.def.Options.RemoveCDROM {
		return false, r.returnCDROM(ctx)
	}
	earlier, err := r.takenOut()
	if err != nil {
		return false, err
	}
	planned, err := r.client.PlanCDROM(ctx, r.vm, earlier)
	if err != nil || len(planned.Drives) == 0 {
		return earlier != nil, err
	}
	record, err := json.Marshal(planned)
	if err != nil {
		return true, err
	}
	return true, r.change("take the CD/DVD drives out", func(w vsphere.Wait) error { return r.work.NoteDrives(record, w) }, func() error { return planned.Apply(ctx) })
}

// takenOut is the change of drives that is written down, or nil.
func (r *run) takenOut() (*vsphere.CDROMChange, error) {
	record := r.work.Owed().CDROM
	if record == nil {
		return nil, nil
	}
	change, err := r.client.LoadCDROM(r.vm, record)
	if err != nil {
		return nil, fault.Permanent(err)
	}
	return change, nil
}

// returnCDROM puts back the drives that were taken out, if any. When somebody
// else has changed the VM meanwhile, the ledger goes on speaking of the VM as it
// was: the next run then begins again.
func (r *run) returnCDROM(ctx context.Context) error {
	change, err := r.takenOut()
	if change == nil {
		return err
	}
	before, unknown := r.client.Refresh(ctx, r.vm)
	if err := r.changeBack("put the CD/DVD drives back", func() error { return change.Restore(ctx) }); err != nil {
		return err
	}
	if err := r.work.StrikeDrives(); err != nil {
		return err
	}
	if unknown != nil || before.ChangeVersion != r.vm.ChangeVersion {
		return nil
	}
	return r.rebase(ctx)
}

// beginLedger makes the ledger one of this VM as it is now. Disks that came
// from a temporary snapshot stay good while that snapshot exists, whatever
// became of the VM; it is returned then. One that is of no more use is removed.
func (r *run) beginLedger(ctx context.Context) (left vsphere.SnapshotRef, resumed bool, err error) {
	id := r.identity()
	if name := r.work.Owed().Snapshot; name != "" {
		if left, err = r.findSnapshot(ctx, name); err != nil {
			return left, false, err
		}
		known := r.work.VM()
		id.ChangeVersion = known.ChangeVersion
		if left.Ref == "" || id != known || !r.wantsSnapshot() {
			if err := r.removeSnapshot(ctx, left); err != nil {
				return left, false, err
			}
			left = vsphere.SnapshotRef{}
		}
		id = r.identity()
		if left.Ref != "" {
			id.ChangeVersion = known.ChangeVersion
		}
	}
	if resumed, err = r.work.Begin(id, r.def.ID); err != nil {
		return left, resumed, err
	}
	return left, resumed, r.work.NoteVM(r.vm.Ref, r.vm.Path, r.def.VMPath)
}

func (r *run) wantsSnapshot() bool {
	return r.def.Options.Snapshot && r.vm.Power != vsphere.PoweredOff
}

func (r *run) identity() workdir.Identity {
	return workdir.Identity{
		VCenter:       r.client.About().Host,
		InstanceUUID:  r.vm.InstanceUUID,
		ChangeVersion: r.vm.ChangeVersion,
		Format:        r.def.Options.Format,
		Compress:      r.def.Options.Compress,
	}
}

// rebase takes the VM as it is after a change of our own as the one that the
// ledger speaks of.
func (r *run) rebase(ctx context.Context) error {
	vm, err := r.client.Refresh(ctx, r.vm)
	if err != nil {
		return err
	}
	r.vm.ChangeVersion = vm.ChangeVersion
	return r.work.NoteChangeVersion(vm.ChangeVersion)
}

// snapshot makes the temporary snapshot that a running VM is exported from
// (F-NFC-3).
func (r *run) snapshot(ctx context.Context) (ref vsphere.SnapshotRef, err error) {
	name := vsphere.SnapshotPrefix + uuid.NewString()
	err = r.change("make the snapshot "+name, func(w vsphere.Wait) error { return r.work.NoteSnapshot(name, w) }, func() error {
		ref, err = r.client.CreateSnapshot(ctx, r.vm, name)
		return err
	})
	if err != nil {
		return ref, err
	}
	r.info("", "the VM runs: exporting from the temporary snapshot %s", name)
	return ref, nil
}

// dropSnapshot removes the temporary snapshot that the ledger names, if any.
func (r *run) dropSnapshot(ctx context.Context) error {
	name := r.work.Owed().Snapshot
	if name == "" {
		return nil
	}
	ref, err := r.findSnapshot(ctx, name)
	if err != nil {
		return err
	}
	return r.removeSnapshot(ctx, ref)
}

// removeSnapshot removes ref, if it is one, and forgets the disks that came
// from it: they cannot be completed from another snapshot.
func (r *run) removeSnapshot(ctx context.Context, ref vsphere.SnapshotRef) error {
	if ref.Ref != "" {
		err := r.changeBack("remove the snapshot "+ref.Name, func() error { return r.client.RemoveSnapshot(ctx, ref) })
		if err != nil {
			return err
		}
	}
	return r.work.StrikeSnapshot()
}

// findSnapshot returns the VM's snapshot called name, the zero value when there
// is none.
func (r *run) findSnapshot(ctx context.Context, name string) (vsphere.SnapshotRef, error) {
	found, err := r.client.FindSnapshots(ctx, r.vm, name)
	if err != nil {
		return vsphere.SnapshotRef{}, err
	}
	for _, s := range found {
		if s.Name == name {
			return s, nil
		}
	}
	return vsphere.SnapshotRef{}, nil
}
