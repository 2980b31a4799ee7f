package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// ErrDrain is returned by [Manager.Run] when runs had not ended in time at a
// shutdown and could not be handed back either. Their jobs are claimed again when
// their claims run out.
var ErrDrain = errors.New("jobs were still running at the end of the shutdown")

// handBackTimeout bounds how long a shutdown writes to the store what has not
// ended.
const handBackTimeout = 5 * time.Second

// Manager runs the jobs of a [Store]. Its methods may be called from any
// goroutine, before, during and after Run.
type Manager struct {
	store   Store
	runner  Runner
	o       Options
	log     *slog.Logger
	hub     hub
	breaker *breaker
	wake    chan struct{} // holds one token when there may be something to claim
	trial   trial

	courtesy courtesy

	looks singleflight.Group

	member membership

	claimTrouble lastTrouble // of Run's goroutine

	settling settling
	queueing sync.Mutex   // held while jobs that were counted are added
	sealing  sync.RWMutex // held for reading from when a password is sealed until it is stored

	mu       sync.Mutex
	troubles int             // times that the store became unusable
	troubled time.Time       // since when it is; zero when it can be used
	runs     map[string]*run // by job ID
	excused  map[string]int  // by job ID: runs in a row that failed with Unavailable.Back
}

// run is one claimed job that this manager is running.
type run struct {
	vcenter string
	claim   Claim
	until   time.Time // when the claim ends at the earliest, unless it is renewed
	cleanup bool      // claimed only to clean up after a cancel
	cancel  context.CancelCauseFunc
	done    chan struct{} // closed when the outcome is in the store, or given up
	look    chan struct{} // holds one token when another daemon has changed the job

	late    atomic.Bool // the job has ended, and the run is still undoing
	cleared atomic.Bool // it got further than any run before it
}

// New returns a Manager of the jobs in store. Call [Manager.Run] to have them
// run.
func New(store Store, runner Runner, o Options) *Manager {
	o = o.withDefaults()
	if o.Secrets == nil {
		o.Secrets, _ = store.(Secrets)
	}
	if o.Pruner == nil {
		o.Pruner, _ = store.(Pruner)
	}
	if o.Notices == nil {
		o.Notices, _ = store.(Notices)
	}
	if o.Daemons == nil {
		o.Daemons, _ = store.(Daemons)
	}
	m := &Manager{
		store:   store,
		runner:  runner,
		o:       o,
		log:     o.Logger,
		wake:    make(chan struct{}, 1),
		runs:    make(map[string]*run),
		excused: make(map[string]int),
		hub:     hub{topics: make(map[string]*topic)},
		member:  membership{self: o.Daemon, look: make(chan struct{}, 1)},
	}
	if o.Outages == nil && m.o.Notices != nil {
		m.o.Outages, _ = store.(Outages)
	}
	m.breaker = newBreaker(m.o, m.nudge)
	return m
}

// Run claims and runs jobs until ctx ends. Then it claims no more, ends the
// runs with [job.ErrShutdown] as cause, hands their jobs back so that they
// can be claimed at once, and returns nil. What has not ended within
// Options.DrainTimeout is handed back all the same and goes on undoing what it
// did, for as long as the process lives; [ErrDrain] says that not even that was
// possible. Run must be called at most once.
func (m *Manager) Run(ctx context.Context) error {
	base, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	poll := time.NewTicker(m.o.Poll)
	defer poll.Stop()
	leave := m.join(base)
	defer leave()
	var settling sync.WaitGroup
	settling.Go(func() { m.settleAll(ctx) })
	settling.Go(func() { m.dropPasswords(ctx) })
	settling.Go(func() { m.retain(ctx) })
	settling.Go(func() { m.breaker.share(ctx) })
	if m.o.Notices != nil {
		settling.Go(func() { m.o.Notices.Listen(ctx, m.heard) })
	}
	for polls := 0; ; {
		m.breaker.probe(ctx, m)
		m.claimAll(ctx, base, m.o.Notices == nil || polls%cancelPolls == 0)
		select {
		case <-ctx.Done():
			helpers := make(chan struct{})
			go func() {
				defer close(helpers)
				settling.Wait()
				m.breaker.probes.Wait()
			}()
			return m.drain(base, helpers)
		case <-m.wake:
			polls = 0
		case <-poll.C:
			polls++
		}
	}
}

// cancelPolls is at every how many polls it is looked for what is to be cleaned up after
// a cancel, in a store that tells of cancels: what is left is those whose daemon has died.
const cancelPolls = 5

