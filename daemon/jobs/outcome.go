package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// maxExcused is how many runs of a job in a row may fail at a vCenter that
// answers again without counting as attempts.
const maxExcused = 2

// outcome decides what becomes of the job.
func (e *execution) outcome(ctx context.Context, end ending) Outcome {
	e.sample(false)
	events, _ := e.news(e.tracker.Phase())
	o := Outcome{Progress: &e.progress, Events: events}
	cause := context.Cause(ctx)
	var cancelled job.Cancelled
	away := unavailable(end.err)
	switch {
	case e.run.cleanup && cause != nil:
		o.Status = models.StatusPending // to be claimed and cleaned up again
	case e.run.cleanup && !end.result.Success:
		o.Status, o.Error = models.StatusCancelled, e.leftBehind(end.err)
	case end.err == nil:
		o.Status = models.StatusCompleted
		o.Result = &end.result
		e.progress.Phase = string(progress.Done)
		e.progress.PercentComplete = 100
		e.progress.EstimatedRemaining = ""
	case errors.As(cause, &cancelled):
		o.Status = models.StatusCancelled
		if !errors.Is(end.err, context.Canceled) && !errors.As(end.err, &cancelled) {
			o.Error = end.err.Error() // what could not be cleaned up
		}
	case away == nil && fault.IsPermanent(end.err):
		o.Status, o.Failed, o.Error = models.StatusFailed, true, end.err.Error()
	case cause != nil:
		o.Status = models.StatusPending
		o.Untouched = e.untouched()
	case away != nil && e.excuse(away, &o):
	default:
		e.failed(end.err, &o)
	}
	if away == nil || o.Status.Final() {
		e.m.forgetExcuses(e.claimed.Claim.JobID)
	}
	o.Error = safetext.Lines(o.Error, maxError)
	return o
}

// maxError bounds the error that is kept with a job, in bytes: a vCenter, or a
// proxy before it, chooses some of its words.
const maxError = 16 << 10

// failed makes o that of a failed attempt.
func (e *execution) failed(err error, o *Outcome) {
	failures := e.claimed.Failures + 1
	o.Status, o.Failed, o.Error = models.StatusFailed, true, err.Error()
	if failures <= e.claimed.Job.Definition.Options.Retries {
		o.Status = models.StatusPending
		o.Delay = e.m.o.retryDelay(failures)
	}
}

// excuse makes o that of a run that does not count, because its vCenter cannot
// be used. It returns false when that has been said of the job too often though
// the vCenter answers.
func (e *execution) excuse(u *Unavailable, o *Outcome) bool {
	delay := u.Delay
	switch {
	case u.Back:
		n := e.m.excuseAgain(e.claimed.Claim.JobID)
		if n > maxExcused {
			return false
		}
		delay = max(delay, e.m.o.retryDelay(n))
	case delay == 0:
		e.m.breaker.trip(e.claimed, u)
	}
	o.Status, o.Error, o.Delay, o.Untouched = models.StatusPending, u.Error(), delay, e.untouched()
	return true
}

// excuseAgain counts a run that failed with Unavailable.Back.
func (m *Manager) excuseAgain(id string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.excused[id]++
	return m.excused[id]
}

func (m *Manager) forgetExcuses(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.excused, id)
}

// untouched reports whether the run was over before it did anything that would
// have to be undone: it did not get as far as looking for its VM.
func (e *execution) untouched() bool {
	p := e.tracker.Phase()
	return p == progress.Pending || p == progress.Connecting
}

// leftBehind is the error of a job that was cancelled and not cleaned up.
func (e *execution) leftBehind(err error) string {
	switch {
	case err == nil:
		return ""
	case unavailable(err) != nil:
		return fmt.Sprintf("what the job may have left at vCenter %s could not be looked for: %v; %s",
			vcenterName(e.run.vcenter), err, e.settle())
	}
	return err.Error()
}

// settle says what becomes of what is left at vSphere.
func (e *execution) settle() string {
	return fmt.Sprintf("what is owed stands in the ledger below %s: the daemon settles it when it can, a retry or `hyper2kvm clean` does too",
		e.claimed.Job.Definition.OutputPath)
}

// askAfter is when a vCenter is asked whether it answers at all, for a run that
// was cancelled and does not end.
const askAfter = 10 * time.Second

// overdue returns a channel that brings an error when a cancelled run has had
// its time, or when its vCenter does not answer. It ends with ctx.
func (e *execution) overdue(ctx context.Context) <-chan error {
	out := make(chan error, 1)
	vcenter, timeout := vcenterName(e.run.vcenter), e.m.o.CancelTimeout
	go func() {
		if sleep.For(ctx, min(askAfter, timeout)) != nil {
			return
		}
		probe, cancel := context.WithTimeout(ctx, askAfter)
		defer cancel()
		if u := unavailable(e.m.probe(probe, e.claimed)); u != nil && ctx.Err() == nil {
			out <- fmt.Errorf("cancelled, and vCenter %s cannot be used, so that not everything was undone there: %w; %s", vcenter, u.Err, e.settle())
			return
		}
		if sleep.For(ctx, timeout-min(askAfter, timeout)) == nil {
			out <- fmt.Errorf("%v after the cancel vCenter %s was still undoing what the job did there; %s", timeout, vcenter, e.settle())
		}
	}()
	return out
}
