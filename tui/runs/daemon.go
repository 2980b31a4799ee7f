package runs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// cancelTime bounds how long we wait for a daemon to clean up a cancelled job.
const cancelTime = 5 * time.Minute

// Daemon follows and steers jobs that a daemon runs. Their Specs have an ID.
type Daemon struct{ Client *client.Client }

// daemonState is what a [Daemon] knows of a job beside what the job says.
type daemonState struct {
	seen int64 // last event of the daemon's log that was passed on

	mu       sync.Mutex
	released chan struct{} // not nil while the job is held; closed when it may go on
}

// hold notes that the job is held, or lets it go on.
func (s *daemonState) hold(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case on && s.released == nil:
		s.released = make(chan struct{})
	case !on && s.released != nil:
		close(s.released)
	}
}

// pause returns the channel that is closed when the job may go on, nil when it
// is not held.
func (s *daemonState) pause() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.released
}

// resumed notes that the hold is over.
func (s *daemonState) resumed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released = nil
}

// Export follows a job to its end; one that was run before is tried again
// first, and so is one that was held. A cancelled context cancels the job if its
// cause is a [models.Cancelled]; otherwise the job goes on without us.
func (d Daemon) Export(ctx context.Context, job *Job) (models.Result, error) {
	for again := job.Again; ; again = true {
		if again {
			if _, err := d.Client.Retry(ctx, job.ID); err != nil && !errors.Is(err, client.ErrConflict) {
				return models.Result{}, err
			}
		}
		err := d.follow(ctx, job)
		var cancelled models.Cancelled
		if cause := context.Cause(ctx); errors.As(cause, &cancelled) {
			if err := d.cancel(ctx, job, cancelled.KeepParts); err != nil {
				return models.Result{}, fmt.Errorf("cancel the job: %w", err)
			}
			return models.Result{}, fmt.Errorf("%w: %w", context.Canceled, cause)
		}
		if err != nil {
			return models.Result{}, err
		}
		released := job.daemon.pause()
		if released == nil {
			return d.outcome(ctx, job)
		}
		select {
		case <-released:
			job.daemon.resumed()
		case <-ctx.Done():
			// It was cancelled when it was held, with its parts kept.
			return models.Result{}, fmt.Errorf("%w: %w", context.Canceled, models.Cancelled{KeepParts: true})
		}
	}
}

// follow passes a job's events on until it has ended.
func (d Daemon) follow(ctx context.Context, job *Job) error {
	m := mirror{t: job.Tracker}
	for ev, err := range d.Client.Watch(ctx, job.ID) {
		if err != nil {
			return err
		}
		if ev.ID > 0 && ev.ID <= job.daemon.seen {
			continue
		}
		job.daemon.seen = max(job.daemon.seen, ev.ID)
		m.take(ev)
	}
	return nil
}

// outcome is what came of a job that has ended.
func (d Daemon) outcome(ctx context.Context, job *Job) (models.Result, error) {
	j, err := d.Client.Job(ctx, job.ID)
	switch {
	case err != nil:
		return models.Result{}, err
	case j.Status == models.StatusCompleted && j.Result != nil:
		return *j.Result, nil
	case j.Status == models.StatusCompleted:
		return models.Result{}, nil
	case j.Status == models.StatusCancelled:
		return models.Result{}, fmt.Errorf("%w: cancelled at the daemon", context.Canceled)
	case j.Error != "":
		return models.Result{}, errors.New(j.Error)
	}
	return models.Result{}, fmt.Errorf("the job is %s", j.Status)
}

// Hold cancels a job with its part files kept, or has Export try it again.
func (d Daemon) Hold(ctx context.Context, job *Job, hold bool) error {
	job.daemon.hold(hold)
	if !hold {
		return nil
	}
	if err := d.cancel(ctx, job, true); err != nil {
		job.daemon.resumed()
		return err
	}
	return nil
}

// cancel returns when the job's run has ended, also when ctx has.
func (d Daemon) cancel(ctx context.Context, job *Job, keepParts bool) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
	defer stop()
	r, err := d.Client.Cancel(ctx, []string{job.ID}, keepParts)
	if err != nil {
		return err
	}
	if text, failed := r.Errors[job.ID]; failed {
		return errors.New(text)
	}
	return nil
}

// mirror makes a tracker show what a daemon tells of a job: one file that stands
// for all of them.
type mirror struct {
	t        *progress.Tracker
	file     *progress.File
	received int64
}

func (m *mirror) take(ev models.Event) {
	switch ev.Type {
	case models.EventState:
		if ev.Phase != "" {
			m.t.SetPhase(progress.Phase(ev.Phase))
		}
		if ev.Error != "" {
			m.t.Event(progress.Warning, "", ev.Error)
		}
		if ev.Status == models.StatusCompleted {
			m.t.SetPhase(progress.Done)
		}
	case models.EventLog:
		level := progress.Info
		if ev.Level == string(progress.Warning) {
			level = progress.Warning
		}
		m.t.Event(level, ev.File, ev.Text)
	case models.EventProgress:
		if ev.Progress != nil {
			m.progress(*ev.Progress)
		}
	}
}

func (m *mirror) progress(p models.Progress) {
	if p.Phase != "" {
		m.t.SetPhase(progress.Phase(p.Phase))
	}
	if p.TotalBytes <= 0 {
		return
	}
	if m.file == nil {
		m.t.ResetFiles()
		name := "all files"
		if p.TotalFiles == 1 && p.CurrentFile != "" {
			name = p.CurrentFile
		}
		m.file = m.t.AddFile(name, p.TotalBytes)
	}
	m.file.SetTotal(p.TotalBytes)
	m.file.SetState(progress.Active)
	m.file.SetPosition(int64(p.PercentComplete / 100 * float64(p.TotalBytes)))
	m.file.AddReceived(max(p.BytesDownloaded-m.received, 0))
	m.received = max(p.BytesDownloaded, m.received)
	if p.PercentComplete >= 100 {
		m.file.SetState(progress.Complete)
	}
}