// nudge makes Run look for jobs now.
func (m *Manager) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// claimAll claims while there is room: first what only needs to be cleaned up
// after a cancel, if that is looked for, which has room of its own so that a full daemon
// cancels too.
func (m *Manager) claimAll(ctx, base context.Context, cancels bool) {
	work, clean := m.orders()
	for cancels && clean && ctx.Err() == nil && m.room(true) {
		c, until, ok := m.claim(base, ClaimRequest{Cancelling: true})
		if !ok {
			break
		}
		m.start(base, c, until)
	}
	if !work || m.onTrial(ctx, base) {
		return
	}
	for ctx.Err() == nil && m.room(false) {
		c, until, ok := m.claim(base, ClaimRequest{})
		if !ok {
			break
		}
		m.start(base, c, until)
	}
}

// claim claims a job of those that may run now. The claim holds until then at least:
// its answer may have been on its way for long.
func (m *Manager) claim(base context.Context, r ClaimRequest) (c Claimed, until time.Time, ok bool) {
	r.Owner, r.Daemon, r.Hold, r.Labels = m.o.Owner, m.member.as().name(), m.o.Hold, m.o.Daemon.Labels
	if !r.Cancelling {
		unreachable, refused := m.breaker.blocked()
		r.Full, r.Refused, r.Most = unreachable, refused, m.o.PerVCenter
		if r.Deaths == 0 {
			r.Full = append(r.Full, m.courtesy.leave(m, time.Now())...)
		}
		r.Below = m.lacking()
	}
	until = time.Now().Add(r.Hold)
	c, err := m.store.Claim(base, r)
	if errors.Is(err, ErrNoJob) {
		m.claimTrouble.tell(nil)
		return c, until, false
	}
	if m.claimTrouble.tell(err) {
		m.log.Error("cannot claim a job; trying again", "error", err)
	}
	if err == nil && !r.Cancelling {
		m.courtesy.took(c.Job.Definition.VCenterKey())
	}
	return c, until, err == nil
}

// room reports whether one more run of a kind may start.
func (m *Manager) room(cleanup bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, r := range m.runs {
		if r.cleanup == cleanup {
			n++
		}
	}
	return n < m.o.MaxJobs
}

// start runs a claimed job in a goroutine of its own.
func (m *Manager) start(base context.Context, c Claimed, until time.Time) *run {
	ctx, cancel := context.WithCancelCause(base)
	r := &run{
		vcenter: c.Job.Definition.VCenterKey(),
		claim:   c.Claim,
		until:   until,
		cleanup: c.Cancel != nil,
		cancel:  cancel,
		done:    make(chan struct{}),
		look:    make(chan struct{}, 1),
	}
	id := c.Claim.JobID
	m.mu.Lock()
	m.runs[id] = r
	m.mu.Unlock()
	m.hub.changed(id)
	go func() {
		defer cancel(nil)
		m.execute(base, ctx, r, c)
		m.mu.Lock()
		if m.runs[id] == r { // else the job was tried again meanwhile
			delete(m.runs, id)
		}
		m.mu.Unlock()
		close(r.done)
		m.hub.ended(id)
		m.nudge()
	}()
	return r
}

// drain ends every run and waits until they are over, and the helpers beside
// them, or for DrainTimeout. Then the jobs of those that are not are handed back:
// what they still undo they may undo while the process lives, and their ledgers
// know the rest.
func (m *Manager) drain(base context.Context, helpers <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), m.o.DrainTimeout)
	defer cancel()
	m.mu.Lock()
	runs := maps.Clone(m.runs)
	m.mu.Unlock()
	for _, r := range runs {
		r.cancel(job.ErrShutdown)
	}
	var left []string
	for id, r := range runs {
		if r.late.Load() {
			continue
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			left = append(left, id)
		}
	}
	select {
	case <-helpers:
	case <-ctx.Done():
		m.log.Warn("a vCenter was still being asked at the end of the shutdown", "after", m.o.DrainTimeout)
	}
	if len(left) == 0 {
		return nil
	}
	slices.Sort(left)
	m.log.Warn("jobs had not ended and are handed back: what they hold at vSphere is in their ledgers, and settled at the next start",
		"after", m.o.DrainTimeout, "jobs", strings.Join(left, ", "))
	write, done := context.WithTimeout(base, handBackTimeout)
	defer done()
	var stuck []string
	for _, id := range left {
		err := m.store.Finish(write, runs[id].claim, Outcome{Status: models.StatusPending})
		if err != nil && !errors.Is(err, ErrFenced) {
			m.log.Error("cannot hand a job back", "job", id, "error", err)
			stuck = append(stuck, id)
		}
	}
	if len(stuck) > 0 {
		return fmt.Errorf("%w after %v: %s", ErrDrain, m.o.DrainTimeout, strings.Join(stuck, ", "))
	}
	return nil
}
