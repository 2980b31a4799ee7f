package jobs

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// Observer hears what becomes of runs, for those who count. Its methods are called
// from any goroutine, and must return at once.
type Observer interface {
	// Claimed is told of each claim. queued is for how long the job has waited
	// since it was accepted, and negative when that is not its first claim.
	Claimed(c Claimed, queued time.Duration)

	// Counted is told, about once a second for each run, what the run has counted
	// since it was told last.
	Counted(t progress.Tally)

	// Finished is told how a run ended, and how long it took, once the store
	// knows.
	Finished(o Outcome, took time.Duration)
}

// Observers tells each of several, in their order.
type Observers []Observer

// Claimed implements [Observer].
func (o Observers) Claimed(c Claimed, queued time.Duration) {
	for _, one := range o {
		one.Claimed(c, queued)
	}
}

// Counted implements [Observer].
func (o Observers) Counted(t progress.Tally) {
	for _, one := range o {
		one.Counted(t)
	}
}

// Finished implements [Observer].
func (o Observers) Finished(out Outcome, took time.Duration) {
	for _, one := range o {
		one.Finished(out, took)
	}
}

// unobserved is the Observer of a Manager that has none.
type unobserved struct{}

func (unobserved) Claimed(Claimed, time.Duration)  {}
func (unobserved) Counted(progress.Tally)          {}
func (unobserved) Finished(Outcome, time.Duration) {}

// queued is for how long a job waited that is claimed now, and negative when it
// was claimed before.
func queued(c Claimed, now time.Time) time.Duration {
	if c.Claim.Epoch != 1 || c.Job.Definition.CreatedAt.IsZero() {
		return -1
	}
	return max(0, now.Sub(c.Job.Definition.CreatedAt))
}

// count tells the observer what the run has counted since it was told last.
func (e *execution) count() {
	now := e.tracker.Tally()
	e.m.o.Observer.Counted(now.Since(e.tally))
	e.tally = now
}

// askAgain is after how long at most another daemon is asked again that may not have heard:
// heartbeats may be minutes apart.
const askAgain = 10 * time.Second

// Files returns how far the files of a running job are, and how many there are beside. A
// job that runs at another daemon is asked for there: what that tells is there with one of
// the next calls, as long as they go on. What cannot be told is left out, the finished ones
// first.
func (m *Manager) Files(ctx context.Context, id string) (files []models.FileProgress, unlisted int) {
	if m.hub.live(id) != nil {
		return filesOf(m.hub.liveFiles(id)), 0
	}
	if m.o.Notices == nil {
		return nil, 0
	}
	told, ask := m.hub.want(id, min(m.o.Heartbeat, askAgain), m.lately())
	if ask {
		m.tell(ctx, Notice{Type: NoticeWatched, Job: id, Detail: true})
	}
	if told.elsewhere(m.lately()) == nil {
		return nil, 0
	}
	return told.its, told.unlisted
}

// filesOf puts what is counted of files into the form in which it is shown.
func filesOf(all []progress.FileSnapshot) []models.FileProgress {
	var out []models.FileProgress
	for _, f := range all {
		p := models.FileProgress{Name: f.Name, State: string(f.State), Bytes: f.Done(), Total: f.Size(), Retries: f.Retries, Cause: f.Cause}
		if p.Total > 0 {
			p.PercentComplete = min(100, 100*float64(p.Bytes)/float64(p.Total))
		}
		out = append(out, p)
	}
	return out
}

// Events returns the kept events of a job whose IDs are greater than after, in order,
// or [ErrNotFound].
func (m *Manager) Events(ctx context.Context, id string, after int64) ([]models.Event, error) {
	return m.store.Events(ctx, id, after, 0)
}

// Activity is a run that goes on, as it is now.
type Activity struct {
	JobID   string
	VCenter string // see [job.Definition.VCenterKey]
	Phase   string
	Cleanup bool // it only cleans up after a cancel
}

// Running lists the runs of this manager by job ID.
func (m *Manager) Running() []Activity {
	m.mu.Lock()
	out := make([]Activity, 0, len(m.runs))
	for id, r := range m.runs {
		out = append(out, Activity{JobID: id, VCenter: r.vcenter, Cleanup: r.cleanup, Phase: string(progress.Pending)})
	}
	m.mu.Unlock()
	for i, a := range out {
		if p := m.hub.live(a.JobID); p != nil {
			out[i].Phase = p.Phase
		}
	}
	slices.SortFunc(out, func(a, b Activity) int { return cmp.Compare(a.JobID, b.JobID) })
	return out
}
