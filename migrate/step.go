package migrate

import (
	"context"
	"encoding/json"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// step is something that is done with an export once its files have their names:
// here it is only said when, and what becomes of a failure. The doing is another
// package's.
//
// The receipt says which steps an export has had. A run that finds its export
// finished goes on with those that are missing, and a step that is done again has
// those after it done again, too, because they work on what it leaves.
type step interface {
	// phase is the phase of the run, and the step's name in ledger and receipt.
	phase() progress.Phase
	// asked is what the job asks of the step, in a form that can be compared; "" when
	// the job does not ask for it.
	asked() string
	// obstacles lists what is in its way, without changing anything. It is asked
	// before a byte of the export moves.
	obstacles(ctx context.Context) []vsphere.Obstacle
	// do does it, in bounded time, and returns soon after ctx ends. What it changes
	// it notes before it changes it.
	do(ctx context.Context, f *finished) error
	// settle makes an end of what was begun and failed, or was left by a process that
	// died: the notes are what do noted last. Either it is done, or everything is as
	// it was before. It may be asked again. Of the job nothing is known but the notes,
	// and the result of its export.
	settle(ctx context.Context, notes json.RawMessage, result *job.Result) (done bool, err error)
}

// finished is an export whose files have their final names, on its way through a step.
type finished struct {
	*workdir.Receipt
	work *workdir.Dir
	step workdir.Step
}

// note writes down what the step has changed, or is about to, for settle. It is on
// stable storage when note returns, and the step is not to go on when it fails.
func (f *finished) note(v any) (err error) {
	if f.step.Notes, err = json.Marshal(v); err != nil {
		return err
	}
	return f.work.NoteStep(f.step)
}

// allSteps are the steps there are, in their order.
func (r *run) allSteps() []step {
	if r.m.steps != nil {
		return r.m.steps(r)
	}
	return []step{&insideStep{r}, &landingStep{run: r}, &finishStep{r}} // the source is marked last
}

// steps are those that the job asks for.
func (r *run) steps() []step {
	var asked []step
	for _, s := range r.allSteps() {
		if s.asked() != "" {
			asked = append(asked, s)
		}
	}
	return asked
}

// missing are the steps that the export is still to have.
func (r *run) missing(receipt workdir.Receipt) []step {
	steps := r.steps()
	for i, s := range steps {
		if !receipt.Did(string(s.phase()), s.asked()) {
			return steps[i:]
		}
	}
	return nil
}

// stepObstacles lists what is in the way of steps.
func (r *run) stepObstacles(ctx context.Context, steps []step) []vsphere.Obstacle {
	var out []vsphere.Obstacle
	for _, s := range steps {
		out = append(out, s.obstacles(ctx)...)
	}
	return out
}
