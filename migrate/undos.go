package migrate

import (
	"context"
	"errors"

	"github.com/hyper2kvm/hyper2kvm/internal/panics"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// undos is what is to be undone when a run ends, however it ends: the last first.
type undos []undo

// undo ends one thing that a run has begun.
type undo struct {
	do func()
	// lost is called instead when another daemon is running the job by now: what
	// is at vSphere and on disk is that daemon's. nil does nothing.
	lost func()
}

// push adds something that is to be undone in any case.
func (u *undos) push(do func()) { *u = append(*u, undo{do: do, lost: do}) }

// pushOwn adds something that is the run's own only while it has the job, and what
// is to be done when it has not.
func (u *undos) pushOwn(do, lost func()) { *u = append(*u, undo{do: do, lost: lost}) }

// unwind undoes everything. An undo that panics does not keep the others from
// being done; the error says so.
func (u *undos) unwind(ctx context.Context) (err error) {
	lost := lost(ctx)
	for i := len(*u) - 1; i >= 0; i-- {
		do := (*u)[i].do
		if lost {
			do = (*u)[i].lost
		}
		if do != nil {
			err = errors.Join(err, panics.Catch(func() error {
				do()
				return nil
			}))
		}
	}
	*u = nil
	return err
}

// lost reports whether another daemon is running the job by now.
func lost(ctx context.Context) bool { return errors.Is(context.Cause(ctx), job.ErrClaimLost) }
