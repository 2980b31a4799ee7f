package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate/outdir"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// CleanUp removes what an earlier run of def left: its lease, its temporary
// snapshot and, unless keepParts, its part files; and it puts CD/DVD drives
// back. vSphere is asked only when something there is owed. The result says
// Success when all files of the VM had been verified by then: they get their
// final names, and the job is completed instead. The error says what could not be
// put back, and is an *[OwedError].
func (m *Migrator) CleanUp(ctx context.Context, def job.Definition, keepParts bool, t *progress.Tracker) (job.Result, error) {
	if def.Options.Back { // what it does is only ever gone on with
		return job.Result{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, undoTimeout)
	defer cancel()
	r := m.newRun(def, t)
	if err := r.absolute(); err != nil {
		return job.Result{}, err
	}
	base, unnamed, err := r.findWork()
	switch {
	case err != nil:
		return job.Result{}, err
	case base != "":
		return r.cleanNamed(ctx, base, keepParts)
	case unnamed:
		return r.cleanUnnamed(ctx, keepParts)
	}
	return job.Result{}, nil
}

// Settle puts back what an earlier run of def has left at vSphere, and leaves its
// part files as they are. Nothing is asked of vSphere when nothing is owed. The
// error says what is still owed, and is an *[OwedError].
func (m *Migrator) Settle(ctx context.Context, def job.Definition, t *progress.Tracker) error {
	if def.Options.Back {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, undoTimeout)
	defer cancel()
	r := m.newRun(def, t)
	if err := r.absolute(); err != nil {
		return err
	}
	base, _, err := r.findWork()
	if base == "" || err != nil {
		return err
	}
	if r.work, err = workdir.Open(r.m.Outputs, r.def.OutputPath, base); err != nil {
		return err
	}
	if err := r.settleStep(ctx); err != nil {
		return errors.Join(err, r.stillOwed(nil), r.work.Unlock())
	}
	if _, installing := r.work.Installing(); installing || !r.work.Owes() {
		return r.work.Unlock()
	}
	if err := r.connect(ctx, r.findOwed); err != nil {
		return errors.Join(err, r.stillOwed(nil), r.work.Unlock())
	}
	defer r.hangUp(ctx)
	owed := r.putBack(ctx, cancelTimeout)
	r.info("", "put back what an earlier run of the job had left at vSphere: %t", owed == nil)
	return errors.Join(owed, r.work.Close(true))
}

// Owes reports whether an earlier run of def has left something at vSphere that is
// to be put back, files without their final names, or a step without an end. vSphere is not asked. An error
// says that it cannot be told.
func (m *Migrator) Owes(def job.Definition) (bool, error) {
	if def.Options.Back {
		return false, nil
	}
	r, base, err := m.left(def)
	if err != nil || base == "" {
		return false, err
	}
	w, err := workdir.Peek(r.m.Outputs, r.def.OutputPath, base)
	if err != nil {
		return false, err
	}
	defer w.Release()
	_, installing := w.Installing()
	_, begun := w.Step()
	return installing || begun || w.Owes(), nil
}

// Resumes reports whether an earlier run of def, at this daemon or another one, has left
// here what a run goes on from: its work directory, or the finished export. vSphere is not
// asked. An error says that it cannot be told.
func (m *Migrator) Resumes(def job.Definition) (bool, error) {
	r, base, err := m.left(def)
	if err != nil || base != "" {
		return base != "", err
	}
	bases, err := workdir.Receipts(r.m.Outputs, r.def.OutputPath)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, outdir.ErrOccupied) {
		return false, nil
	}
	for _, base := range bases {
		w, _ := workdir.Peek(r.m.Outputs, r.def.OutputPath, base)
		receipt, err := w.ReadReceipt()
		w.Release()
		if err == nil && r.sameJob(receipt) {
			return true, nil
		}
	}
	return false, err
}

// left returns a run of def that has not begun, and the rest of the name of the work
// directory that an earlier one has left, or "".
func (m *Migrator) left(def job.Definition) (r *run, base string, err error) {
	r = m.newRun(def, progress.New())
	if err := r.absolute(); err != nil {
		return nil, "", err
	}
	base, unnamed, err := r.findWork()
	if unnamed {
		err = fmt.Errorf("%s has a work directory whose ledger does not say whose it is", r.def.OutputPath)
	}
	return r, base, err
}

