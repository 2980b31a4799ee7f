package migrate

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// Putting back what was changed at vSphere.
//
// There is one list of what is to be put back: the ledger. A run does it when
// it ends, the next run of the export when it begins, and [Migrator.CleanUp] and
// [Migrator.Clean] when they are asked to. Whatever cannot be put back in time
// stays in the ledger, and is an *[OwedError].

const (
	// undoTimeout bounds what is put back after a run that nobody waits to end.
	// Removing a snapshot that has grown is what takes long.
	undoTimeout = 5 * time.Minute
	// cancelTimeout is the same for a run that a person has cancelled, and
	// shutdownTimeout for one that a shutdown ends: the ledger remembers the rest.
	cancelTimeout   = 30 * time.Second
	shutdownTimeout = 8 * time.Second

	// lateEffect is how long a call that was not answered may still take effect.
	lateEffect = time.Minute
)

// undo puts back what this run has changed. After a success, drives that were
// taken out on request stay out, and a VM that was stopped stays off.
func (r *run) undo(ctx context.Context) error {
	if r.done {
		if err := r.work.StrikeDrives(); err != nil {
			return err
		}
	}
	if r.complete {
		if err := r.work.StrikePower(); err != nil {
			return err
		}
	}
	ctx, cancel := afterwards(ctx)
	defer cancel()
	patience := time.Duration(0) // what this run has asked for was waited for
	if r.done && !r.prepared {   // it found the export of a run that died, and what that one had asked for
		patience = undoTimeout
	}
	return r.putBack(ctx, patience)
}

// afterwards returns a context for undoing what a run under ctx has done. It outlives
// ctx for as long as whoever has ended that waits.
func afterwards(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := undoTimeout
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, job.ErrShutdown):
		limit = shutdownTimeout
	case cause != nil:
		limit = cancelTimeout
	}
	return context.WithTimeout(context.WithoutCancel(ctx), limit)
}

// errNoTime is why something was not put back after other things had taken all
// the time there was.
var errNoTime = errors.New("there was no time left for it")

// putBack puts back everything that the ledger says is owed. patience is how
// long a change that vSphere is still at is waited for.
func (r *run) putBack(ctx context.Context, patience time.Duration) error {
	err := r.endLease(ctx)
	why := map[workdir.DebtKind]error{workdir.DebtLease: err}
	if !errors.Is(err, vsphere.ErrUnreachable) {
		err = r.awaitPending(ctx, patience)
	}
	if err != nil { // before that is known, nothing can be put back for good
		why[workdir.DebtSnapshot], why[workdir.DebtDrives], why[workdir.DebtPower] = err, err, err
		return r.stillOwed(why)
	}
	steps := []struct {
		kind workdir.DebtKind
		do   func(context.Context) error
	}{{workdir.DebtSnapshot, r.dropSnapshot}, {workdir.DebtDrives, r.returnCDROM}, {workdir.DebtPower, r.returnPower}}
	for _, s := range steps {
		switch {
		case errors.Is(err, vsphere.ErrUnreachable), errors.Is(err, vsphere.ErrPending): // nor can this be done now
		case ctx.Err() != nil:
			err = errNoTime
		default:
			err = s.do(ctx)
		}
		if errors.Is(err, vsphere.ErrNotFound) {
			err = r.vmGone(ctx, err)
		}
		why[s.kind] = err
	}
	return r.stillOwed(why)
}

// vmGone strikes out all that is owed of a VM that is gone. It returns err when
// something else is, or when the VM is there under another id, as one has that was
// registered again: whoever looks next finds it so.
func (r *run) vmGone(ctx context.Context, err error) error {
	if _, gone := r.client.Refresh(ctx, r.vm); !errors.Is(gone, vsphere.ErrNotFound) {
		return err
	}
	if id := r.vm.InstanceUUID; id != "" {
		if _, gone := r.client.Find(ctx, id); !errors.Is(gone, vsphere.ErrNotFound) {
			return err
		}
	}
	r.info("", "%s is gone: nothing of it is to be put back", r.vm.Path)
	return r.work.StrikeAll()
}

// stillOwed is an *[OwedError] when something is owed, with the reasons why, and
// nil otherwise.
func (r *run) stillOwed(why map[workdir.DebtKind]error) error {
	debts := r.work.Debts()
	if r.staysOff {
		debts = slices.DeleteFunc(debts, func(d Debt) bool { return d.Kind == workdir.DebtPower })
	}
	if len(debts) == 0 {
		return nil
	}
	for i := range debts {
		d := &debts[i]
		if err := why[d.Kind]; err != nil && d.Why == "" {
			d.Why = err.Error()
		}
	}
	return &OwedError{VM: cmp.Or(r.vm.Path, r.work.Owed().VMPath, r.def.VMPath), Dir: r.work.Path(), Debts: debts}
}

