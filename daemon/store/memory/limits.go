package memory

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/limits"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// divided is what there is of limits, by name.
type divided struct {
	shares map[string][]claimed
	chosen map[string]*int64
}

// claimed is a daemon's part of a limit.
type claimed struct {
	limits.Part
	until time.Time // by the steady clock
}

// Divide implements [limits.Store].
func (s *Store) Divide(ctx context.Context, owner string, hold time.Duration, needs []limits.Need) ([]limits.Share, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var got []limits.Share
	for _, n := range needs {
		mine := limits.Part{Owner: owner, Most: n.Limit, Held: n.Keep, Want: n.Want, Weight: n.Weight}
		var others []claimed
		for _, c := range s.shares[n.Name] {
			switch {
			case c.Owner == owner:
				mine.Served = c.Served
			case c.until.After(s.clock.Steady()):
				others = append(others, c)
			}
		}
		d := limits.Divide(mine, parts(others), s.chosen[n.Name])
		d.Name = n.Name
		got = append(got, d.Share)
		if n.Want > 0 || d.Part.Held > 0 {
			others = append(others, claimed{d.Part, s.clock.Steady().Add(n.HoldOf(hold))})
		}
		if s.shares == nil {
			s.shares = make(map[string][]claimed)
		}
		s.shares[n.Name] = others
	}
	return got, nil
}

func parts(held []claimed) []limits.Part {
	var all []limits.Part
	for _, c := range held {
		all = append(all, c.Part)
	}
	return all
}

// Choose implements [limits.Store].
func (s *Store) Choose(ctx context.Context, name string, limit int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.chosen == nil {
		s.chosen = make(map[string]*int64)
	}
	s.chosen[name] = &limit
	return nil
}

// Chosen implements [limits.Store].
func (s *Store) Chosen(ctx context.Context, name string) (limit int64, ok bool, err error) {
	if err := ctx.Err(); err != nil {
		return 0, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if chosen := s.chosen[name]; chosen != nil {
		return *chosen, true, nil
	}
	return 0, false, nil
}

// Holdings implements [limits.Store].
func (s *Store) Holdings(ctx context.Context) ([]limits.Holding, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	held := make(map[string][]limits.Part)
	for name, all := range s.shares {
		live := parts(slices.DeleteFunc(slices.Clone(all), func(c claimed) bool { return !c.until.After(s.clock.Steady()) }))
		slices.SortFunc(live, func(a, b limits.Part) int { return cmp.Compare(a.Owner, b.Owner) })
		if len(live) > 0 {
			held[name] = live
		}
	}
	return limits.Standing(held, s.chosen), nil
}

// full are the vCenters of which as many jobs run as may.
func (s *Store) full(most map[string]int, steady time.Time) (full []string) {
	running := make(map[string]int)
	for _, r := range s.all {
		vcenter := r.job.Definition.VCenterKey()
		if r.job.Status != models.StatusRunning || !r.claimable.After(steady) {
			continue
		}
		running[vcenter]++
		if n, ok := most[vcenter]; ok && running[vcenter] == n {
			full = append(full, vcenter)
		}
	}
	return full
}
