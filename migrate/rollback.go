package migrate

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/landing"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// ErrNoExport: there is no finished export to go back from.
var ErrNoExport = errors.New("no finished export is there")

// Exported is a finished export, for whoever wants to go back to its source.
type Exported struct {
	VM     string      // inventory path when it was exported
	Base   string      // how its files begin
	WasOn  bool        // the source ran before it was stopped for the export
	Landed *job.Landed // what was made of it at libvirt; nil when nothing was
}

// Guest reports whether a guest was made of the export, so that it is known what to stop.
func (e Exported) Guest() bool { return e.Landed != nil && e.Landed.UUID != "" }

// Exports lists the finished exports in an output directory that are of the VM, which
// may be named by its path, name or UUID; "" is every VM.
func (m *Migrator) Exports(output, vm string) ([]Exported, error) {
	r := m.newRun(job.Definition{OutputPath: output}, progress.New())
	if err := r.absolute(); err != nil {
		return nil, err
	}
	return r.exports(vm)
}

func (r *run) exports(vm string) ([]Exported, error) {
	bases, err := workdir.Receipts(r.m.Outputs, r.def.OutputPath)
	if err != nil {
		return nil, err
	}
	var out []Exported
	for _, base := range bases {
		w, _ := workdir.Peek(r.m.Outputs, r.def.OutputPath, base)
		receipt, err := w.ReadReceipt()
		w.Release()
		if err != nil {
			return nil, fmt.Errorf("the receipt of %s: %w", base, err)
		}
		if vm == "" || vm == receipt.VMPath || vm == path.Base(receipt.VMPath) || vm == receipt.InstanceUUID || vm == base {
			out = append(out, exported(base, receipt))
		}
	}
	return out, nil
}

func exported(base string, receipt workdir.Receipt) Exported {
	return Exported{VM: receipt.VMPath, Base: base, WasOn: receipt.WasOn, Landed: receipt.Result.Landed}
}

// Rollback makes the source of a finished export what it was. In this order: the source
// is looked for, the guest that was landed is stopped, the marks of the source are
// undone, and it is powered on if it ran. The exported files stay, and so do
// the guest's definition and volumes; the receipt says that they are older than the VM
// when that runs. def says how, in its [job.Rollback]; t tells what was done.
//
// left names what somebody else has changed at the source since, and what is left
// as it is for that. It may be called again, also after an error: what is done is seen to
// be done.
func (m *Migrator) Rollback(ctx context.Context, def job.Definition, e Exported, t *progress.Tracker) (left []string, err error) {
	r := m.newRun(def, t)
	if err := r.absolute(); err != nil {
		return nil, err
	}
	return r.rollBack(ctx, e)
}

// runRollback is a run whose job is a way back.
func (r *run) runRollback(ctx context.Context) (result job.Result, err error) {
	if err := r.m.Outputs.Check(r.def.OutputPath); err != nil {
		return result, err
	}
	if err := r.absolute(); err != nil {
		return result, err
	}
	found, err := r.exports(r.def.VMPath)
	switch {
	case err != nil:
		return result, err
	case len(found) != 1:
		return result, fault.Permanent(fault.WithHint(fmt.Errorf("%w of %s in %s (%d are)", ErrNoExport, r.def.VMPath, r.def.OutputPath, len(found)),
			"the way back begins where the files of the export are: see its receipt, NAME.export.json"))
	}
	left, err := r.rollBack(ctx, found[0])
	for _, l := range left {
		r.note("%s: %s; that stays", found[0].VM, l)
	}
	if err != nil {
		return result, err
	}
	return job.Result{
		VMName: path.Base(found[0].VM), OutputDir: r.def.OutputPath, Files: []string{}, Success: true, Notes: r.notes, Duration: time.Since(r.started),
	}, nil
}

