package jobs

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// Retention says for how long jobs that have ended are kept. The zero value keeps
// everything.
type Retention struct {
	Jobs    time.Duration // completed and cancelled jobs, since their end; 0 is for ever
	Failed  time.Duration // failed ones; 0 is for ever
	Events  time.Duration // events of jobs that have ended, but for the last of each; 0 is as long as the job
	MaxJobs int           // jobs in all: above that, those that ended first go; 0 is any number
}

func (r Retention) zero() bool { return r == Retention{} }

// Pruner is what a [Store] does so that it does not grow for ever. Each method that
// writes is one small transaction.
type Pruner interface {
	// Ended returns at most limit jobs that ended with one of these statuses, at
	// least age ago, the one that ended first first. cursor is the next of the call
	// before, "" at first; next is "" after the last.
	Ended(ctx context.Context, statuses []models.Status, age time.Duration, cursor string, limit int) (ended []models.Job, next string, err error)

	// Prune forgets those of the jobs that have ended at least age ago, with their
	// events, and returns their ids.
	Prune(ctx context.Context, ids []string, age time.Duration) ([]string, error)

	// PruneEvents forgets the events of at most limit jobs that ended at least age
	// ago, but for the last of each, and returns of how many jobs there were any.
	// cursor and next are as for Ended.
	PruneEvents(ctx context.Context, age time.Duration, cursor string, limit int) (n int, next string, err error)

	// Compact gives room that is not used any more back to the file system, some at
	// a time, and reports whether there is more.
	Compact(ctx context.Context) (more bool, err error)
}

// Debtor is a [Runner] that can tell what its runs have left at vSphere without
// asking there.
type Debtor interface {
	// Owes reports whether something of the job is to be put back at vSphere. An
	// error says that it cannot be told.
	Owes(ctx context.Context, def job.Definition) (bool, error)
}

// Forgetting is told of jobs before they are forgotten because of their age or
// number; an error keeps them. The function that it returns is told which were
// forgotten.
type Forgetting func(ctx context.Context, jobs []models.Job) (forgotten func(ids []string, err error), err error)

const (
	pruneEvery = time.Hour
	prunePage  = 200 // jobs looked at, and told of, at a time
	pruneBatch = 25  // jobs in a transaction: one has up to MaxEvents events
)

// retain forgets what has been kept for long enough, until ctx ends.
func (m *Manager) retain(ctx context.Context) {
	if m.o.Retention.zero() || m.o.Pruner == nil {
		return
	}
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		if err := m.prune(ctx); err != nil && ctx.Err() == nil {
			m.log.Error("cannot forget jobs that have been kept for long enough; trying again later", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// prune forgets what has been kept for long enough.
func (m *Manager) prune(ctx context.Context) error {
	r := m.o.Retention
	p := pruning{m: m}
	var errs []error
	if r.Jobs > 0 {
		errs = append(errs, p.ended(ctx, []models.Status{models.StatusCompleted, models.StatusCancelled}, r.Jobs, -1))
	}
	if r.Failed > 0 {
		errs = append(errs, p.ended(ctx, []models.Status{models.StatusFailed}, r.Failed, -1))
	}
	if r.MaxJobs > 0 {
		errs = append(errs, p.surplus(ctx, r.MaxJobs))
	}
	if r.Events > 0 {
		errs = append(errs, p.events(ctx, r.Events))
	}
	for more := true; more && ctx.Err() == nil; {
		var err error
		if more, err = m.o.Pruner.Compact(ctx); err != nil {
			errs = append(errs, err)
			break
		}
	}
	if p.forgotten > 0 || p.logs > 0 {
		m.log.Info("jobs that have been kept for long enough are forgotten", "jobs", p.forgotten, "event_logs", p.logs)
	}
	if len(p.kept) > 0 {
		m.log.Warn("jobs are kept longer than configured, because something of theirs may have to be put back at vSphere: see hyper2kvm clean",
			"jobs", len(p.kept), "first", p.first)
	}
	return errors.Join(errs...)
}

// pruning is one look at all that may be forgotten.
type pruning struct {
	m         *Manager
	forgotten int             // jobs
	logs      int             // jobs whose events went
	kept      map[string]bool // by id: jobs that owe something
	first     string          // of these
}

// surplus forgets those that ended first until no more than limit jobs are left.
func (p *pruning) surplus(ctx context.Context, limit int) error {
	counts, err := p.m.store.Counts(ctx)
	if err != nil || counts.Total() <= limit {
		return err
	}
	final := []models.Status{models.StatusCompleted, models.StatusFailed, models.StatusCancelled}
	return p.ended(ctx, final, 0, counts.Total()-limit)
}

// ended forgets jobs that ended at least age ago, at most limit of them; -1 is all.
func (p *pruning) ended(ctx context.Context, statuses []models.Status, age time.Duration, limit int) error {
	for cursor := ""; limit != 0; {
		page, next, err := p.m.o.Pruner.Ended(ctx, statuses, age, cursor, prunePage)
		if err != nil {
			return err
		}
		free := slices.DeleteFunc(page, func(j models.Job) bool { return !p.free(ctx, j) })
		if limit > 0 && len(free) > limit {
			free = free[:limit]
		}
		n, err := p.forget(ctx, free, age)
		if err != nil {
			return err
		}
		if limit > 0 {
			limit -= n
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	return nil
}

// free reports whether nothing of a job that has ended is left to be done.
func (p *pruning) free(ctx context.Context, j models.Job) bool {
	id := j.Definition.ID
	p.m.mu.Lock()
	undoing := p.m.runs[id] != nil
	p.m.mu.Unlock()
	if undoing {
		return false
	}
	d, ok := p.m.runner.(Debtor)
	if !ok {
		return true
	}
	owes, err := d.Owes(ctx, j.Definition)
	if !owes && err == nil {
		return true
	}
	if p.kept == nil {
		p.kept, p.first = make(map[string]bool), id
	}
	p.kept[id] = true
	return false
}

// forget forgets jobs, and returns how many.
func (p *pruning) forget(ctx context.Context, free []models.Job, age time.Duration) (n int, err error) {
	if len(free) == 0 {
		return 0, ctx.Err()
	}
	tell, err := p.m.o.Forgetting(ctx, free)
	if err != nil {
		return 0, err
	}
	var gone []string
	for batch := range slices.Chunk(free, pruneBatch) {
		ids := make([]string, len(batch))
		for i, j := range batch {
			ids[i] = j.Definition.ID
		}
		var pruned []string
		if pruned, err = p.m.o.Pruner.Prune(ctx, ids, age); err != nil {
			break
		}
		gone = append(gone, pruned...)
		for _, id := range pruned {
			p.m.settling.forget(id)
			p.m.hub.changed(id)
		}
	}
	tell(gone, err)
	p.forgotten += len(gone)
	return len(gone), err
}

// events forgets the events of jobs that ended at least age ago.
func (p *pruning) events(ctx context.Context, age time.Duration) error {
	for cursor := ""; ; {
		n, next, err := p.m.o.Pruner.PruneEvents(ctx, age, cursor, pruneBatch)
		p.logs += n
		if cursor = next; err != nil || cursor == "" {
			return err
		}
	}
}

// untold is the Forgetting of a Manager that has none.
func untold(context.Context, []models.Job) (func([]string, error), error) {
	return func([]string, error) {}, nil
}