// findWork looks for the work directory of the job. base is the rest of its name;
// unnamed says that there are some whose ledgers do not tell whose they are.
func (r *run) findWork() (base string, unnamed bool, err error) {
	bases, err := workdir.List(r.m.Outputs, r.def.OutputPath)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, outdir.ErrOccupied) { // no run has ever begun there
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	for _, base := range bases {
		w, _ := workdir.Peek(r.m.Outputs, r.def.OutputPath, base)
		jobID, jobVM := w.JobID(), w.Owed().JobVM
		w.Release()
		switch {
		case r.def.ID != "" && jobID == r.def.ID, r.def.ID == "" && jobID == "" && jobVM == r.def.VMPath:
			return base, false, nil
		case jobID == "" && jobVM == "":
			unnamed = true
		}
	}
	return "", unnamed, nil
}

// cleanNamed cleans up a work directory that is known to be the job's.
func (r *run) cleanNamed(ctx context.Context, base string, keep bool) (result job.Result, err error) {
	if r.work, err = workdir.Open(r.m.Outputs, r.def.OutputPath, base); err != nil {
		return result, err
	}
	if err := r.settleStep(ctx); err != nil {
		return result, errors.Join(err, r.stillOwed(nil), r.work.Close(keep))
	}
	if _, installing := r.work.Installing(); !installing && !r.work.Owes() {
		return result, r.work.Close(keep)
	}
	if err := r.connect(ctx, r.findOwed); err != nil {
		return result, errors.Join(err, r.stillOwed(nil), r.work.Close(keep))
	}
	defer r.hangUp(ctx)
	return r.cleanWork(ctx, keep)
}

// cleanUnnamed cleans up the work directory that bears the VM's name.
func (r *run) cleanUnnamed(ctx context.Context, keep bool) (result job.Result, err error) {
	if err := r.connect(ctx, r.findAsked); err != nil {
		return result, err
	}
	defer r.hangUp(ctx)
	w, _ := workdir.Peek(r.m.Outputs, r.def.OutputPath, job.FileBase(r.vm.Name))
	here := w.Here()
	w.Release()
	if !here {
		return result, nil
	}
	if err := r.openWork(); err != nil {
		return result, err
	}
	return r.cleanWork(ctx, keep)
}

// findOwed finds the VM that the ledger speaks of, also when it was renamed or
// moved since. One that is gone is found to be so when something of it is to be put
// back.
func (r *run) findOwed(ctx context.Context) error {
	known := r.work.VM()
	o := r.work.Owed()
	ref := cmp.Or(known.InstanceUUID, o.VMRef, r.def.VMPath)
	vm, err := r.client.Find(ctx, ref)
	if errors.Is(err, vsphere.ErrNotFound) && o.VMRef != "" && known.VCenter == r.client.About().Host {
		vm, err = vsphere.VM{Ref: o.VMRef, Path: o.VMPath, InstanceUUID: known.InstanceUUID}, nil
	}
	r.vm = vm
	return err
}

// cleanWork cleans up an open work directory. Files that have begun to get their
// final names get them all: the result is that run's then.
func (r *run) cleanWork(ctx context.Context, keep bool) (result job.Result, err error) {
	if in, installing := r.work.Installing(); installing {
		if !r.answers(in) {
			return result, r.work.Unlock() // another job's, which will finish it
		}
		receipt, done, err := r.nameEarlier(in)
		if done {
			result = receipt.Result
			r.done, r.complete = true, true
			r.undoChanges(ctx)
			r.leaveWork(ctx, &result)
			return result, nil
		}
		if err != nil && (keep || !errors.Is(err, ErrExists)) {
			return result, errors.Join(err, r.stillOwed(nil), r.work.Close(true))
		}
		if err != nil { // the names are taken, and the files not wanted any more
			if err := r.work.DropInstall(); err != nil {
				return result, errors.Join(err, r.work.Close(true))
			}
		}
	}
	if id := r.work.JobID(); id != "" && id != r.def.ID {
		keep = true // they are another job's
	}
	owed := r.putBack(ctx, cancelTimeout)
	return result, errors.Join(owed, r.work.Close(keep))
}
