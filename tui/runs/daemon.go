package runs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// cancelTime bounds how long we wait for a daemon to clean up a cancelled job.
const cancelTime = 5 * time.Minute

// Daemon follows and steers jobs that a daemon runs. Their Specs have an ID.
type Daemon struct{ Client *client.Client }

// daemonState is what a [Daemon] knows of a job beside what the job says.
type daemonState struct {
	seen int64 // last event of the daemon's log that was passed on

	// asking is held while the daemon is asked to stop the job or to try it
	// again, so that one request does not overtake another.
	asking sync.Mutex

	mu     sync.Mutex
	paused *pause // nil while the job is not held
}

// pause is one time that a job is held.
type pause struct {
	over  chan struct{} // closed when it is over
	again bool          // when it is over: the job was stopped and is to be tried again
}

// hold notes that the job is held.
func (s *daemonState) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused == nil || s.paused.again {
		s.paused = &pause{over: make(chan struct{})}
	}
}

// release ends the pause, if there is one that has not ended. The job is tried
// again once its run has ended.
func (s *daemonState) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused != nil && !s.paused.again {
		s.paused.again = true
		close(s.paused.over)
	}
}

// giveUp ends a pause for which the job could not be stopped: what became of the
// job is not the pause's doing.
func (s *daemonState) giveUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused != nil && !s.paused.again {
		close(s.paused.over)
	}
	s.paused = nil
}

// held returns the pause that has not ended, or nil.
func (s *daemonState) held() *pause {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused != nil && s.paused.again {
		return nil
	}
	return s.paused
}

// wait returns when the job is not held, and reports whether it is to be tried
// again because it was.
func (s *daemonState) wait(ctx context.Context) (again bool, err error) {
	s.mu.Lock()
	p := s.paused
	s.mu.Unlock()
	if p == nil {
		return false, nil
	}
	select {
	case <-p.over:
	case <-ctx.Done():
		// It was cancelled when it was held, with its parts kept.
		return false, fmt.Errorf("%w: %w", context.Canceled, job.Cancelled{KeepParts: true})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused == p {
		s.paused = nil
	}
	return p.again, nil
}

// Export follows a job to its end; one that was run before is tried again
// first, and so is one that was held. A cancelled context cancels the job if its
// cause is a [job.Cancelled]; otherwise the job goes on without us.
func (d Daemon) Export(ctx context.Context, j *Job) (job.Result, error) {
	err := d.run(ctx, j)
	var cancelled job.Cancelled
	if cause := context.Cause(ctx); errors.As(cause, &cancelled) {
		if err := d.drop(ctx, j, cancelled.KeepParts); err != nil {
			return job.Result{}, fmt.Errorf("cancel the job: %w", err)
		}
		return job.Result{}, fmt.Errorf("%w: %w", context.Canceled, cause)
	}
	if err != nil {
		return job.Result{}, err
	}
	return d.outcome(ctx, j)
}

// Remove has the daemon cancel a job and clean up what it left.
func (d Daemon) Remove(ctx context.Context, j *Job) (job.Result, error) {
	if err := d.drop(ctx, j, false); err != nil {
		return job.Result{}, fmt.Errorf("cancel the job: %w", err)
	}
	return job.Result{}, nil
}

// run follows a job through its pauses until it has ended.
func (d Daemon) run(ctx context.Context, j *Job) error {
	for again := j.Again; ; {
		if again {
			if err := d.retry(ctx, j); err != nil {
				return err
			}
		}
		if err := d.follow(ctx, j); err != nil {
			return err
		}
		var err error
		if again, err = j.daemon.wait(ctx); err != nil || !again {
			return err
		}
	}
}

// retry has the daemon try a job again, unless it is held once more or did not
// end.
func (d Daemon) retry(ctx context.Context, j *Job) error {
	j.daemon.asking.Lock()
	defer j.daemon.asking.Unlock()
	if j.daemon.held() != nil {
		return nil
	}
	if _, err := d.Client.Retry(ctx, j.ID); err != nil && !errors.Is(err, client.ErrConflict) {
		return err
	}
	return nil
}

// follow passes a job's events on until it has ended.
func (d Daemon) follow(ctx context.Context, j *Job) error {
	m := mirror{t: j.Tracker}
	for ev, err := range d.Client.Watch(ctx, j.ID) {
		if err != nil {
			return err
		}
		if ev.ID > 0 && ev.ID <= j.daemon.seen {
			continue
		}
		j.daemon.seen = max(j.daemon.seen, ev.ID)
		m.take(ev)
	}
	return nil
}

// outcome is what came of a job that has ended.
func (d Daemon) outcome(ctx context.Context, entry *Job) (job.Result, error) {
	j, err := d.Client.Job(ctx, entry.ID)
	switch {
	case err != nil:
		return job.Result{}, err
	case j.Status == models.StatusCompleted && j.Result != nil:
		return *j.Result, nil
	case j.Status == models.StatusCompleted:
		return job.Result{}, nil
	case j.Status == models.StatusCancelled:
		return job.Result{}, fmt.Errorf("%w: cancelled at the daemon", context.Canceled)
	case j.Error != "":
		return job.Result{}, errors.New(j.Error)
	}
	return job.Result{}, fmt.Errorf("the job is %s", j.Status)
}

// Hold cancels a job with its part files kept, or has Export try it again.
func (d Daemon) Hold(ctx context.Context, j *Job, hold bool) error {
	if !hold {
		j.daemon.release()
		return nil
	}
	j.daemon.asking.Lock()
	defer j.daemon.asking.Unlock()
	j.daemon.hold()
	if err := d.cancel(ctx, j, true); err != nil {
		j.daemon.giveUp()
		return err
	}
	return nil
}

// cancel returns when the job's run has ended, also when ctx has.
func (d Daemon) cancel(ctx context.Context, j *Job, keepParts bool) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
	defer stop()
	r, err := d.Client.Cancel(ctx, []string{j.ID}, keepParts)
	if err != nil {
		return err
	}
	if text, failed := r.Errors[j.ID]; failed {
		return errors.New(text)
	}
	return nil
}

