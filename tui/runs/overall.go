package runs

import (
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

// unknownSize stands for the size of a VM that is not known, in bytes.
const unknownSize = 1 << 20

// Overall counts the whole group into one tracker, for displays of one run: each VM
// is a file of it, from the start, in bytes of what the VM has on its datastores. It
// returns when ctx ends, with the last state counted.
func (g *Group) Overall(ctx context.Context, t *progress.Tracker) {
	o := overall{group: g, to: t}
	for _, s := range g.Statuses() {
		o.files = append(o.files, t.AddFile(s.Name, o.size(s)))
	}
	o.received, o.seen = make([]int64, len(o.files)), make([]int64, len(o.files))
	t.SetPhase(progress.Exporting)
	tick := time.NewTicker(overallPause)
	defer tick.Stop()
	for {
		changed := g.Changed()
		o.count()
		select {
		case <-tick.C:
		case <-changed:
		case <-ctx.Done():
			o.count()
			return
		}
	}
}

// overall is a tracker of all jobs at work.
type overall struct {
	group    *Group
	to       *progress.Tracker
	files    []*progress.File
	received []int64 // as counted so far
	seen     []int64 // last event of each job
}

func (*overall) size(s Status) int64 { return max(s.Size, unknownSize) }

// count brings the tracker up to date.
func (o *overall) count() {
	for i, s := range o.group.Statuses() {
		f, size := o.files[i], o.size(s)
		if n := s.Progress.Received(); n > o.received[i] {
			f.AddReceived(n - o.received[i])
			o.received[i] = n
		}
		switch s.State {
		case Done:
			f.SetPosition(size)
		case Waiting:
			f.SetPosition(0)
		default:
			f.SetPosition(int64(float64(size) * s.Progress.Percent() / 100))
		}
		f.SetState(fileState(s.State))
	}
	for i, e := range o.group.eventsAfter(o.seen) {
		for _, ev := range e {
			o.files[i].Event(ev.Level, ev.Text)
		}
	}
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
