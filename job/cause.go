package job

import "errors"

// ErrShutdown is the cause (context.Cause) of a run's context when the daemon
// stops. The run checkpoints, keeps its part files and returns; the job goes
// on from there at the next start.
var ErrShutdown = errors.New("the daemon is shutting down")

// ErrClaimLost is the cause of a run's context when the daemon no longer holds
// the job: another one may be running it. The run ends without touching
// what is on disk.
var ErrClaimLost = errors.New("this daemon no longer holds the job")

// Cancelled is the cause of a run's context when a person cancelled the job.
// The run undoes what it did at vSphere and, unless KeepParts, removes its
// part files. The zero value removes them.
type Cancelled struct {
	KeepParts bool // leave part files, so that a retry resumes from them
}

// Error says that the job was cancelled.
func (Cancelled) Error() string { return "cancelled on request" }
