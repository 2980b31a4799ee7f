package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// Errors of [Daemons].
var (
	// ErrNoDaemon: there is no such daemon.
	ErrNoDaemon = errors.New("no such daemon")
	// ErrReplaced: another process has entered itself under the daemon's id and lives,
	// as happens when a state directory is copied.
	ErrReplaced = errors.New("another daemon has the same id")
)

// Drain is what a daemon was asked for that is to run no more jobs.
type Drain string

// Kinds of [Drain].
const (
	DrainNone Drain = ""     // nothing: it claims and runs jobs
	DrainNow  Drain = "now"  // it hands back what it runs, and claims nothing
	DrainWait Drain = "wait" // it lets what it runs end, and claims nothing
)

// Member is a daemon as it enters itself.
type Member struct {
	ID      string // of the daemon, also after a restart; short, for people
	Owner   string // of this process of it, as in its claims
	Host    string // name of the machine
	Version string // of the program
	Labels  job.Labels
}

// Daemon is a [Member] as all daemons on the store see it.
type Daemon struct {
	Member
	Drain    Drain
	Started  time.Time // when the process entered itself
	LastBeat time.Time // when it last said that it lives
	// Alive is that its entry still holds. A daemon that has died holds it until its
	// last heartbeat is as old as it said.
	Alive bool
	// Jobs are the ids of the jobs that it has claimed and not given back.
	Jobs []string
}

// State is what people call what the daemon does.
func (d Daemon) State() models.DaemonState {
	switch {
	case !d.Alive:
		return models.DaemonDead
	case d.Drain == DrainNone:
		return models.DaemonActive
	case len(d.Jobs) > 0:
		return models.DaemonDraining
	}
	return models.DaemonDrained
}

// Daemons is what a [Store] keeps of the daemons that use it. An entry holds as long as
// its daemon renews it, measured as claims are.
type Daemons interface {
	// Enter enters a daemon, or renews its entry, for as long as hold, and returns what
	// it was asked for, also before its process started. first is for a process that
	// has just started: the entry of another process with the id is replaced.
	// Otherwise [ErrReplaced] tells of one that lives. Entries that have not held for
	// long are forgotten with a first one.
	Enter(ctx context.Context, m Member, hold time.Duration, first bool) (Drain, error)

	// Leave ends the entry of a process. What the daemon was asked for is kept.
	Leave(ctx context.Context, owner string) error

	// Drain asks for a daemon to be drained, or with [DrainNone] to go on, whether
	// it lives or not. It returns [ErrNoDaemon].
	Drain(ctx context.Context, id string, d Drain) error

	// Daemons lists the daemons, in the order of their host and id.
	Daemons(ctx context.Context) ([]Daemon, error)
}

// How long entries are kept that do not hold any more.
const (
	KeepDead    = 24 * time.Hour      // of daemons that died
	KeepDrained = 30 * 24 * time.Hour // of those that are to stay drained when they start again
)
