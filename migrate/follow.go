package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/panics"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
)

// Following: the steps after an export, one after the other. What fails in them is
// the error of the run; the export stays finished, and the next run begins with the
// step that failed.

// followEarlier is follow for an export that an earlier run has finished: what is in
// the way of its steps was not looked for yet.
func (r *run) followEarlier(ctx context.Context, receipt workdir.Receipt) (job.Result, error) {
	if err := r.unobstructed(ctx, r.vm.Path, r.missing(receipt)...); err != nil {
		return job.Result{}, err
	}
	return r.follow(ctx, receipt)
}

// follow does the steps that the export has not had, and returns its result.
func (r *run) follow(ctx context.Context, receipt workdir.Receipt) (job.Result, error) {
	steps := r.missing(receipt)
	if len(steps) == 0 {
		r.complete = true
		return receipt.Result, nil
	}
	// Steps may take hours, and change the files: nothing at vSphere is kept waiting
	// for them, and the ledger does not vouch for the files any more.
	r.staysOff = true
	r.undoChanges(ctx) // what cannot be put back is tried again at the end, and told then
	r.staysOff = false
	if err := errors.Join(r.work.Installed(), r.work.NoteExported()); err != nil {
		return job.Result{}, err
	}
	for _, s := range steps {
		if err := r.take(ctx, s, &receipt); err != nil {
			return job.Result{}, fault.WithHint(fmt.Errorf("%s: %w", s.phase(), err), r.hintAfterExport(err))
		}
	}
	r.complete = true
	receipt.Result.Duration = time.Since(r.started)
	return receipt.Result, nil
}

// hintAfterExport is the advice of err, and whether the export need be done again.
func (r *run) hintAfterExport(err error) string {
	kept := "the export in " + r.def.OutputPath + " is finished: the same run again goes on from there"
	if r.work.Owed().Power != nil && !r.landed() {
		kept = "the VM, which was stopped for the export, is powered on again: its disks in " + r.def.OutputPath + " get old, so export it again (" + workdir.Overwriting + ")"
	}
	if hint := Hint(err); hint != "" {
		return hint + "; " + kept
	}
	return kept
}

// take does one step, and makes an end of it when it fails.
func (r *run) take(ctx context.Context, s step, receipt *workdir.Receipt) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.t.SetPhase(s.phase())
	f := &finished{Receipt: receipt, work: r.work, step: workdir.Step{Name: string(s.phase()), Asked: s.asked()}}
	err := panics.Catch(func() error { return s.do(ctx, f) })
	panics.Log(r.log, err)
	switch {
	case err == nil:
		return r.stepDone(f.step, receipt)
	case lost(ctx):
		return err // another daemon has the job by now, and settles it
	}
	after, cancel := afterwards(ctx)
	defer cancel()
	r.unsettled = r.settleStep(after)
	return err
}

// stepDone enters a step into the receipt, which says so from then on, and strikes
// it from the ledger.
func (r *run) stepDone(done workdir.Step, receipt *workdir.Receipt) error {
	order := r.allSteps()
	at := func(name string) int {
		return slices.IndexFunc(order, func(s step) bool { return string(s.phase()) == name })
	}
	// What came after it was done with what it has changed now.
	receipt.Steps = slices.DeleteFunc(receipt.Steps, func(s workdir.StepDone) bool { return at(s.Name) >= at(done.Name) })
	receipt.Steps = append(receipt.Steps, workdir.StepDone{Name: done.Name, Asked: done.Asked})
	receipt.Result.Notes = slices.Clone(r.notes)
	if err := r.work.WriteReceipt(receipt); err != nil {
		return fmt.Errorf("%s is done, and the receipt cannot say so: %w", done.Name, err)
	}
	return r.work.StrikeStep()
}

// settleStep makes an end of the step that the ledger says has none, if there is one.
func (r *run) settleStep(ctx context.Context) error {
	begun, ok := r.work.Step()
	if !ok {
		return nil
	}
	steps := r.allSteps()
	at := slices.IndexFunc(steps, func(s step) bool { return string(s.phase()) == begun.Name })
	if at < 0 {
		return fault.Permanent(fmt.Errorf("%s speaks of the step %q, which this version does not know", r.work.Path(), begun.Name))
	}
	receipt, unread := r.work.ReadReceipt()
	var done bool
	err := panics.Catch(func() (err error) {
		done, err = steps[at].settle(ctx, begun.Notes, &receipt.Result)
		return err
	})
	if err == nil && done && unread == nil {
		r.notes = append(slices.Clone(receipt.Result.Notes), r.notes...)
		err = r.stepDone(begun, &receipt)
	} else if err == nil {
		err = r.work.StrikeStep()
	}
	if err == nil {
		return nil
	}
	return fault.WithHint(fmt.Errorf("not everything of the step %s could be undone: %w", begun.Name, err),
		"it is written down in "+r.work.Path()+"; the next run of this export settles it, and so does hyper2kvm clean -output '"+r.def.OutputPath+"'")
}
