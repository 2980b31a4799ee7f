package jobs

import (
	"context"
	"log/slog"

	"github.com/hyper2kvm/hyper2kvm/internal/panics"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// Runner exports one VM. It counts into t and returns when everything it
// started has ended.
//
// When ctx ends, context.Cause tells why and thereby what to leave behind: see
// [job.Cancelled], [job.ErrShutdown] and [job.ErrClaimLost]. A run that
// was cancelled and cleaned up returns an error that is ctx's or its cause; any
// other error is kept with the cancelled job as what could not be cleaned up. A
// run that returns nil has completed, cancelled or not.
//
// An error of the method set interface{ Permanent() bool } that returns true
// (found with errors.As) is not worth another attempt. The error's text is
// shown to users and kept, so it must hold no secret.
type Runner interface {
	Run(ctx context.Context, def job.Definition, t *progress.Tracker) (job.Result, error)

	// CleanUp removes what an earlier run of a cancelled job left, its part
	// files only without keepParts. An error says what is left, and is kept
	// with the cancelled job. When the result says Success, that run had
	// everything, and the job is completed instead. ctx ends only with
	// [job.ErrShutdown] or [job.ErrClaimLost]; the job is cleaned up
	// by another call then.
	CleanUp(ctx context.Context, def job.Definition, keepParts bool, t *progress.Tracker) (job.Result, error)
}

// safely calls a method of the runner and turns a panic into an error. The
// stack goes to the log only.
func safely(log *slog.Logger, call func() (job.Result, error)) (res job.Result, err error) {
	var called error
	caught := panics.Catch(func() error {
		res, called = call()
		return nil
	})
	if caught != nil {
		panics.Log(log, caught)
		return job.Result{}, caught
	}
	return res, called
}
