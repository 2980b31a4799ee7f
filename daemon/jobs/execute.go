package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// execution is one claim of one job, from the claim to its outcome.
type execution struct {
	m       *Manager
	log     *slog.Logger
	run     *run
	claimed Claimed
	tracker *progress.Tracker

	meter    progress.Meter
	progress models.Progress // latest sample
	tally    progress.Tally  // what the observer was told last
	began    time.Time
	phase    progress.Phase  // last one written
	seq      int64           // the tracker's last event written
	until    time.Time       // end of the claim by this process's clock
	fence    *time.Timer     // ends the run before that; nil where nobody else claims jobs
	written  models.Progress // with the last heartbeat
	trouble  lastTrouble     // that heartbeats had
}

// ending is what a Runner returned.
type ending struct {
	result job.Result
	err    error
}

// execute runs a claimed job and stores its outcome. base ends only when the
// manager gives up on its runs; ctx is the run's.
func (m *Manager) execute(base, ctx context.Context, r *run, c Claimed) {
	e := &execution{
		m:       m,
		log:     m.log.With("job", c.Claim.JobID, "epoch", c.Claim.Epoch),
		run:     r,
		claimed: c,
		tracker: progress.New(),
		phase:   progress.Pending,
		until:   r.until,
		began:   time.Now(),
	}
	if m.o.Notices != nil {
		e.fence = e.fenced()
		defer e.fence.Stop()
	}
	m.o.Observer.Claimed(c, queued(c, e.began))
	e.log.Info("job claimed", "vm", c.Job.Definition.VMPath, "failures", c.Failures, "deaths", c.Deaths)
	if c.Deaths >= m.o.MaxDeaths {
		e.finish(base, buried(c))
		return
	}
	def, err := m.unseal(c)
	if err != nil {
		e.finish(base, e.outcome(ctx, ending{err: err}))
		return
	}
	m.settling.yield(c.Claim.JobID)
	ended := make(chan ending, 1)
	go func() {
		res, err := safely(e.log, func() (job.Result, error) {
			if r.cleanup {
				return e.cleanUp(ctx, def)
			}
			e.sayWhereItGoesOn(ctx, def)
			return m.runner.Run(ctx, def, e.tracker)
		})
		ended <- ending{res, err}
	}()
	end, late := e.follow(base, ctx, ended)
	r.late.Store(late)
	e.finish(base, e.outcome(ctx, end))
	if !late {
		return
	}
	r.cancel(end.err) // of a clean-up; a run knows already
	m.hub.ended(c.Claim.JobID)
	select {
	case <-ended:
	case <-base.Done():
	}
}

// cleanUp cleans up after a cancel, and waits for a vCenter that is away until
// ctx ends.
func (e *execution) cleanUp(ctx context.Context, def job.Definition) (job.Result, error) {
	for {
		res, err := e.m.runner.CleanUp(ctx, def, e.claimed.Cancel.KeepParts, e.tracker)
		if unavailable(err) == nil || sleep.For(ctx, e.m.o.ProbeMin) != nil {
			return res, err
		}
	}
}

// buried is the outcome of a job that the daemon did not survive too often.
func buried(c Claimed) Outcome {
	o := Outcome{Status: models.StatusFailed, Failed: true, Error: fmt.Sprintf(
		"the daemon died %d times in a row while it ran this job, the last time in phase %s at %.0f%%; "+
			"look for the reason in the system's log (out of memory?) before it is retried",
		c.Deaths, c.Job.Progress.Phase, c.Job.Progress.PercentComplete)}
	if c.Cancel != nil {
		o.Status, o.Failed = models.StatusCancelled, false
	}
	return o
}

// follow reports a run's progress until it ends. late means that it was
// cancelled and did not end in time: the ending says so.
func (e *execution) follow(base, ctx context.Context, ended <-chan ending) (end ending, late bool) {
	sample := time.NewTicker(e.m.o.Sample)
	defer sample.Stop()
	beat := time.NewTicker(e.m.o.Heartbeat)
	defer beat.Stop()
	bounds, free := context.WithCancel(base)
	defer free()
	var overdue <-chan error
	stopped := ctx.Done()
	if e.run.cleanup {
		overdue = e.overdue(bounds)
	}
	for {
		changed := e.tracker.Changed()
		if e.tracker.Phase() != e.phase {
			e.sample(false)
			e.beat(base)
			beat.Reset(e.m.o.Heartbeat)
		}
		select {
		case end := <-ended:
			return end, false
		case err := <-overdue:
			return ending{err: err}, true
		case <-stopped:
			stopped = nil
			if errors.As(context.Cause(ctx), new(job.Cancelled)) {
				overdue = e.overdue(bounds)
			}
		case <-changed:
			if e.claimed.Deaths > 0 { // what finishes now may be all that this run gets done
				e.sample(false)
				if e.further() {
					e.beat(base)
				}
			}
		case <-e.run.look:
			e.beat(base)
			e.limit(base)
		case <-sample.C:
			e.sample(true)
			e.tell(base)
			if len(e.tracker.EventsAfter(e.seq)) > 0 || e.claimed.Deaths > 0 && e.further() {
				e.beat(base)
			}
		case <-beat.C:
			e.beat(base)
		}
	}
}

// further reports whether the run has got further than the store knows.
func (e *execution) further() bool {
	return e.progress.PercentComplete >= e.written.PercentComplete+1
}

