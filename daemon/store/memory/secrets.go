package memory

import (
	"context"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
)

var _ jobs.Secrets = (*Store)(nil)

// Secret implements [jobs.Secrets].
func (s *Store) Secret(ctx context.Context, id string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.byID[id]
	if r == nil {
		return nil, jobs.ErrNotFound
	}
	return r.secret, nil
}

// Reseal implements [jobs.Secrets].
func (s *Store) Reseal(ctx context.Context, reseal func(sealed []byte) ([]byte, error)) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := make(map[*record][]byte)
	for _, r := range s.all {
		if r.secret == nil {
			continue
		}
		secret, err := reseal(r.secret)
		if err != nil {
			return 0, err
		}
		if secret != nil {
			fresh[r] = secret
		}
	}
	for r, secret := range fresh {
		r.secret = secret
	}
	return len(fresh), nil
}

// DropSecrets implements [jobs.Secrets].
func (s *Store) DropSecrets(ctx context.Context, age time.Duration) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before, n := s.clock.Now().Add(-age), 0
	for _, r := range s.all {
		if r.secret != nil && r.job.CompletedAt != nil && !r.job.CompletedAt.After(before) {
			r.secret = nil
			n++
		}
	}
	return n, nil
}
