package job

import (
	"errors"
	"reflect"
	"time"
)

// Rollback says that the job is no export but the way back from one: the guest that was
// landed is stopped, the marks of the source are undone, and it is powered on if it ran.
// VMPath and OutputPath are those of the export. The zero value is an export.
type Rollback struct {
	Back bool `json:"rollback,omitempty" yaml:"rollback,omitempty"`
	// StopTimeout is how long the landed guest may take to shut down before it is switched
	// off, as "10m"; "" is [DefaultShutdownTimeout].
	StopTimeout string `json:"stop_timeout,omitempty" yaml:"stop_timeout,omitempty"`
	// TargetIsStopped has libvirt not asked: whoever gives it knows that what was made of
	// the VM is off. If it is not, two machines run with the same addresses and names.
	TargetIsStopped bool `json:"target_is_stopped,omitempty" yaml:"target_is_stopped,omitempty"`
}

// StopWait is how long the landed guest may take to shut down.
func (r Rollback) StopWait() time.Duration {
	if d, err := time.ParseDuration(r.StopTimeout); err == nil {
		return d
	}
	return DefaultShutdownTimeout // it was validated when the job was taken
}

var errTimeout = errors.New("must be a time from 1s to 24h, as 90s or 10m")

// CheckTimeout returns why a guest cannot be given that time to shut down, or nil.
func CheckTimeout(s string) error {
	if d, err := time.ParseDuration(s); err != nil || d < time.Second || d > maxShutdownTimeout {
		return errTimeout
	}
	return nil
}

// rollback judges what is said of the way back. What an export is asked for makes no
// sense with it.
func (v *validator) rollback(o Options) {
	r := o.Rollback
	if err := CheckTimeout(r.StopTimeout); r.StopTimeout != "" && err != nil {
		v.add("options.stop_timeout", "%v", err)
	}
	if !r.Back {
		if r.StopTimeout != "" || r.TargetIsStopped {
			v.add("options.rollback", "is required with stop_timeout and target_is_stopped")
		}
		return
	}
	rest := o
	// What every job has, and what says where the guest is.
	rest.Rollback, rest.Landing = Rollback{}, Landing{}
	rest.ParallelDownloads, rest.Retries, rest.Limit, rest.ShowIndividualProgress = 0, 0, "", false
	if len(rest.NetworkMap) == 0 {
		rest.NetworkMap = nil
	}
	if rest.Format == FormatOVF { // which is filled in
		rest.Format = ""
	}
	if !reflect.ValueOf(rest).IsZero() || o.Pool != "" || o.Define || o.Start || o.OnCollision != "" {
		v.add("options.rollback", "goes with no other options than libvirt, stop_timeout, target_is_stopped and retries: it exports nothing")
	}
}
