package runs

import (
	"context"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// State says where a job stands.
type State string

// States of a job. Done, Failed and Cancelled are ends; a failed or cancelled
// job can be resumed.
const (
	Waiting   State = "waiting" // for a place
	Running   State = "running"
	Paused    State = "paused"
	Stopping  State = "stopping" // cancelled, and not yet cleaned up
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Ended reports whether nothing more happens by itself.
func (s State) Ended() bool { return s == Done || s == Failed || s == Cancelled }

// Spec is an export to be run.
type Spec struct {
	Name string         // of the VM, as people know it
	Ref  string         // of the VM in the list it was chosen from
	ID   string         // of the daemon's job, "" in this process
	Def  job.Definition // what to do
	Size int64          // bytes that the VM has on its datastores, 0 when not known
}

// Status is one job at an instant.
type Status struct {
	Spec
	State    State
	Progress progress.Snapshot
	Started  time.Time // of the latest attempt; zero before the first
	Ended    time.Time // zero before the end
	Result   job.Result
	Err      error // why it failed or was cancelled
	// Reached is the phase in which it ended.
	Reached progress.Phase
}

// Event is something a person should know of a job.
type Event struct {
	Job string // name of the VM
	progress.Event
}

// Job is what a [Backend] gets to run.
type Job struct {
	Spec
	Tracker *progress.Tracker
	// Limiter bounds the job's bandwidth while it is held.
	Limiter *transfer.Limiter
	// Again says that the job was run before.
	Again bool

	daemon daemonState
}

// Backend runs exports.
type Backend interface {
	// Export runs a job to its end and counts into its Tracker. The cause of
	// ctx may be a [job.Cancelled], which says what becomes of part files,
	// or [ErrLeft]. A cancelled job whose remains are cleaned up returns an
	// error that is context.Canceled.
	Export(ctx context.Context, j *Job) (job.Result, error)
	// Remove cleans up what an earlier run of a job left, its part files too.
	// When the result says Success, that run had everything and is done.
	Remove(ctx context.Context, j *Job) (job.Result, error)
	// Hold stops the flow of a job that runs, or lets it go on.
	Hold(ctx context.Context, j *Job, hold bool) error
}
