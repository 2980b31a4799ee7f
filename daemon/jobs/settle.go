package jobs

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// Settler is a [Runner] that remembers what its runs have left at vSphere, and can
// put it back.
type Settler interface {
	// Settle puts back what is owed of a job that has ended, and costs next to
	// nothing when that is nothing. An error says what is still owed.
	Settle(ctx context.Context, def job.Definition, t *progress.Tracker) error
}

// settling looks after jobs that have ended and still owe something at vSphere:
// of an earlier daemon, or because vSphere was away or busy when they ended. It
// settles one at a time; a job that is run again has precedence.
type settling struct {
	mu      sync.Mutex
	owing   map[string]bool // by job ID: to be looked at
	current string          // the job that is settled now
	cancel  context.CancelFunc
	done    chan struct{}
}

// settlePage is how many jobs are read from the store at a time.
const settlePage = 500

// settleAll looks after all jobs that have ended, from the start on, until ctx
// ends.
func (m *Manager) settleAll(ctx context.Context) {
	s, ok := m.runner.(Settler)
	if !ok {
		return
	}
	m.findEnded(ctx)
	tick := time.NewTicker(m.o.SettleEvery)
	defer tick.Stop()
	for {
		for _, id := range m.settling.ids() {
			m.settleOne(ctx, s, id)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// findEnded notes every job that an earlier daemon has ended.
func (m *Manager) findEnded(ctx context.Context) {
	q := Query{Statuses: []models.Status{models.StatusFailed, models.StatusCancelled, models.StatusCompleted}, Limit: settlePage}
	for {
		page, err := m.store.List(ctx, q)
		if err != nil {
			if ctx.Err() == nil {
				m.log.Error("cannot look for jobs that owe something at vSphere", "error", err)
			}
			return
		}
		for _, j := range page.Jobs {
			m.settling.add(j.Definition.ID)
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return
		}
	}
}

// settleOne settles one job, unless it has not ended, its vCenter cannot be used,
// or the password that it brought along is not kept any more.
func (m *Manager) settleOne(ctx context.Context, s Settler, id string) {
	run, end := m.settling.begin(ctx, id) // before the look: a run that begins after it waits
	defer end()
	j, err := m.Get(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound), err == nil && !j.Status.Final():
		m.settling.forget(id) // it is deleted, or will be looked at when it ends
		return
	case err != nil || ctx.Err() != nil || m.breaker.waiting(j.Definition) != "":
		return // later
	}
	def, err := m.credentials(ctx, j.Definition)
	switch {
	case errors.Is(err, ErrNoPassword):
		m.settling.forget(id) // hyper2kvm clean settles what it may owe
		return
	case err != nil:
		m.log.Warn("what a job may have left at vSphere cannot be looked for", "job", id, "error", err)
		return
	}
	_, err = safely(m.log, func() (job.Result, error) {
		return job.Result{}, s.Settle(run, def, progress.New())
	})
	switch {
	case err == nil:
		m.settling.forget(id)
	case run.Err() == nil:
		m.log.Warn("what a job has left at vSphere is not put back yet", "job", id, "error", err)
	}
}

// credentials returns a job's definition with the password that it brought along,
// if it did, or [ErrNoPassword].
func (m *Manager) credentials(ctx context.Context, def job.Definition) (job.Definition, error) {
	if def.Username == "" {
		return def, nil
	}
	if m.o.Secrets == nil {
		return def, ErrNoPassword
	}
	sealed, err := m.o.Secrets.Secret(ctx, def.ID)
	if err == nil && len(sealed) == 0 {
		err = ErrNoPassword
	}
	if err != nil {
		return def, err
	}
	return m.withPassword(def, sealed)
}

// add notes a job that has ended.
func (s *settling) add(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owing == nil {
		s.owing = make(map[string]bool)
	}
	s.owing[id] = true
}

func (s *settling) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.owing, id)
}

func (s *settling) ids() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.owing))
}

// begin notes that a job is being settled, until end.
func (s *settling) begin(ctx context.Context, id string) (run context.Context, end func()) {
	run, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.cancel, s.done = id, cancel, done
	return run, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		cancel()
		close(done)
		s.current = ""
	}
}

// yield makes way for a run of the job: settling it is ended, and waited for.
func (s *settling) yield(id string) {
	s.mu.Lock()
	current, cancel, done := s.current, s.cancel, s.done
	s.mu.Unlock()
	if current == id {
		cancel()
		<-done
	}
}
