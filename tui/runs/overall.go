package runs

import (
	"cmp"
	"context"
	"time"

	"github.com/hyper2kvm/hyper2kvm/progress"
)

// RunToEnd is [Group.Run] that returns by itself once every job has come to an end.
func (g *Group) RunToEnd(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		for {
			changed := g.Changed()
			if g.Ended() {
				stop()
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	g.Run(ctx)
}

// overallPause is how often the overall progress is brought up to date.
const overallPause = 500 * time.Millisecond

// unknownSize stands for the size of a VM as long as neither its own nor that of any
// other has been learned, in bytes.
const unknownSize = 1 << 20

// Overall counts the whole group into one tracker, for displays of one run, until ctx
// ends; see [Overall].
func (g *Group) Overall(ctx context.Context, t *progress.Tracker) {
	o := NewOverall(g.Statuses(), t)
	seen := make([]int64, len(o.files)) // last event of each job
	t.SetPhase(progress.Exporting)
	tick := time.NewTicker(overallPause)
	defer tick.Stop()
	for ended := false; ; {
		changed := g.Changed()
		o.Count(g.Statuses())
		for i, events := range g.eventsAfter(seen) {
			for _, ev := range events {
				o.files[i].Event(ev.Level, ev.Text)
			}
		}
		if ended {
			return
		}
		select {
		case <-tick.C:
		case <-changed:
		case <-ctx.Done():
			ended = true // with the last state counted
		}
	}
}

// Overall is all jobs of a group in one tracker: each VM is a file of it, from the
// start and to the end, in bytes of what the VM has on its datastores. How much of that
// is done is the VM's own percentage, so the total is of one measure whatever was known
// of the disks beforehand; it never falls.
type Overall struct {
	files []*progress.File
	was   []progress.Snapshot // of each job, as counted
}

// NewOverall counts jobs into t from now on.
func NewOverall(jobs []Status, t *progress.Tracker) *Overall {
	t.Steady()
	o := &Overall{was: make([]progress.Snapshot, len(jobs))}
	for i, size := range sizes(jobs) {
		o.files = append(o.files, t.AddFile(jobs[i].Name, size))
	}
	o.Count(jobs)
	return o
}

// Count brings the tracker up to date with the jobs, which are those of NewOverall.
func (o *Overall) Count(jobs []Status) {
	for i, size := range sizes(jobs) {
		f, s := o.files[i], jobs[i]
		f.SetTotal(size)
		if n := s.Progress.Received() - o.was[i].Received(); n > 0 {
			f.AddReceived(n)
		}
		part := func(share float64) int64 { return int64(float64(size) * share) }
		switch s.State {
		case Done:
			f.SetPosition(size)
		case Waiting:
			f.SetPosition(0)
		default:
			if had := s.Progress.Resumed(); had > 0 {
				f.SetResumed(0, part(had))
			}
			f.SetPosition(part(s.Progress.Percent() / 100))
		}
		retries, cause := s.Progress.Retries()
		for before, _ := o.was[i].Retries(); before < retries; before++ {
			f.AddRetryFor(cmp.Or(cause, "other"))
		}
		f.SetState(fileState(s.State))
		o.was[i] = s.Progress
	}
}

// sizes is how much each job counts, in bytes. A VM of which nothing is known yet
// counts as the mean of those whose size was learned on the way.
func sizes(jobs []Status) []int64 {
	var learned, n int64
	for _, s := range jobs {
		if total := s.Progress.Total(); s.Size <= 0 && total > 0 {
			learned, n = learned+total, n+1
		}
	}
	mean := int64(unknownSize)
	if n > 0 {
		mean = learned / n
	}
	out := make([]int64, len(jobs))
	for i, s := range jobs {
		switch total := s.Progress.Total(); {
		case s.Size > 0:
			out[i] = s.Size
		case total > 0:
			out[i] = total
		default:
			out[i] = max(mean, 1)
		}
	}
	return out
}

// eventsAfter returns the events of each job after the given ones, and moves those on.
func (g *Group) eventsAfter(seen []int64) [][]progress.Event {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([][]progress.Event, len(g.jobs))
	for i, e := range g.jobs {
		out[i] = e.Tracker.EventsAfter(seen[i])
		if n := len(out[i]); n > 0 {
			seen[i] = out[i][n-1].Seq
		}
	}
	return out
}

// fileState is a job's state as that of a file.
func fileState(s State) progress.FileState {
	switch s {
	case Done:
		return progress.Complete
	case Failed, Cancelled:
		return progress.Failed
	case Running, Stopping:
		return progress.Active
	}
	return progress.Waiting
}
