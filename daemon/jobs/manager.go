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
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// ErrDrain is returned by [Manager.Run] when runs had not ended in time at a
// shutdown. Their jobs are claimed again when their leases run out.
var ErrDrain = errors.New("jobs were still running at the end of the shutdown")

// Manager runs the jobs of a [Store]. Its methods may be called from any
// goroutine, before, during and after Run.
type Manager struct {
	store  Store
	runner Runner
	o      Options
	log    *slog.Logger
	hub    hub
	wake   chan struct{} // holds one token when there may be something to claim

	mu   sync.Mutex
	runs map[string]*run // by job ID
}

// run is one claimed job that this manager is running.
type run struct {
	vcenter string
	cleanup bool // claimed only to clean up after a cancel
	cancel  context.CancelCauseFunc
	done    chan struct{} // closed when the outcome is in the store, or given up
}

// New returns a Manager of the jobs in store. Call [Manager.Run] to have them
// run.
func New(store Store, runner Runner, o Options) *Manager {
	o = o.withDefaults()
	return &Manager{
		store:  store,
		runner: runner,
		o:      o,
		log:    o.Logger,
		wake:   make(chan struct{}, 1),
		runs:   make(map[string]*run),
		hub:    hub{topics: make(map[string]*topic)},
	}
}

// Run claims and runs jobs until ctx ends. Then it claims no more, ends the
// runs with [models.ErrShutdown] as cause, hands their jobs back so that they
// can be claimed at once, and returns nil; or [ErrDrain] when runs had not
// ended within Options.DrainTimeout. It must be called at most once.
func (m *Manager) Run(ctx context.Context) error {
	base, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	poll := time.NewTicker(m.o.Poll)
	defer poll.Stop()
	for {
		m.claimAll(ctx, base)
		select {
		case <-ctx.Done():
			return m.drain()
		case <-m.wake:
		case <-poll.C:
		}
	}
}

// nudge makes Run look for jobs now.
func (m *Manager) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// claimAll claims while there is room: first what only needs to be cleaned up
// after a cancel, which has room of its own so that a full daemon cancels too.
func (m *Manager) claimAll(ctx, base context.Context) {
	for _, cleanup := range []bool{true, false} {
		for ctx.Err() == nil && m.room(cleanup) {
			c, err := m.store.Claim(base, ClaimRequest{
				Owner:      m.o.Owner,
				Lease:      m.o.Lease,
				Cancelling: cleanup,
				Full:       m.fullVCenters(cleanup),
			})
			if err != nil {
				if !errors.Is(err, ErrNoJob) {
					m.log.Error("cannot claim a job; trying again", "error", err)
				}
				break
			}
			m.start(base, c, cleanup)
		}
	}
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

// fullVCenters names the vCenters at their limit.
func (m *Manager) fullVCenters(cleanup bool) []string {
	if cleanup {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := make(map[string]int)
	for _, r := range m.runs {
		if !r.cleanup {
			n[r.vcenter]++
		}
	}
	var full []string
	for vcenter, running := range n {
		if running >= m.o.limit(vcenter) {
			full = append(full, vcenter)
		}
	}
	slices.Sort(full)
	return full
}

// start runs a claimed job in a goroutine of its own.
func (m *Manager) start(base context.Context, c Claim, cleanup bool) {
	ctx, cancel := context.WithCancelCause(base)
	r := &run{
		vcenter: c.Job.Definition.VCenterKey(),
		cleanup: cleanup,
		cancel:  cancel,
		done:    make(chan struct{}),
	}
	id := c.Lease.JobID
	m.mu.Lock()
	m.runs[id] = r
	m.mu.Unlock()
	m.hub.changed(id)
	go func() {
		defer cancel(nil)
		m.execute(base, ctx, c, cancel)
		m.mu.Lock()
		if m.runs[id] == r { // else the job was tried again meanwhile
			delete(m.runs, id)
		}
		m.mu.Unlock()
		close(r.done)
		m.hub.ended(id)
		m.nudge()
	}()
}

// drain ends every run and waits until they are over, or for DrainTimeout.
func (m *Manager) drain() error {
	ctx, cancel := context.WithTimeout(context.Background(), m.o.DrainTimeout)
	defer cancel()
	m.mu.Lock()
	runs := maps.Clone(m.runs)
	m.mu.Unlock()
	for _, r := range runs {
		r.cancel(models.ErrShutdown)
	}
	for _, r := range runs {
		select {
		case <-r.done:
		case <-ctx.Done():
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if left := slices.Sorted(maps.Keys(m.runs)); len(left) > 0 {
		return fmt.Errorf("%w after %v: %s", ErrDrain, m.o.DrainTimeout, strings.Join(left, ", "))
	}
	return nil
}
