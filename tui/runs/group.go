package runs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/panics"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// DefaultParallel is how many jobs run at a time unless told otherwise.
const DefaultParallel = 2

// ErrLeft is the cause with which the context of [Backend.Export] ends when
// nobody looks any more: jobs that can go on without us do.
var ErrLeft = errors.New("left")

// Options of a [Group]. The zero value works.
type Options struct {
	Parallel int               // jobs at a time; 0 is [DefaultParallel], negative is no bound
	Limiter  *transfer.Limiter // bandwidth of all jobs together; nil is no limit
}

// Group is jobs that are run together. Its methods may be called from any
// goroutine.
type Group struct {
	backend  Backend
	parallel int
	limiter  *transfer.Limiter
	wake     chan struct{} // a state has changed; holds one

	mu      sync.Mutex
	changed chan struct{} // closed and replaced whenever a state changes
	jobs    []*entry
	log     []Event
}

// entry is a job and its state, under the group's mutex.
type entry struct {
	*Job          // of the latest attempt until it has ended, then of the next one
	status Status // all but Progress
	active bool   // Export has not returned
	remove bool   // Stopping, to remove what an earlier attempt left
	cancel context.CancelCauseFunc
	logged int64 // last event of the tracker that is in the group's log

	holding chan struct{} // full while Hold is called; not under the mutex
}

// NewGroup returns a group of jobs that wait to be run.
func NewGroup(b Backend, specs []Spec, o Options) *Group {
	g := &Group{
		backend: b, parallel: o.Parallel, limiter: o.Limiter,
		wake: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	if g.parallel == 0 {
		g.parallel = DefaultParallel
	}
	for _, s := range specs {
		g.jobs = append(g.jobs, &entry{
			Job:     &Job{Spec: s, Tracker: progress.New(), Limiter: transfer.NewLimiter(0, o.Limiter)},
			status:  Status{Spec: s, State: Waiting},
			holding: make(chan struct{}, 1),
		})
	}
	return g
}

// Run runs the jobs until ctx ends, which cancels those that are running, with
// the cause of ctx. It returns when nothing is left of any of them.
func (g *Group) Run(ctx context.Context) {
	var active sync.WaitGroup
	for {
		g.start(ctx, &active)
		select {
		case <-g.wake:
		case <-ctx.Done():
			active.Wait()
			return
		}
	}
}

// start starts waiting jobs while there are places, and the removal of what
// cancelled ones have left.
func (g *Group) start(ctx context.Context, active *sync.WaitGroup) {
	g.mu.Lock()
	defer g.mu.Unlock()
	places := g.parallel
	for _, e := range g.jobs {
		if e.active && e.status.State != Paused {
			places--
		}
	}
	for _, e := range g.jobs {
		switch {
		case e.active || ctx.Err() != nil:
		case e.remove:
			g.launch(ctx, active, e, g.remove)
		case e.status.State == Waiting && (g.parallel < 0 || places > 0):
			places--
			e.status.State, e.status.Started = Running, time.Now()
			g.launch(ctx, active, e, g.backend.Export)
		}
	}
}

// remove has the backend clean up what a cancelled job left.
func (g *Group) remove(ctx context.Context, j *Job) (job.Result, error) {
	result, err := g.backend.Remove(ctx, j)
	if err == nil && !result.Success {
		err = fmt.Errorf("%w: %w", context.Canceled, job.Cancelled{})
	}
	return result, err
}

// launch has the backend run a job, by one of its methods. g.mu is held.
func (g *Group) launch(ctx context.Context, active *sync.WaitGroup, e *entry, run func(context.Context, *Job) (job.Result, error)) {
	if e.Again {
		e.Tracker.ResetFiles()
	}
	e.active = true
	e.status.Ended, e.status.Err = time.Time{}, nil
	ctx, e.cancel = context.WithCancelCause(ctx)
	j, cancel := e.Job, e.cancel
	g.nudge()
	active.Go(func() {
		var result job.Result
		err := panics.Catch(func() (err error) { // the other VMs go on
			result, err = run(ctx, j)
			return err
		})
		cancel(nil)
		g.ended(e, result, err)
	})
}

// ended takes in what came of a job. The next attempt gets a Job of its own: a
// Hold of this one that comes too late does not reach it.
func (g *Group) ended(e *entry, result job.Result, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.nudge()
	s := &e.status
	if !e.remove { // which says nothing of how far the export had come
		s.Reached = e.Tracker.Phase()
	}
	e.active, e.remove = false, false
	e.Job = &Job{
		Spec: e.Spec, Tracker: e.Tracker, Limiter: transfer.NewLimiter(0, g.limiter), Again: true,
		daemon: daemonState{seen: e.daemon.seen},
	}
	switch {
	case err == nil:
		s.State, s.Result = Done, result
	case errors.Is(err, context.Canceled):
		s.State, s.Err = Cancelled, err
	default:
		s.State, s.Err = Failed, err
	}
	s.Ended = time.Now()
}

// Changed returns a channel that is closed when the state of a job next changes.
func (g *Group) Changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed
}

