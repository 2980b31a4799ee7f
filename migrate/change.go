package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
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
	if err := r.noteNetwork(); err != nil {
		return err
	}
	r.prepared = true
	stopped, err := r.stop(ctx)
	if err != nil {
		return err
	}
	changed, err := r.removeCDROM(ctx)
	if err != nil {
		return err
	}
	changed = changed || stopped
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

// asks is how often vSphere is asked for a change in one run when its answers are
// lost.
const asks = 3

// insist is change for what the run goes on with when vSphere's answer is lost: it
// looks whether the change is made for as long as the call may take effect, and
// then asks again.
func (r *run) insist(ctx context.Context, what string, note func(vsphere.Wait) error, ask func() error, made func() (bool, error)) error {
	for n := 1; ; n++ {
		err := r.change(what, note, ask)
		var lost *vsphere.PendingError
		if n == asks || ctx.Err() != nil || !errors.As(err, &lost) || lost.Ref != "" {
			return err
		}
		r.info("", "vSphere's answer was lost when it was asked to %s (%v): looking whether it does", what, err)
		switch done, uerr := r.comesToBe(ctx, made); {
		case uerr != nil:
			return errors.Join(err, uerr)
		case done:
			return r.work.NoteAnswer(nil)
		}
		r.info("", "vSphere was asked to %s, and has not done it: asking again", what)
	}
}

// comesToBe looks whether a change whose answer was lost is made, until it cannot
// be made any more.
func (r *run) comesToBe(ctx context.Context, made func() (bool, error)) (bool, error) {
	since, err := r.work.GiveUp()
	if err != nil {
		return false, err
	}
	end := since.Add(r.arrivalWindow())
	for {
		last := !time.Now().Before(end)
		if done, err := made(); done || err != nil || last {
			return done, err
		}
		if err := sleep.For(ctx, min(time.Second, time.Until(end))); err != nil {
			return false, err
		}
	}
}

// changeBack has vSphere undo a change of that kind. A ledger that cannot be
// written is no reason not to: it says that the change is there.
func (r *run) changeBack(kind workdir.DebtKind, what string, ask func() error) error {
	if err := r.work.NoteUndoing(kind, r.waitFor(what)); err != nil {
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
	return true, r.insist(ctx, "take the CD/DVD drives out",
		func(w vsphere.Wait) error { return r.work.NoteDrives(record, w) },
		func() error { return planned.Apply(ctx) },
		func() (bool, error) { return planned.Made(ctx) })
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
	if err := r.changeBack(workdir.DebtDrives, "put the CD/DVD drives back", func() error { return change.Restore(ctx) }); err != nil {
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
		found, err := r.client.SnapshotsNamed(ctx, r.vm, name)
		if err != nil {
			return left, false, err
		}
		known := r.work.VM()
		id.ChangeVersion = known.ChangeVersion
		if len(found) == 1 && id == known && r.wantsSnapshot() {
			left = found[0]
		} else {
			if err := r.dropSnapshot(ctx); err != nil {
				return left, false, err
			}
			id = r.identity()
		}
	}
	if resumed, err = r.work.Begin(id, r.def.ID); err != nil {
		return left, resumed, err
	}
	return left, resumed, r.work.NoteVM(r.vm.Ref, r.vm.Path, r.def.VMPath)
}

func (r *run) wantsSnapshot() bool {
	return r.def.Options.Snapshot && r.vm.Power != vsphere.PoweredOff && !r.willStop()
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