// sample reads the counters for queries and, with tick, for watchers.
func (e *execution) sample(tick bool) {
	snap := e.tracker.Snapshot()
	e.count()
	e.progress = progressOf(snap, e.meter.Observe(snap, time.Now()))
	e.m.hub.report(e.claimed.Claim.JobID, e.progress, snap.Files, tick)
}

// beat writes what is new and extends the claim. It ends the run when a cancel
// was asked for, or when the claim is lost or may be.
func (e *execution) beat(base context.Context) {
	ctx, cancel := context.WithTimeout(base, e.m.o.Heartbeat)
	defer cancel()
	now := time.Now()
	phase := e.tracker.Phase()
	events, seq := e.news(phase)
	signals, err := e.m.store.Heartbeat(ctx, e.claimed.Claim, Beat{
		Hold:     e.m.o.Hold,
		Progress: &e.progress,
		Events:   events,
	})
	switch {
	case errors.Is(err, ErrFenced):
		e.log.Warn("the claim on the job is lost; ending its run")
		e.run.cancel(job.ErrClaimLost)
		return
	case err != nil:
		if e.trouble.tell(err) {
			e.log.Error("cannot write a heartbeat; trying again", "error", err)
		}
		if e.ends(err) {
			e.run.cancel(job.ErrClaimLost)
		}
		return
	}
	e.trouble.tell(nil)
	e.until = now.Add(e.m.o.Hold)
	if e.fence != nil {
		e.fence.Reset(e.m.left(e.until))
	}
	e.phase, e.seq, e.written = phase, seq, e.progress
	if signals.Deaths == 0 && !e.run.cleared.Swap(true) {
		e.m.nudge()
	}
	if len(events) > 0 {
		e.m.hub.changed(e.claimed.Claim.JobID)
	}
	if signals.Cancel != nil && !e.run.cleanup { // else it is being cleaned up
		e.run.cancel(*signals.Cancel)
	}
}

// fenced returns what ends the run in time when its claim cannot be renewed, whatever
// the heartbeat is waiting for: nothing here is running any more when another daemon
// can claim the job.
func (e *execution) fenced() *time.Timer {
	return time.AfterFunc(e.m.left(e.until), func() {
		e.log.Warn("the claim on the job could not be renewed; ending its run before another daemon may have it")
		e.run.cancel(job.ErrClaimLost)
	})
}

// left is for how long a run may go on whose claim holds until then: up to two
// heartbeats before.
func (m *Manager) left(until time.Time) time.Duration {
	return time.Until(until) - 2*m.o.Heartbeat
}

// ends reports whether the claim is lost that could not be renewed because of err.
// While a store is in trouble that nobody else uses, it gives the job to nobody else.
func (e *execution) ends(err error) bool {
	return !errors.As(err, new(*StoreError)) && time.Until(e.until) <= 0
}

// news returns what happened since the last write, as events for the log, and
// the tracker's last event among them.
func (e *execution) news(phase progress.Phase) ([]models.Event, int64) {
	var events []models.Event
	seq := e.seq
	for _, t := range e.tracker.EventsAfter(e.seq) {
		events = append(events, models.Event{
			Type:  models.EventLog,
			Time:  t.Time.UTC(),
			Level: string(t.Level),
			File:  t.File,
			Text:  t.Text,
		})
		seq = t.Seq
	}
	if phase != e.phase {
		events = append(events, models.Event{
			Type:   models.EventState,
			Time:   time.Now().UTC(),
			Status: models.StatusRunning,
			Phase:  string(phase),
		})
	}
	return events, seq
}

// finish stores an outcome, and keeps trying until it is stored, the claim is
// lost, or the manager gives up.
func (e *execution) finish(base context.Context, o Outcome) {
	var trouble lastTrouble
	for {
		ctx, cancel := context.WithTimeout(base, e.m.o.Hold)
		err := e.m.store.Finish(ctx, e.claimed.Claim, o)
		cancel()
		switch {
		case err == nil:
			if o.Status.Final() && (o.Error != "" || o.Result != nil && len(o.Result.Owed) > 0) {
				e.m.settling.add(e.claimed.Claim.JobID)
			}
			e.m.o.Observer.Finished(o, time.Since(e.began))
			if o.Status.Final() {
				e.m.dropNow(base)
			}
			e.log.Info("job released", "status", o.Status, "failed", o.Failed, "error", o.Error)
			return
		case errors.Is(err, ErrFenced):
			e.log.Warn("the job's outcome is dropped: its claim is lost", "status", o.Status)
			return
		}
		if trouble.tell(err) {
			e.log.Error("cannot store a job's outcome; trying again", "status", o.Status, "error", err)
		}
		if sleep.For(base, e.m.o.Heartbeat) != nil {
			return
		}
	}
}

// progressOf puts a run's counters into the contract's form.
func progressOf(s progress.Snapshot, r progress.Reading) models.Progress {
	p := models.Progress{
		Phase:           string(s.Phase),
		CurrentFile:     s.Current(),
		FilesDownloaded: s.Finished(),
		TotalFiles:      len(s.Files),
		BytesDownloaded: s.Received(),
		TotalBytes:      s.Total(),
		PercentComplete: s.Percent(),
		Activity:        s.Activity,
		BytesPerSecond:  int64(r.Rate),
	}
	if r.Remaining >= 0 {
		p.EstimatedRemaining = r.Remaining.String()
	}
	return p
}
