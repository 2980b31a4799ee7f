package runs

import (
	"context"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
)

// heldRate is the bandwidth of a job that is held, in bytes per second: none
// would mean no limit.
const heldRate = 1

// Local runs exports in this process.
type Local struct {
	// Migrator is what runs them; its Limiter is replaced by each job's.
	Migrator migrate.Migrator
}

// Export runs a job.
func (l Local) Export(ctx context.Context, j *Job) (job.Result, error) {
	m := l.Migrator
	m.Limiter = j.Limiter
	return m.Run(ctx, j.Def, j.Tracker)
}

// Remove cleans up what an earlier run of a job left.
func (l Local) Remove(ctx context.Context, j *Job) (job.Result, error) {
	return l.Migrator.CleanUp(ctx, j.Def, false, j.Tracker)
}

// Hold reduces a job's bandwidth to almost nothing, or lifts that.
func (l Local) Hold(_ context.Context, j *Job, hold bool) error {
	if hold {
		j.Limiter.SetLimit(heldRate)
	} else {
		j.Limiter.SetLimit(0)
	}
	return nil
}
