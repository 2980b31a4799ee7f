package memory

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// Claim implements [jobs.Queue].
func (s *Store) Claim(ctx context.Context, req jobs.ClaimRequest) (jobs.Claimed, error) {
	if err := ctx.Err(); err != nil {
		return jobs.Claimed{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now, steady := s.clock.Now(), s.clock.Steady()
	req.Full = append(slices.Clone(req.Full), s.full(req.Most, steady)...)
	var best *record
	for _, r := range s.all {
		if s.claimable(r, req, steady) && (best == nil || s.before(r, best)) {
			best = r
		}
	}
	if best == nil {
		return jobs.Claimed{}, jobs.ErrNoJob
	}
	s.turn++
	s.turns[best.job.Definition.VCenterKey()] = s.turn
	best.deaths = best.willHaveDied()
	before := best.daemon
	best.owner, best.daemon = req.Owner, req.Daemon
	best.epoch++
	best.ran++
	best.claimable = steady.Add(req.Hold)
	if best.job.StartedAt == nil {
		best.job.StartedAt = &now
	}
	s.move(best, models.StatusRunning, "", now)
	return jobs.Claimed{
		Claim:    jobs.Claim{JobID: best.job.Definition.ID, Owner: best.owner, Epoch: best.epoch},
		Job:      s.view(best),
		Secret:   slices.Clone(best.secret),
		Cancel:   best.cancel,
		Failures: best.job.Attempts,
		Deaths:   best.deaths,
		Before:   before,
	}, nil
}

// willHaveDied counts the deaths if the job is claimed now.
func (r *record) willHaveDied() int {
	if r.job.Status == models.StatusRunning {
		return r.deaths + 1
	}
	return r.deaths
}

func (s *Store) claimable(r *record, req jobs.ClaimRequest, steady time.Time) bool {
	vcenter := r.job.Definition.VCenterKey()
	return !r.job.Status.Final() &&
		!r.claimable.After(steady) &&
		(r.job.Status != models.StatusRunning || r.owner != req.Owner) &&
		(r.cancel != nil) == req.Cancelling &&
		s.suits(r, req) &&
		r.willHaveDied() >= req.Deaths &&
		!slices.Contains(req.Full, vcenter) &&
		!slices.ContainsFunc(req.Below, func(dir string) bool { return jobs.Below(r.job.Definition.OutputPath, dir) }) &&
		(r.job.Definition.Username != "" || !slices.Contains(req.Refused, vcenter))
}

// before reports whether a goes before b.
func (s *Store) before(a, b *record) bool {
	da, db := a.job.Definition, b.job.Definition
	return cmp.Or(
		cmp.Compare(db.Priority, da.Priority),
		cmp.Compare(s.turns[da.VCenterKey()], s.turns[db.VCenterKey()]),
		cmp.Compare(a.seq, b.seq),
	) < 0
}
