package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// Check finds the VM that def asks for and lists every obstacle to its export,
// without changing anything (F-INV-3). With an empty OutputPath the destination
// is not looked at.
func (m *Migrator) Check(ctx context.Context, def models.JobDefinition) (vm vsphere.VM, obstacles []vsphere.Obstacle, err error) {
	r := m.newRun(def, progress.New())
	if err := r.connect(ctx); err != nil {
		return vm, nil, err
	}
	defer func() { err = errors.Join(err, detached(ctx, r.client.Close)) }()
	r.work = planWorkdir(r.def.OutputPath, FileBase(r.vm.Name))
	_ = readJSON(r.work.path(ledgerName), &r.work.ledger) // what a run has made there is no stray
	obstacles, err = r.obstacles(ctx)
	return r.vm, obstacles, err
}

// check stops the run when there is an obstacle, and notes the warnings. What
// an earlier run that died has started at vSphere goes on there for a while and
// is waited for: its task would be an obstacle, and its snapshot be missed.
func (r *run) check(ctx context.Context) error {
	for deadline := time.Now().Add(staleLease); ; {
		obstacles, err := r.obstacles(ctx)
		if err != nil {
			return err
		}
		var fatal, warnings []vsphere.Obstacle
		passing := r.work.interrupted() && time.Now().Before(deadline)
		for _, o := range obstacles {
			if o.Severity != vsphere.SeverityError {
				warnings = append(warnings, o)
				continue
			}
			fatal = append(fatal, o)
			passing = passing && (o.Code == vsphere.CodeTask || o.Code == vsphere.CodeDisabled)
		}
		if len(fatal) > 0 && passing {
			r.info("", "%s, probably of an earlier run that died: waiting for its end", fatal[0].Text)
			if err := wait(ctx, maxStalePause); err != nil {
				return err
			}
			continue
		}
		for _, o := range warnings {
			if o.Code == vsphere.CodeHost {
				r.doubt = o // the lease may name another address: the transfer will tell
				continue
			}
			r.note("%s", o.Text)
		}
		if len(fatal) > 0 {
			return &PreflightError{VM: r.vm.Path, Obstacles: fatal}
		}
		return nil
	}
}

// obstacles lists every obstacle at once: those at vSphere, and those at the
// destination.
func (r *run) obstacles(ctx context.Context) ([]vsphere.Obstacle, error) {
	out, err := r.client.Preflight(ctx, r.vm, vsphere.PreflightOptions{
		Snapshot:    r.def.Options.Snapshot,
		RemoveCDROM: r.def.Options.RemoveCDROM,
		Known:       r.work.temporary(),
		Reach:       r.m.Reach,
	})
	out = append(out, r.datastoreObstacles()...)
	if err != nil || r.def.OutputPath == "" {
		return out, err
	}
	return append(out, r.destination()...), nil
}

// Codes of the obstacles that a [Migrator] adds to those of package vsphere.
const (
	CodeOutputDir    = "output-directory"
	CodeOutputExists = "output-exists"
	CodeSpace        = "free-space"
)

// destination lists what is in the way at the output directory.
func (r *run) destination() []vsphere.Obstacle {
	if err := CheckOutput(r.def.OutputPath); err != nil {
		return []vsphere.Obstacle{{Code: CodeOutputDir, Severity: vsphere.SeverityError, Text: err.Error(), Hint: Hint(err)}}
	}
	var out []vsphere.Obstacle
	if taken := r.taken(); taken != "" && !r.def.Options.Overwrite {
		out = append(out, vsphere.Obstacle{Code: CodeOutputExists, Severity: vsphere.SeverityError,
			Text: taken + " is there already",
			Hint: "choose another output directory, or ask to overwrite"})
	}
	if o, fit := r.spaceObstacle(); fit != Fits {
		out = append(out, o)
	}
	return out
}

// prepare readies the VM for a lease and returns what puts it back as it was.
// undo is never nil; its argument says whether the export succeeded: drives
// that were taken out on request stay out then.
func (r *run) prepare(ctx context.Context) (undo func(context.Context, bool) error, err error) {
	r.t.SetPhase(progress.Preparing)
	var steps []func(context.Context, bool) error
	undo = func(ctx context.Context, success bool) error {
		var errs []error
		for i := len(steps) - 1; i >= 0; i-- {
			errs = append(errs, steps[i](ctx, success))
		}
		return errors.Join(errs...)
	}
	// As it is now: whoever was waited for may have changed it.
	if r.vm, err = r.client.Refresh(ctx, r.vm); err != nil {
		return undo, err
	}
	snapshot, resumed, err := r.beginLedger(ctx)
	if err != nil {
		return undo, err
	}
	drives, err := r.removeCDROM(ctx)
	if drives != nil {
		steps = append(steps, func(ctx context.Context, success bool) error {
			if success {
				return nil
			}
			return r.restoreCDROM(ctx, drives)
		})
	}
	if err != nil {
		return undo, err
	}
	r.target = vsphere.Target{VM: r.vm}
	if r.wantsSnapshot() {
		if snapshot.Ref == "" {
			snapshot, err = r.snapshot(ctx)
		}
		steps = append(steps, func(ctx context.Context, _ bool) error {
			if snapshot.Ref == "" { // it may be there all the same
				return r.dropSnapshot(ctx)
			}
			return r.removeSnapshot(ctx, snapshot)
		})
		if err != nil {
			return undo, err
		}
		r.target.Snapshot = snapshot
	}
	if len(steps) > 0 {
		if err := r.rebase(ctx); err != nil {
			return undo, err
		}
	}
	r.planDisks()
	if done, partial := r.work.kept(); resumed && done+partial > 0 {
		r.info("", "going on from an earlier run: %d disk(s) are complete, %d in part", done, partial)
	}
	return undo, nil
}