// nudge reports a changed state, and makes Run look. g.mu is held.
func (g *Group) nudge() {
	close(g.changed)
	g.changed = make(chan struct{})
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// Statuses returns every job as it is now, in their order, and takes what their
// trackers have to tell into the log.
func (g *Group) Statuses() []Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]Status, len(g.jobs))
	for i, e := range g.jobs {
		out[i] = e.status
		out[i].Progress = e.Tracker.Snapshot()
		for _, ev := range e.Tracker.EventsAfter(e.logged) {
			g.log = append(g.log, Event{Job: e.Name, Event: ev})
			e.logged = ev.Seq
		}
	}
	if over := len(g.log) - maxLog; over > 0 {
		g.log = slices.Delete(g.log, 0, over)
	}
	return out
}

// maxLog bounds the log of a group.
const maxLog = 1000

// Log returns the latest events, at most n, the oldest first. [Group.Statuses]
// brings it up to date.
func (g *Group) Log(n int) []Event {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.log[max(len(g.log)-n, 0):])
}

// Pause holds job i, if it waits or runs.
func (g *Group) Pause(ctx context.Context, i int) error {
	g.mu.Lock()
	e := g.jobs[i]
	running := e.status.State == Running
	if !running && e.status.State != Waiting {
		g.mu.Unlock()
		return nil
	}
	e.status.State = Paused
	g.nudge()
	g.mu.Unlock()
	if !running {
		return nil
	}
	return g.hold(ctx, e)
}

// hold brings the flow of a job in line with its state. That is the state of
// now: of calls that meet, the last one decides, whatever made it.
func (g *Group) hold(ctx context.Context, e *entry) error {
	select {
	case e.holding <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-e.holding }()
	g.mu.Lock()
	j, state, active := e.Job, e.status.State, e.active
	g.mu.Unlock()
	if !active || state != Paused && state != Running {
		return nil
	}
	err := g.backend.Hold(ctx, j, state == Paused)
	if err == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if e.Job == j && e.status.State == Paused {
		e.status.State = Running
		g.nudge()
	}
	return fmt.Errorf("pause %s: %w", j.Name, err)
}

// Resume lets a paused job go on, and runs a failed or cancelled one again.
func (g *Group) Resume(ctx context.Context, i int) error {
	g.mu.Lock()
	e := g.jobs[i]
	state := e.status.State
	if state != Paused && state != Failed && state != Cancelled {
		g.mu.Unlock()
		return nil
	}
	active := e.active
	if active {
		e.status.State = Running
	} else {
		e.status.State = Waiting
	}
	g.nudge()
	g.mu.Unlock()
	if !active {
		return nil
	}
	return g.hold(ctx, e)
}

// Cancel ends job i and removes its part files, also those of an earlier
// attempt. It does not wait.
func (g *Group) Cancel(i int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stop(g.jobs[i], job.Cancelled{})
}

// Stop ends every job that has not ended and keeps part files, so that a later
// run resumes from them. It does not wait.
func (g *Group) Stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.jobs {
		g.stop(e, job.Cancelled{KeepParts: true})
	}
}

func (g *Group) stop(e *entry, why job.Cancelled) {
	s := &e.status
	switch {
	case s.State.Ended(), e.remove:
	case e.active:
		s.State = Stopping
		e.cancel(why)
	case e.Again && !why.KeepParts:
		s.State, e.remove = Stopping, true
	default:
		s.State, s.Ended, s.Err = Cancelled, time.Now(), why
	}
	g.nudge()
}

// Ended reports whether every job has come to an end.
func (g *Group) Ended() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !slices.ContainsFunc(g.jobs, func(e *entry) bool { return !e.status.State.Ended() })
}
