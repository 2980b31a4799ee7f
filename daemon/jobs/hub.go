package jobs

import (
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// hub tells watchers that there is something new about a job. It passes on no
// events and so has nothing to buffer: a watcher that was woken reads the
// store's log from where it stands, and the latest progress from here. A slow
// one misses passing progress and nothing else, and nobody waits for it.
type hub struct {
	mu     sync.Mutex
	topics map[string]*topic // by job ID; only jobs that run here, are watched, or were looked at lately
}

// topic is what the hub knows of one job.
type topic struct {
	view
	subs  map[chan struct{}]struct{}
	files []progress.FileSnapshot // of a run in this process, never changed in place
	// asked is until when another daemon wants to hear of the run here, detail until when
	// of its files.
	asked, detail time.Time
	// wanted is until when somebody here looks at the files of a run at another daemon, and
	// wantedAt when that was asked for them last.
	wanted, wantedAt time.Time
}

// view is what a watcher sees of a topic.
type view struct {
	version  int64                 // grows with every change of the stored job
	tick     int64                 // grows with every report of progress meant for watchers
	progress *models.Progress      // of a run in this process, never changed in place
	remote   *models.Progress      // of a run at another daemon, as that told last
	heard    time.Time             // when it did
	its      []models.FileProgress // files of that run, where they are looked at here
	unlisted int                   // files that it has beside
}

// elsewhere is the progress that another daemon has told lately, or nil.
func (v view) elsewhere(lately time.Duration) *models.Progress {
	if v.remote == nil || time.Since(v.heard) > lately {
		return nil
	}
	return v.remote
}

// at returns the topic of a job, which it makes if need be. The caller holds
// h.mu.
func (h *hub) at(id string) *topic {
	t, ok := h.topics[id]
	if !ok {
		t = &topic{subs: make(map[chan struct{}]struct{})}
		h.topics[id] = t
	}
	return t
}

// tidy forgets a topic that nobody needs. The caller holds h.mu.
func (h *hub) tidy(id string, t *topic) {
	if len(t.subs) == 0 && t.progress == nil && !time.Now().Before(t.wanted) {
		delete(h.topics, id)
	}
}

func (t *topic) notify() {
	for c := range t.subs {
		select {
		case c <- struct{}{}:
		default: // it has been told already and did not look yet
		}
	}
}

// changed says that a job or its log changed in the store.
func (h *hub) changed(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.at(id)
	t.version++
	t.notify()
	h.tidy(id, t)
}

// allChanged says that any job may have changed in the store.
func (h *hub) allChanged() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.topics {
		t.version++
		t.notify()
	}
}

// remote takes what another daemon tells of a run there.
func (h *hub) remote(n Notice) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t, ok := h.topics[n.Job]; ok && t.progress == nil {
		t.view.remote, t.heard = n.Progress, time.Now()
		t.its, t.unlisted = n.Files, n.Unlisted
		t.tick++
		t.notify()
	}
}

// ask says that another daemon wants to hear of a run here for a while, with detail also
// of its files.
func (h *hub) ask(id string, d time.Duration, detail bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t, ok := h.topics[id]; ok && t.progress != nil {
		t.asked = time.Now().Add(d)
		if detail {
			t.detail = t.asked
		}
	}
}

// askedFor reports whether another daemon wants to hear of a run here, and of its files.
func (h *hub) askedFor(id string) (asked, files bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t, ok := h.topics[id]
	now := time.Now()
	return ok && now.Before(t.asked), ok && now.Before(t.detail)
}

// want says that somebody looks at the files of a run at another daemon, and returns what
// that has told. ask is true when it is to be asked, which it is not again before every
// has passed. What was looked at no longer than keep ago is kept in mind.
func (h *hub) want(id string, every, keep time.Duration) (told view, ask bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	for other, t := range h.topics {
		h.tidy(other, t)
	}
	t := h.at(id)
	t.wanted = now.Add(keep)
	if ask = now.Sub(t.wantedAt) >= every; ask {
		t.wantedAt = now
	}
	return t.view, ask
}

// told returns what another daemon has told of a run there, if it has.
func (h *hub) told(id string) view {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t, ok := h.topics[id]; ok {
		return t.view
	}
	return view{}
}

// report says how far a run is. Watchers are told only with tick, which bounds
// the rate at which they hear of it.
func (h *hub) report(id string, p models.Progress, files []progress.FileSnapshot, tick bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.at(id)
	t.progress, t.files = &p, files
	if tick {
		t.tick++
		t.notify()
	}
}

// ended says that a job no longer runs here.
func (h *hub) ended(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.at(id)
	t.progress, t.files = nil, nil
	t.version++
	t.notify()
	h.tidy(id, t)
}

// live returns the progress of a job that runs here, or nil. It must not be
// changed.
func (h *hub) live(id string) *models.Progress {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t, ok := h.topics[id]; ok {
		return t.progress
	}
	return nil
}

// liveFiles are the files of a job that runs here, or nil. They must not be changed.
func (h *hub) liveFiles(id string) []progress.FileSnapshot {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t, ok := h.topics[id]; ok {
		return t.files
	}
	return nil
}

// look returns what there is to see of a subscribed job.
func (h *hub) look(id string) view {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at(id).view
}

// subscribe returns a channel that holds a token whenever there may be
// something new about a job.
func (h *hub) subscribe(id string) (wake <-chan struct{}, unsubscribe func()) {
	c := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at(id).subs[c] = struct{}{}
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		t := h.at(id)
		delete(t.subs, c)
		h.tidy(id, t)
	}
}
