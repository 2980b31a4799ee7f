package memory

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

var _ jobs.Daemons = (*Store)(nil)

// entry is a daemon.
type entry struct {
	jobs.Daemon
	until time.Time // by the steady clock
}

// Enter implements [jobs.Daemons].
func (s *Store) Enter(ctx context.Context, m jobs.Member, hold time.Duration, first bool) (jobs.Drain, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	steady := s.clock.Steady()
	if first {
		s.daemons = slices.DeleteFunc(s.daemons, func(e *entry) bool {
			keep := jobs.KeepDead
			if e.Drain != jobs.DrainNone {
				keep = jobs.KeepDrained
			}
			return e.until.Before(steady.Add(-keep))
		})
	}
	e := s.daemon(m.ID)
	switch {
	case e == nil:
		e = &entry{}
		s.daemons = append(s.daemons, e)
	case e.Owner != m.Owner && !first && e.until.After(steady):
		return "", jobs.ErrReplaced
	}
	if e.Owner != m.Owner || first {
		e.Member, e.Started = m, s.clock.Now()
	}
	e.LastBeat, e.until = s.clock.Now(), steady.Add(hold)
	return e.Drain, nil
}

func (s *Store) daemon(id string) *entry {
	i := slices.IndexFunc(s.daemons, func(e *entry) bool { return e.ID == id })
	if i < 0 {
		return nil
	}
	return s.daemons[i]
}

// suits reports whether a job is one for the owner: it has the labels for it, and is not
// to be drained, unless the job is only to be cleaned up.
func (s *Store) suits(r *record, req jobs.ClaimRequest) bool {
	drained := slices.ContainsFunc(s.daemons, func(e *entry) bool { return e.Owner == req.Owner && e.Drain != jobs.DrainNone })
	return req.Labels.Suits(r.job.Definition.Constraint) && (req.Cancelling || !drained)
}

// Leave implements [jobs.Daemons].
func (s *Store) Leave(ctx context.Context, owner string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.daemons = slices.DeleteFunc(s.daemons, func(e *entry) bool { return e.Owner == owner && e.Drain == jobs.DrainNone })
	for _, e := range s.daemons {
		if e.Owner == owner {
			e.until = s.clock.Steady()
		}
	}
	return nil
}

// Drain implements [jobs.Daemons].
func (s *Store) Drain(ctx context.Context, id string, d jobs.Drain) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.daemon(id)
	if e == nil {
		return jobs.ErrNoDaemon
	}
	e.Daemon.Drain = d
	return nil
}

// Daemons implements [jobs.Daemons].
func (s *Store) Daemons(ctx context.Context) ([]jobs.Daemon, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []jobs.Daemon
	for _, e := range s.daemons {
		d := e.Daemon
		d.Alive = e.until.After(s.clock.Steady())
		for _, r := range s.all {
			if r.job.Status == models.StatusRunning && r.owner == d.Owner {
				d.Jobs = append(d.Jobs, r.job.Definition.ID)
			}
		}
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b jobs.Daemon) int { return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.ID, b.ID)) })
	return all, nil
}