func (r *run) rollBack(ctx context.Context, e Exported) (left []string, err error) {
	if r.work, err = workdir.Open(r.m.Outputs, r.def.OutputPath, e.Base); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.work.Close(true)) }()
	known := r.def.Options.TargetIsStopped
	if err := r.settleStep(ctx); err != nil && !(known && errors.Is(err, landing.ErrAway)) {
		return nil, err
	}
	receipt, err := r.work.ReadReceipt()
	if err != nil {
		return nil, err
	}
	e = exported(e.Base, receipt)
	err = r.connect(ctx, func(ctx context.Context) (err error) {
		r.vm, err = r.client.Find(ctx, receipt.InstanceUUID)
		if errors.Is(err, vsphere.ErrNotFound) {
			err = fault.Permanent(fmt.Errorf("the source %s is gone, so that there is nothing to go back to: %w", receipt.VMPath, err))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	defer r.hangUp(ctx)
	r.t.SetPhase(progress.RollingBack)
	if err := r.stopTarget(ctx, e); err != nil {
		return nil, err
	}
	if left, err = r.unmark(ctx, &receipt); err != nil {
		return left, err
	}
	stays, err := r.startAgain(ctx, e, &receipt)
	return append(left, stays...), err
}

// stopTarget sees to it that what was made of the export does not run.
func (r *run) stopTarget(ctx context.Context, e Exported) error {
	const danger = "if it runs beside its source, both have the same addresses and names"
	o := r.def.Options
	switch {
	case o.TargetIsStopped:
		r.note("it is taken as given that what was made of %s is stopped: %s", e.VM, danger)
		return nil
	case !e.Guest() && !e.WasOn:
		return nil // the source is not powered on
	case !e.Guest():
		return fault.Permanent(fault.WithHint(
			fmt.Errorf("%w: no guest is known that was made of the export in %s, so that nobody can see whether one runs", landing.ErrRuns, r.def.OutputPath),
			"stop it, and then say so: -target-is-stopped, in a job options.target_is_stopped; "+danger))
	case r.def.ID != "" && o.Libvirt != e.Landed.URI: // what a receipt says is no reason for a daemon to speak to it
		return fault.Permanent(fault.WithHint(
			fmt.Errorf("the export in %s was landed at %s, which the job does not name", r.def.OutputPath, e.Landed.URI),
			"name it (options.libvirt), or go back with hyper2kvm rollback where the files are"))
	}
	err := landing.Stop(ctx, *e.Landed, o.StopWait(), landing.StopTeller{
		Info: func(text string) { r.info("", "%s", text) },
		Wait: func(text string) func() { return r.slow("", "%s", text).end },
	})
	return r.targetRuns(err)
}

// targetRuns adds to the error of a guest that is not known to be off what became of the
// source, and what can be done.
func (r *run) targetRuns(err error) error {
	if err == nil || !errors.Is(err, landing.ErrAway) && !errors.Is(err, landing.ErrRuns) {
		return err
	}
	hint := "then run this again"
	if h := Hint(err); h != "" {
		hint = h + "; " + hint
	}
	return fault.WithHint(fmt.Errorf("the source %s is left as it is: %w", r.vm.Path, err),
		hint+"; or, if you know that the guest is off: -target-is-stopped, in a job options.target_is_stopped. If it runs all the same, two machines have the same addresses and names")
}

// unmark undoes the marks of the source.
func (r *run) unmark(ctx context.Context, receipt *workdir.Receipt) (left []string, err error) {
	if receipt.Mark == nil {
		r.info("", "%s: not marked", r.vm.Path)
		return nil, nil
	}
	if left, err = r.client.Undo(ctx, r.vm, *receipt.Mark); err != nil {
		return left, err
	}
	r.info("", "%s: its marks are undone", r.vm.Path)
	receipt.Mark = nil
	receipt.Steps = without(receipt.Steps, progress.Finishing)
	return left, r.work.WriteReceipt(receipt)
}

func without(steps []workdir.StepDone, phase progress.Phase) []workdir.StepDone {
	var out []workdir.StepDone
	for _, s := range steps {
		if s.Name != string(phase) {
			out = append(out, s)
		}
	}
	return out
}

// startAgain powers the source on if it ran.
func (r *run) startAgain(ctx context.Context, e Exported, receipt *workdir.Receipt) (left []string, err error) {
	if !receipt.WasOn {
		r.info("", "%s: its power state is left alone, for the export did not stop it", r.vm.Path)
		return nil, nil
	}
	power, err := r.client.Power(ctx, r.vm)
	if err != nil {
		return nil, err
	}
	if power == vsphere.PoweredOff && e.Guest() && !r.def.Options.TargetIsStopped {
		if err := landing.Off(ctx, *e.Landed); err != nil { // it was stopped; somebody may have started it since
			return nil, r.targetRuns(err)
		}
	}
	if receipt.Restarted.IsZero() { // before it is so: the disks are old from then on
		receipt.Restarted = time.Now().UTC().Truncate(time.Second)
		if err := r.work.WriteReceipt(receipt); err != nil {
			return nil, err
		}
	}
	switch power {
	case vsphere.PoweredOn:
		r.info("", "%s: runs already", r.vm.Path)
		return nil, nil
	case vsphere.PoweredOff:
		return nil, r.powerOn(ctx, false)
	}
	return []string{"the VM is " + power + " now"}, nil
}
