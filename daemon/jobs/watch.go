package jobs

import (
	"cmp"
	"context"
	"io"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// Watcher reads one job's events as they happen. It is for one goroutine and
// has none of its own. See [Manager.Watch].
type Watcher struct {
	m           *Manager
	id          string
	wake        <-chan struct{}
	unsubscribe func()

	last    int64     // ID of the last kept event returned
	asked   time.Time // when the daemon that runs the job was last asked how far it is
	waiting string    // what the job was last said to wait for
	seen    view      // version when the log was last read; tick and progress last reported
	pending []models.Event
	final   bool // nothing can follow until the job is tried again
}

// Watch follows a job's events: first those in its log whose IDs are greater
// than after, then new ones, and progress in between; also, without an ID, what a
// job waits for that does not run. It returns [ErrNotFound]
// when there is no such job. The caller must call [Watcher.Close].
func (m *Manager) Watch(ctx context.Context, id string, after int64) (*Watcher, error) {
	w := &Watcher{m: m, id: id, last: after}
	w.wake, w.unsubscribe = m.hub.subscribe(id)
	if err := w.load(ctx); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// Close ends the watching.
func (w *Watcher) Close() { w.unsubscribe() }

// Next waits for the next event and returns it. It returns io.EOF when the job
// has ended and its last event was returned, ctx's error when that ends first
// (after which Next may be called again, with a context that lives), or
// [ErrNotFound] when the job was deleted.
func (w *Watcher) Next(ctx context.Context) (models.Event, error) {
	poll := time.NewTicker(w.m.o.Heartbeat)
	defer poll.Stop()
	for {
		now := w.m.hub.look(w.id)
		if now.version != w.seen.version && len(w.pending) == 0 {
			if err := w.load(ctx); err != nil {
				return models.Event{}, err
			}
		}
		if len(w.pending) > 0 {
			return w.pop(), nil
		}
		if w.final {
			return models.Event{}, io.EOF
		}
		if now.tick != w.seen.tick {
			w.seen.tick = now.tick
			if p := cmp.Or(now.progress, now.elsewhere(w.m.lately())); p != nil {
				if now.progress == nil && time.Since(w.asked) >= w.m.o.Heartbeat {
					w.ask(ctx)
				}
				return w.report(p), nil
			}
		}
		select {
		case <-ctx.Done():
			return models.Event{}, ctx.Err()
		case <-w.wake:
		case <-poll.C:
			// What other daemons write wakes nobody here.
			if err := w.load(ctx); err != nil {
				return models.Event{}, err
			}
		}
	}
}

func (w *Watcher) pop() models.Event {
	e := w.pending[0]
	w.pending = w.pending[1:]
	if e.ID > 0 {
		w.last = e.ID
	}
	if e.Type == models.EventState {
		w.final = e.Status.Final()
	}
	return e
}

func (w *Watcher) report(p *models.Progress) models.Event {
	w.seen.progress = p
	return models.Event{Type: models.EventProgress, Time: time.Now().UTC(), Progress: p}
}

// load reads what is new in the log. When nothing is, it looks whether the job
// has ended, which a reader that resumes behind the last event would not
// learn otherwise, and how far a run in another daemon is.
func (w *Watcher) load(ctx context.Context) error {
	w.seen.version = w.m.hub.look(w.id).version
	var err error
	if w.pending, err = w.m.store.Events(ctx, w.id, w.last, 0); err != nil {
		return err
	}
	if n := len(w.pending); n > 0 {
		if !w.pending[n-1].Status.Final() {
			w.ask(ctx)
		}
		return nil
	}
	job, err := w.m.Get(ctx, w.id)
	if err != nil {
		return err
	}
	w.final = job.Status.Final()
	if job.WaitingFor != w.waiting {
		if w.waiting = job.WaitingFor; w.waiting != "" {
			w.pending = append(w.pending, models.Event{Type: models.EventLog, Time: time.Now().UTC(), Level: "warning", Text: w.waiting})
		}
	}
	if job.Status != models.StatusRunning || w.m.hub.live(w.id) != nil {
		return nil
	}
	w.ask(ctx)
	told := w.m.hub.look(w.id).elsewhere(w.m.lately())
	if told == nil && (w.seen.progress == nil || *job.Progress != *w.seen.progress) {
		w.pending = append(w.pending, w.report(job.Progress))
	}
	return nil
}

// ask has the daemon that runs the job tell how far it is, if that is another one.
func (w *Watcher) ask(ctx context.Context) {
	if w.m.hub.live(w.id) == nil {
		w.asked = time.Now()
		w.m.tell(ctx, Notice{Type: NoticeWatched, Job: w.id})
	}
}
