package jobs

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// execution is one claim of one job, from the claim to its outcome.
type execution struct {
	m       *Manager
	log     *slog.Logger
	claim   Claim
	cancel  context.CancelCauseFunc // ends the run
	tracker *progress.Tracker

	meter    progress.Meter
	progress models.Progress // latest sample
	phase    progress.Phase  // last one written
	seq      int64           // the tracker's last event written
	until    time.Time       // end of the lease by this process's clock
}

// ending is what a Runner returned.
type ending struct {
	result models.Result
	err    error
}

// execute runs a claimed job and stores its outcome. base ends only when the
// manager gives up on its runs; ctx is the run's.
func (m *Manager) execute(base, ctx context.Context, c Claim, cancel context.CancelCauseFunc) {
	e := &execution{
		m:       m,
		log:     m.log.With("job", c.Lease.JobID, "epoch", c.Lease.Epoch),
		claim:   c,
		cancel:  cancel,
		tracker: progress.New(),
		phase:   progress.Pending,
		until:   time.Now().Add(m.o.Lease),
	}
	e.log.Info("job claimed", "vm", c.Job.Definition.VMPath, "failures", c.Failures)
	def, err := m.unseal(c)
	if err != nil {
		e.finish(base, e.outcome(ctx, ending{err: err}))
		return
	}
	ended := make(chan ending, 1)
	go func() {
		res, err := safely(e.log, func() (models.Result, error) {
			if c.Cancel != nil {
				return m.runner.CleanUp(ctx, def, c.Cancel.KeepParts, e.tracker)
			}
			return m.runner.Run(ctx, def, e.tracker)
		})
		ended <- ending{res, err}
	}()
	end := e.follow(base, ended)
	e.finish(base, e.outcome(ctx, end))
}

// follow reports a run's progress until it ends.
func (e *execution) follow(base context.Context, ended <-chan ending) ending {
	sample := time.NewTicker(e.m.o.Sample)
	defer sample.Stop()
	beat := time.NewTicker(e.m.o.Heartbeat)
	defer beat.Stop()
	for {
		changed := e.tracker.Changed()
		if e.tracker.Phase() != e.phase {
			e.sample(false)
			e.beat(base)
			beat.Reset(e.m.o.Heartbeat)
		}
		select {
		case end := <-ended:
			return end
		case <-changed:
		case <-sample.C:
			e.sample(true)
			if len(e.tracker.EventsAfter(e.seq)) > 0 {
				e.beat(base)
			}
		case <-beat.C:
			e.beat(base)
		}
	}
}

// sample reads the counters for queries and, with tick, for watchers.
func (e *execution) sample(tick bool) {
	snap := e.tracker.Snapshot()
	e.progress = progressOf(snap, e.meter.Observe(snap, time.Now()))
	e.m.hub.report(e.claim.Lease.JobID, e.progress, tick)
}

// beat writes what is new and extends the lease. It ends the run when a cancel
// was asked for, or when the lease is lost or may be.
func (e *execution) beat(base context.Context) {
	ctx, cancel := context.WithTimeout(base, e.m.o.Heartbeat)
	defer cancel()
	now := time.Now()
	phase := e.tracker.Phase()
	events, seq := e.news(phase)
	signals, err := e.m.store.Heartbeat(ctx, e.claim.Lease, Beat{
		Lease:    e.m.o.Lease,
		Progress: &e.progress,
		Events:   events,
	})
	switch {
	case errors.Is(err, ErrFenced):
		e.log.Warn("the lease on the job is lost; ending its run")
		e.cancel(models.ErrLeaseLost)
		return
	case err != nil:
		e.log.Error("cannot write a heartbeat; trying again", "error", err)
		if !time.Now().Before(e.until) {
			e.cancel(models.ErrLeaseLost)
		}
		return
	}
	e.until = now.Add(e.m.o.Lease)
	e.phase, e.seq = phase, seq
	if len(events) > 0 {
		e.m.hub.changed(e.claim.Lease.JobID)
	}
	if signals.Cancel != nil && e.claim.Cancel == nil { // else it is being cleaned up
		e.cancel(*signals.Cancel)
	}
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

// outcome decides what becomes of the job.
func (e *execution) outcome(ctx context.Context, end ending) Outcome {
	e.sample(false)
	events, _ := e.news(e.tracker.Phase())
	o := Outcome{Progress: &e.progress, Events: events}
	cause := context.Cause(ctx)
	var cancelled models.Cancelled
	failures := e.claim.Failures + 1
	cleanup := e.claim.Cancel != nil
	switch {
	case cleanup && cause != nil:
		o.Status = models.StatusPending // to be claimed and cleaned up again
	case cleanup && !end.result.Success:
		o.Status = models.StatusCancelled
		if end.err != nil {
			o.Error = end.err.Error() // what could not be cleaned up
		}
	case end.err == nil:
		o.Status = models.StatusCompleted
		o.Result = &end.result
		e.progress.Phase = string(progress.Done)
		e.progress.PercentComplete = 100
		e.progress.EstimatedRemaining = ""
	case errors.As(cause, &cancelled):
		o.Status = models.StatusCancelled
		if !errors.Is(end.err, context.Canceled) && !errors.As(end.err, &cancelled) {
			o.Error = end.err.Error() // what could not be cleaned up
		}
	case permanent(end.err):
		o.Status = models.StatusFailed
	case cause != nil:
		o.Status = models.StatusPending
	case failures > e.claim.Job.Definition.Options.Retries:
		o.Status = models.StatusFailed
	default:
		o.Status = models.StatusPending
		o.Failed = true
		o.Delay = e.m.o.retryDelay(failures)
		o.Error = end.err.Error()
	}
	if o.Status == models.StatusFailed {
		o.Failed = true
		o.Error = end.err.Error()
	}
	return o
}

// finish stores an outcome, and keeps trying until it is stored, the lease is
// lost, or the manager gives up.
func (e *execution) finish(base context.Context, o Outcome) {
	for {
		ctx, cancel := context.WithTimeout(base, e.m.o.Lease)
		err := e.m.store.Finish(ctx, e.claim.Lease, o)
		cancel()
		switch {
		case err == nil:
			e.log.Info("job released", "status", o.Status, "failed", o.Failed, "error", o.Error)
			return
		case errors.Is(err, ErrFenced):
			e.log.Warn("the job's outcome is dropped: its lease is lost", "status", o.Status)
			return
		}
		e.log.Error("cannot store a job's outcome; trying again", "status", o.Status, "error", err)
		select {
		case <-base.Done():
			return
		case <-time.After(e.m.o.Heartbeat):
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
	}
	if r.Remaining >= 0 {
		p.EstimatedRemaining = r.Remaining.String()
	}
	return p
}