// drop cancels a job for good. A daemon does not touch a job that has ended, and
// one that is held or has failed is such a job: to get its part files removed it
// is first tried again.
func (d Daemon) drop(ctx context.Context, j *Job, keepParts bool) error {
	j.daemon.asking.Lock()
	defer j.daemon.asking.Unlock()
	if !keepParts {
		if err := d.revive(ctx, j); err != nil {
			return err
		}
	}
	return d.cancel(ctx, j, keepParts)
}

// revive has a daemon try a job again that was cancelled or has failed.
func (d Daemon) revive(ctx context.Context, entry *Job) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
	defer stop()
	j, err := d.Client.Job(ctx, entry.ID)
	if err != nil {
		return err
	}
	if j.Status != models.StatusCancelled && j.Status != models.StatusFailed {
		return nil
	}
	_, err = d.Client.Retry(ctx, entry.ID)
	return err
}

// mirror makes a tracker show what a daemon reports of a job: one file that stands
// for all of them.
type mirror struct {
	t        *progress.Tracker
	file     *progress.File
	received int64
	activity *progress.Activity // that goes on, or nil
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

// doing shows what the job does that its counters do not show.
func (m *mirror) doing(text string) {
	switch {
	case text == "" && m.activity != nil:
		m.activity.End()
		m.activity = nil
	case text != "" && m.activity == nil:
		m.activity = m.t.Begin(text)
	case text != "":
		m.activity.Set(text)
	}
}

func (m *mirror) progress(p models.Progress) {
	if p.Phase != "" {
		m.t.SetPhase(progress.Phase(p.Phase))
	}
	m.doing(p.Activity)
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