// removeCDROM takes the CD/DVD drives out, if that was asked for. What it is
// about to do is written down first, so that a run after a crash puts them back
// or, when they are to be out, knows what they were. The change is not nil when
// there is something to put back.
func (r *run) removeCDROM(ctx context.Context) (change *vsphere.CDROMChange, err error) {
	if !r.def.Options.RemoveCDROM {
		return nil, r.returnCDROM(ctx)
	}
	if change, err = r.takenOut(); err != nil {
		return nil, err
	}
	planned, err := r.client.PlanCDROM(ctx, r.vm, change)
	if err != nil || len(planned.Drives) == 0 {
		return change, err
	}
	record, err := json.Marshal(planned)
	if err == nil {
		err = r.work.update(func(l *ledger) { l.CDROM = record })
	}
	if err != nil {
		return change, err
	}
	return planned, planned.Apply(ctx)
}

// takenOut is the change of drives that an earlier run wrote down and died
// before it undid it, or nil.
func (r *run) takenOut() (*vsphere.CDROMChange, error) {
	if r.work.ledger.CDROM == nil {
		return nil, nil
	}
	change, err := r.client.LoadCDROM(r.vm, r.work.ledger.CDROM)
	if err != nil {
		return nil, permanent{err}
	}
	return change, nil
}

// returnCDROM puts back what an earlier run that died has taken out, if any.
func (r *run) returnCDROM(ctx context.Context) error {
	change, err := r.takenOut()
	if change == nil {
		return err
	}
	return r.restoreCDROM(ctx, change)
}

// restoreCDROM puts the drives back. When somebody else has changed the VM
// meanwhile, the ledger goes on speaking of the VM as it was: the next run then
// begins again.
func (r *run) restoreCDROM(ctx context.Context, change *vsphere.CDROMChange) error {
	before, unknown := r.client.Refresh(ctx, r.vm)
	if err := change.Restore(ctx); err != nil {
		return err
	}
	if exists(r.work.dir) {
		if err := r.work.update(func(l *ledger) { l.CDROM = nil }); err != nil {
			return err
		}
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
	if name := r.work.ledger.Snapshot; name != "" {
		if left, err = r.findSnapshot(ctx, name); err != nil {
			return left, false, err
		}
		known := r.work.ledger.VM
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
	resumed, err = r.work.begin(id, r.def.ID)
	return left, resumed, err
}

func (r *run) wantsSnapshot() bool {
	return r.def.Options.Snapshot && r.vm.Power != vsphere.PoweredOff
}

func (r *run) identity() identity {
	return identity{
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
	if !exists(r.work.dir) {
		return nil
	}
	return r.work.update(func(l *ledger) { l.VM = r.identity() })
}

// snapshot makes the temporary snapshot that a running VM is exported from
// (F-NFC-3). Its name is written down first, so that a run after a crash finds
// it.
func (r *run) snapshot(ctx context.Context) (vsphere.SnapshotRef, error) {
	name := vsphere.SnapshotPrefix + uuid.NewString()
	if err := r.work.update(func(l *ledger) { l.Snapshot = name }); err != nil {
		return vsphere.SnapshotRef{}, err
	}
	ref, err := r.client.CreateSnapshot(ctx, r.vm, name)
	if err != nil {
		return ref, err
	}
	r.info("", "the VM runs: exporting from the temporary snapshot %s", name)
	return ref, nil
}

// removeSnapshot removes ref, if it is one, and forgets the disks that came
// from it: they cannot be completed from another snapshot.
func (r *run) removeSnapshot(ctx context.Context, ref vsphere.SnapshotRef) error {
	if ref.Ref != "" {
		if err := r.client.RemoveSnapshot(ctx, ref); err != nil {
			return withHint(fmt.Errorf("remove the temporary snapshot %s: %w", ref.Name, err),
				"remove the snapshot "+ref.Name+" of "+r.vm.Path+" by hand")
		}
	}
	if !exists(r.work.dir) {
		return nil
	}
	return r.work.update(func(l *ledger) {
		l.Snapshot = ""
		l.Disks = map[string]*diskEntry{}
	})
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
