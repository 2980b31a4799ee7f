package runs

import (
	"context"
	"errors"
	"slices"
)

// Release stops every job that has not ended, with its part files kept, and waits until
// nothing of it is left here. It returns the jobs that were stopped and are not done:
// somebody else may run them now.
func (g *Group) Release(ctx context.Context) (stopped []int, err error) {
	g.mu.Lock()
	for i, e := range g.jobs {
		if !e.status.State.Ended() {
			stopped = append(stopped, i)
		}
	}
	g.mu.Unlock()
	g.Stop()
	for {
		changed := g.Changed()
		if g.idle() {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	jobs := g.Statuses()
	return slices.DeleteFunc(stopped, func(i int) bool { return jobs[i].State == Done }), nil
}

// idle reports whether every job has ended and nothing of it runs.
func (g *Group) idle() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !slices.ContainsFunc(g.jobs, func(e *entry) bool { return e.active || e.remove || !e.status.State.Ended() })
}

// Reclaim runs jobs that were released here again.
func (g *Group) Reclaim(ctx context.Context, jobs []int) error {
	var errs []error
	for _, i := range jobs {
		errs = append(errs, g.Resume(ctx, i))
	}
	return errors.Join(errs...)
}
