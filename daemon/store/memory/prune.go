package memory

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

var _ jobs.Pruner = (*Store)(nil)

// ended are the records of jobs that ended at least age ago, after the one of the
// cursor, the first first. The caller holds s.mu.
func (s *Store) ended(age time.Duration, cursor string) ([]*record, error) {
	var at, seq int64
	if cursor != "" {
		if _, err := fmt.Sscanf(cursor, "%d.%d", &at, &seq); err != nil {
			return nil, jobs.ErrCursor
		}
	}
	before := s.clock.Now().Add(-age)
	var out []*record
	for _, r := range s.all { // in order of seq
		if !r.endedBy(before) {
			continue
		}
		if n := r.job.CompletedAt.UnixNano(); cursor == "" || n > at || n == at && r.seq > seq {
			out = append(out, r)
		}
	}
	slices.SortStableFunc(out, func(a, b *record) int { return a.job.CompletedAt.Compare(*b.job.CompletedAt) })
	return out, nil
}

func (r *record) endedBy(t time.Time) bool {
	return r.job.Status.Final() && !r.job.CompletedAt.After(t)
}

// page cuts off what is more than limit, and returns the cursor for that.
func page(records []*record, limit int) (_ []*record, next string) {
	if len(records) <= limit {
		return records, ""
	}
	last := records[limit-1]
	return records[:limit], fmt.Sprintf("%d.%d", last.job.CompletedAt.UnixNano(), last.seq)
}

// Ended implements [jobs.Pruner].
func (s *Store) Ended(ctx context.Context, statuses []models.Status, age time.Duration, cursor string, limit int) ([]models.Job, string, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found, err := s.ended(age, cursor)
	if err != nil {
		return nil, "", err
	}
	found = slices.DeleteFunc(found, func(r *record) bool { return !slices.Contains(statuses, r.job.Status) })
	found, next := page(found, limit)
	ended := make([]models.Job, len(found))
	for i, r := range found {
		ended[i] = s.view(r)
	}
	return ended, next, nil
}

// Prune implements [jobs.Pruner].
func (s *Store) Prune(ctx context.Context, ids []string, age time.Duration) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.clock.Now().Add(-age)
	var pruned []string
	for _, id := range ids {
		if r := s.byID[id]; r != nil && r.endedBy(before) {
			s.remove(r)
			pruned = append(pruned, id)
		}
	}
	return pruned, nil
}

// PruneEvents implements [jobs.Pruner].
func (s *Store) PruneEvents(ctx context.Context, age time.Duration, cursor string, limit int) (int, string, error) {
	if err := ctx.Err(); err != nil {
		return 0, "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found, err := s.ended(age, cursor)
	if err != nil {
		return 0, "", err
	}
	found = slices.DeleteFunc(found, func(r *record) bool { return len(r.events) < 2 })
	found, next := page(found, limit)
	for _, r := range found {
		r.events = slices.Clone(r.events[len(r.events)-1:])
	}
	return len(found), next, nil
}

// Compact implements [jobs.Pruner].
func (s *Store) Compact(context.Context) (bool, error) { return false, nil }
