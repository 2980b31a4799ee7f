package jobs

import (
	"cmp"
	"log/slog"
	"maps"
	"time"

	"github.com/google/uuid"

	"github.com/hyper2kvm/hyper2kvm/job"
)

// Options steer a [Manager]. The zero value works.
type Options struct {
	MaxJobs int // jobs at once, 0 means 4
	// PerVCenter is how many jobs of some vCenters run at once, at all daemons on the
	// store together, by [job.Definition.VCenterKey]; less than 1 is any number.
	PerVCenter map[string]int

	Sealer Sealer // encrypts passwords; nil refuses jobs that carry one
	// Admit says why a job that is right in itself is not taken; nil takes every one.
	// The error's text tells nothing of what is at the places that the job names. It
	// may have a hint that does.
	Admit func(job.Definition) error

	Logger *slog.Logger // nil discards

	// Secrets drops and renews sealed passwords; nil is the store, if it can.
	Secrets Secrets
	// KeepPasswords is how long the sealed password of a job that failed or was
	// cancelled is kept, so that it can be tried again; 0 means 72 h, negative is
	// not at all. That of a completed job goes with its end.
	KeepPasswords time.Duration

	// MaxQueued is how many jobs may be pending; a submission that makes them more is
	// refused as a whole. 0 is any number.
	MaxQueued int
	// Room says where no new job is begun for want of room; nil is nowhere.
	Room Room

	// Retention is for how long jobs that have ended are kept; the zero value is for
	// ever. Pruner forgets them; nil is the store, if it can. Forgetting is told
	// before; nil is nobody.
	Retention  Retention
	Pruner     Pruner
	Forgetting Forgetting

	// Notices tells other daemons on the same store, and hears of them; nil is the
	// store, if it can.
	Notices Notices

	// Daemons is where the daemons on a store are entered, and Daemon is this one
	// there, whose Owner is that of Options, and whose ID is that, too, when it is
	// empty; nil is the store, if it can.
	Daemons Daemons
	Daemon  Member
	// Limits are told when daemons are to divide them anew; nil is nobody.
	Limits interface{ Look() }

	// Outages is where daemons tell each other of vCenters that cannot be used; nil is
	// the store, if it can and several share it.
	Outages Outages

	// Observer hears what becomes of runs; nil is nobody.
	Observer Observer

	// VCenters is asked whether vCenters can be used again that could not be;
	// with nil they are tried again after ProbeMin to ProbeMax.
	VCenters VCenters

	// Throttle changes the bandwidth of jobs that run. With nil a new limit
	// takes effect at the job's next run.
	Throttle Throttle
	Owner    string // names this daemon in claims; must be unique to the process; empty makes one up

	Hold         time.Duration // how long a claim holds without a heartbeat, 0 means 30 s
	Heartbeat    time.Duration // between writes of a running job's progress, 0 means 5 s
	Sample       time.Duration // between reports of progress to watchers, 0 means 1 s
	Poll         time.Duration // between looks for jobs that fell due or that others submitted, 0 means 1 s
	StoreWatch   time.Duration // between looks of [Manager.WatchStore] at the store, 0 means 5 s
	DrainTimeout time.Duration // how long a shutdown waits for runs to end, 0 means 30 s

	RetryMin time.Duration // wait after a first failed attempt, 0 means 10 s; doubles with each
	RetryMax time.Duration // longest wait, 0 means 10 min

	ProbeMin time.Duration // before a vCenter that cannot be used is asked again, 0 means 5 s; doubles with each time
	ProbeMax time.Duration // longest distance of two such questions, 0 means 1 min

	// CancelTimeout is how long a cancelled run may take to undo what it did
	// at vSphere, 0 means 2 min. Then the job is cancelled with an error.
	CancelTimeout time.Duration
	// SettleEvery is between two looks after jobs that have ended and owe
	// something at vSphere, 0 means 10 min.
	SettleEvery time.Duration
	// MaxDeaths is after how many claims in a row that the daemon did not
	// survive, and that brought the job no further, it fails; 0 means 12.
	MaxDeaths int
	// Trial is how long a job that may be what kills the daemon runs alone
	// after a start, 0 means 6 min: by then the lease of the run before is over
	// (F-NFC-4), and a job that waits for that gets on.
	Trial time.Duration
}

// DefaultKeepPasswords is how long the sealed password of a job that failed or was
// cancelled is kept: over a weekend.
const DefaultKeepPasswords = 72 * time.Hour

// Throttle changes the bandwidth of the job with an ID to bytesPerSecond, where
// 0 is no limit, if it runs.
type Throttle interface {
	Set(id string, bytesPerSecond int64)
}

func (o Options) withDefaults() Options {
	o.MaxJobs = cmp.Or(o.MaxJobs, 4)
	o.Hold = cmp.Or(o.Hold, 30*time.Second)
	o.Heartbeat = cmp.Or(o.Heartbeat, 5*time.Second)
	o.Sample = cmp.Or(o.Sample, time.Second)
	o.Poll = cmp.Or(o.Poll, time.Second)
	o.StoreWatch = cmp.Or(o.StoreWatch, 5*time.Second)
	o.DrainTimeout = cmp.Or(o.DrainTimeout, 30*time.Second)
	o.RetryMin = cmp.Or(o.RetryMin, 10*time.Second)
	o.RetryMax = cmp.Or(o.RetryMax, 10*time.Minute)
	o.ProbeMin = cmp.Or(o.ProbeMin, 5*time.Second)
	o.ProbeMax = cmp.Or(o.ProbeMax, time.Minute)
	o.CancelTimeout = cmp.Or(o.CancelTimeout, 2*time.Minute)
	o.SettleEvery = cmp.Or(o.SettleEvery, 10*time.Minute)
	o.MaxDeaths = cmp.Or(o.MaxDeaths, 12)
	o.Trial = cmp.Or(o.Trial, 6*time.Minute)
	o.KeepPasswords = cmp.Or(o.KeepPasswords, DefaultKeepPasswords)
	if o.VCenters == nil {
		o.VCenters = noVCenters{}
	}
	if o.Observer == nil {
		o.Observer = unobserved{}
	}
	o.PerVCenter = maps.Clone(o.PerVCenter)
	maps.DeleteFunc(o.PerVCenter, func(_ string, n int) bool { return n < 1 })
	if o.Room == nil {
		o.Room = roomEverywhere{}
	}
	if o.Forgetting == nil {
		o.Forgetting = untold
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Owner == "" {
		o.Owner = uuid.NewString()
	}
	o.Daemon.Owner = o.Owner
	o.Daemon.ID = cmp.Or(o.Daemon.ID, o.Owner)
	return o
}

// retryDelay is how long a job waits after it has failed that many times.
func (o Options) retryDelay(failures int) time.Duration {
	d := o.RetryMin
	for i := 1; i < failures && d < o.RetryMax; i++ {
		d *= 2
	}
	return min(d, o.RetryMax)
}
