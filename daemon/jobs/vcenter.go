package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
)

// VCenterState is why a vCenter cannot be used.
type VCenterState string

// States of a vCenter that cannot be used. When its login is refused, jobs that
// bring a user of their own still run.
const (
	Unreachable   VCenterState = "unreachable"   // it does not answer, or not in SOAP
	Misconfigured VCenterState = "misconfigured" // what the daemon's configuration says of it does not fit, as its certificate
	LoginRefused  VCenterState = "login_refused" // it does not accept the daemon's user and password, or there is none to be read
)

// Unavailable is the error of a run that ended because its vCenter cannot be
// used, which says nothing of the job: the run does not count as an attempt, and
// the job is run again when the vCenter is back. It is found with errors.As,
// and comes before Permanent.
type Unavailable struct {
	State VCenterState
	Err   error // why; its text is shown to users

	// Back says that the vCenter answered again when the run had failed. So it
	// may be the job after all: it is run again a few times, and then the run
	// counts.
	Back bool
	// Delay, when not zero, is how long this job waits, and this job alone.
	Delay time.Duration
}

// Error is the cause's text.
func (u *Unavailable) Error() string { return u.Err.Error() }

// Unwrap returns the cause.
func (u *Unavailable) Unwrap() error { return u.Err }

// unavailable returns the Unavailable in err's chain, or nil.
func unavailable(err error) *Unavailable {
	var u *Unavailable
	if errors.As(err, &u) {
		return u
	}
	return nil
}

// VCenters answers for the vCenters that a [Runner] uses.
type VCenters interface {
	// Probe tells whether a run of the job could connect now: nil, or an error
	// as Run returns it. It changes nothing and moves nothing. A login that
	// was refused is not tried again unless something has changed since.
	Probe(ctx context.Context, def job.Definition) error

	// Forgive lets a login for the job be tried again although it was
	// refused: a person says so.
	Forgive(def job.Definition)
}

// noVCenters take every vCenter for usable once it is time to ask.
type noVCenters struct{}

func (noVCenters) Probe(context.Context, job.Definition) error { return nil }

func (noVCenters) Forgive(job.Definition) {}

// VCenter is a vCenter that cannot be used, as people see it.
type VCenter struct {
	Name      string // see [job.Definition.VCenterKey]; empty is the default one
	State     VCenterState
	Since     time.Time
	Reason    string
	NextProbe time.Time // when it is asked again; for a refused login, when it is looked whether something has changed
	Waiting   int       // pending jobs
}

// vcenterName is how messages call a vCenter.
func vcenterName(key string) string {
	if key == "" {
		return "(default)"
	}
	return key
}

// blocksAll reports whether every job has to wait.
func (s VCenterState) blocksAll() bool { return s == Unreachable || s == Misconfigured }

// blocks reports whether a job has to wait while its vCenter is in state s.
func (s VCenterState) blocks(def job.Definition) bool {
	return s == LoginRefused && def.Username == "" || s.blocksAll()
}

// waitingFor says what jobs of the vCenter wait for, or is empty.
func (v *vcenter) waitingFor(key string) string {
	if v.state == "" {
		return ""
	}
	return fmt.Sprintf("waiting for vCenter %s since %s: %s", vcenterName(key), v.since.UTC().Format(time.RFC3339), v.reason)
}
