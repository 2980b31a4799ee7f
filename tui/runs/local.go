package runs

import (
	"context"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
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
func (l Local) Export(ctx context.Context, job *Job) (models.Result, error) {
	m := l.Migrator
	m.Limiter = job.Limiter
	return m.Run(ctx, job.Def, job.Tracker)
}

// Remove cleans up what an earlier run of a job left.
func (l Local) Remove(ctx context.Context, job *Job) (models.Result, error) {
	return l.Migrator.CleanUp(ctx, job.Def, false, job.Tracker)
}

// Hold reduces a job's bandwidth to almost nothing, or lifts that.
func (l Local) Hold(_ context.Context, job *Job, hold bool) error {
	if hold {
		job.Limiter.SetLimit(heldRate)
	} else {
		job.Limiter.SetLimit(0)
	}
	return nil
}