// awaitPending waits until a change that vSphere was asked for by this run or an
// earlier one has ended, for as long as patience allows: before that, nobody
// knows what there is to be put back. After an error, whatever it is, that is
// still so.
func (r *run) awaitPending(ctx context.Context, patience time.Duration) error {
	o := r.work.Owed()
	if o.Pending == nil {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, max(patience, time.Second))
	defer cancel()
	if err := r.client.Settled(limited, r.vm, *o.Pending); err != nil {
		return err
	}
	if err := r.arrived(limited, o); err != nil {
		return err
	}
	return r.work.NoteAnswer(nil)
}

// arrivalWindow is how long a call that was not answered may still take effect.
func (r *run) arrivalWindow() time.Duration { return cmp.Or(r.m.Arrival, lateEffect) }

// arrived waits until a call that was not answered can no longer take effect.
// What only puts something back needs no such wait: it is asked for again as
// long as it is not done.
func (r *run) arrived(ctx context.Context, o workdir.Owed) error {
	if o.Pending.Ref != "" || o.Undoing {
		return nil
	}
	since, err := r.work.GiveUp()
	if err != nil {
		return err
	}
	left := time.Until(since.Add(r.arrivalWindow()))
	if left <= 0 {
		return nil
	}
	if o.PendingOf == workdir.DebtPower { // as is a VM that is off
		if off, err := r.isOff(ctx); err != nil || off {
			return err
		}
	}
	if o.PendingOf == workdir.DebtSnapshot { // once it is there, nothing is to come any more
		if found, err := r.client.SnapshotsNamed(ctx, r.vm, o.Snapshot); err != nil || len(found) > 0 {
			return err
		}
	}
	defer r.slow("", "vSphere has not answered when it was asked to %s: waiting whether it does", o.Pending.What).end()
	if err := sleep.For(ctx, left); err != nil {
		return &vsphere.PendingError{Wait: *o.Pending, Err: err}
	}
	return nil
}

// putBackEarlier puts back what an earlier run left, before anything else is
// done. What the disks that are kept depend on stays: the snapshot that they came
// from, and drives that are to be out.
func (r *run) putBackEarlier(ctx context.Context) error {
	if err := r.work.Unread(); err != nil {
		r.note("the ledger of an earlier run cannot be read (%v), so that nobody knows what that run left at vSphere: look for snapshots %s* and CD/DVD drives of the VM",
			err, vsphere.SnapshotPrefix)
	}
	if !r.work.Owes() {
		return nil
	}
	r.info("", "of an earlier run: %v", r.stillOwed(nil))
	if done, partial := r.work.Kept(); done+partial > 0 {
		why := map[workdir.DebtKind]error{workdir.DebtLease: r.endLease(ctx)}
		if err := r.awaitPending(ctx, workdir.StaleLease); err != nil {
			why[workdir.DebtSnapshot], why[workdir.DebtDrives], why[workdir.DebtPower] = err, err, err
			return r.stillOwed(why)
		}
		return nil
	}
	r.staysOff = r.def.Options.Stops() // it would be stopped again
	defer func() { r.staysOff = false }()
	var e *OwedError
	if err := r.putBack(ctx, workdir.StaleLease); !errors.As(err, &e) || !e.only(workdir.DebtLease) {
		return err
	}
	return nil // the lease is waited for when the next one is opened
}

// only reports whether all that is owed is of one kind.
func (e *OwedError) only(kind workdir.DebtKind) bool {
	for _, d := range e.Debts {
		if d.Kind != kind {
			return false
		}
	}
	return true
}

// undoChanges puts back what the run has changed at vSphere, or may have.
func (r *run) undoChanges(ctx context.Context) {
	if r.done || r.prepared || errors.As(context.Cause(ctx), new(job.Cancelled)) {
		r.undone = errors.Join(r.unsettled, r.undo(ctx))
	} else {
		r.undone = errors.Join(r.unsettled, r.stillOwed(nil))
	}
}

// leaveWork ends the work directory. What could not be put back goes into the
// result of an export that is done, and stays in r.undone otherwise.
func (r *run) leaveWork(ctx context.Context, result *job.Result) {
	if r.done {
		if err := errors.Join(r.undone, r.work.Retire()); err != nil {
			r.note("after the export: %v", err)
			result.Notes, result.Owed = r.notes, owedOf(err)
		}
		return
	}
	r.undone = errors.Join(r.undone, r.work.Close(keepParts(ctx)))
	if done, partial := r.work.Kept(); r.work.Here() && done+partial > 0 {
		r.info("", "kept for the next run: %d disk(s) complete, %d in part, in %s", done, partial, r.work.Path())
	}
}

// owedOf lists what is owed at vSphere, as far as err says so.
func owedOf(err error) []string {
	var e interface{ Owed() []string }
	if errors.As(err, &e) {
		return e.Owed()
	}
	return nil
}
