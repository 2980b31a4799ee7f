package memory

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/limits"
)

// refusal is one that holds until then.
type refusal struct {
	limits.Refusal
	noted, until time.Time // by the steady clock
}

// Refusals implements [limits.Refusals].
func (s *Store) Refusals(ctx context.Context, account string) (all []limits.Refusal, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Steady()
	for _, r := range s.refusals {
		if r.Account == account && r.until.After(now) {
			r.Age = now.Sub(r.noted)
			all = append(all, r.Refusal)
		}
	}
	return all, nil
}

// Refuse implements [limits.Refusals].
func (s *Store) Refuse(ctx context.Context, r limits.Refusal, hold time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Steady()
	s.refusals = slices.DeleteFunc(s.refusals, func(o refusal) bool {
		return !o.until.After(now) || o.Account == r.Account && bytes.Equal(o.Password, r.Password)
	})
	r.Password, r.At, r.Strike = bytes.Clone(r.Password), s.clock.Now().UTC().Truncate(time.Millisecond), true
	s.refusals = append(s.refusals, refusal{r, now, now.Add(hold)})
	return nil
}

// Accepted implements [limits.Refusals].
func (s *Store) Accepted(ctx context.Context, account string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.refusals {
		if s.refusals[i].Account == account {
			s.refusals[i].Strike = false
		}
	}
	return nil
}

// Forgive implements [limits.Refusals].
func (s *Store) Forgive(ctx context.Context, account string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals = slices.DeleteFunc(s.refusals, func(r refusal) bool { return r.Account == account })
	return nil
}
