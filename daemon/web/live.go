package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
)

// How live fragments are sent.
const (
	liveEvery = 500 * time.Millisecond // a fragment is looked at, and sent if it is another one
	beatEvery = 15 * time.Second       // a sign of life, and a look whether the watcher may still watch
	maxFeeds  = 128                    // different ones at once
	maxLives  = 2048                   // watchers at once
)

// eventEnd tells a page that it has to be signed in anew.
const eventEnd = "event: end\ndata: signin\n\n"

// part is a fragment of a page: what is in the element with that id.
type part struct {
	ID   string
	HTML []byte
}

// source makes the fragments of a page, for whoever has the role in ctx.
type source func(ctx context.Context) ([]part, error)

// feedKey tells feeds apart: by the page with its query, and by the role for which it is
// made.
type feedKey struct {
	page string
	role access.Role
}

// lives are the feeds that somebody watches.
type lives struct {
	mu       sync.Mutex
	feeds    map[feedKey]*feed
	watchers int
}

// feed makes the fragments of one page for all who watch it: each is made once, however
// many there are, and sent to each once it is another one than that one has. A watcher
// that is slow misses what was between.
type feed struct {
	stop context.CancelFunc

	mu      sync.Mutex
	parts   []versioned
	trouble string // why they are not made now
	version int64
	subs    map[chan struct{}]struct{}
}

// versioned is a fragment, and when it became another one.
type versioned struct {
	part
	event   []byte // as it goes over the wire
	version int64
}

// live streams the fragments of a page, as server-sent events: "part" with an id and
// HTML as JSON, "trouble" with a text, "beat" now and then, and "end" when the watcher
// has to sign in. The first thing that a watcher gets is all of them, so that one that
// comes back needs no memory of what it had. key is the page with its query.
func (c *call) live(key string, make source) error {
	f, wake, leave, err := c.lives.join(c.Site, feedKey{key, access.FromContext(c.r.Context()).Role}, make)
	if err != nil {
		return err
	}
	defer leave()
	h := c.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // proxies must pass events on as they come
	c.w.WriteHeader(http.StatusOK)
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	err = c.send([]byte("retry: 2000\n\n"))
	for seen := int64(0); err == nil; {
		var news []byte
		if news, seen = f.since(seen); len(news) > 0 {
			if err = c.send(news); err != nil {
				break
			}
		}
		select {
		case <-wake:
		case <-c.r.Context().Done():
			return nil
		case <-c.api.Stopping():
			panic(http.ErrAbortHandler) // it comes back to the next daemon
		case <-beat.C:
			if !c.api.StillAllowed(c.r.Context()) {
				_ = c.send([]byte(eventEnd))
				return nil
			}
			err = c.send([]byte("event: beat\ndata:\n\n"))
		}
	}
	return nil // the watcher has gone
}

func (c *call) send(b []byte) error {
	if _, err := c.w.Write(b); err != nil {
		return err
	}
	return http.NewResponseController(c.w).Flush()
}

// join returns the feed of that key, which is begun for its first watcher. wake holds a
// token when there may be something new; leave is to be called.
func (l *lives) join(s *Site, key feedKey, make source) (f *feed, wake chan struct{}, leave func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f = l.feeds[key]
	if l.watchers >= maxLives || f == nil && len(l.feeds) >= maxFeeds {
		return nil, nil, nil, problem{http.StatusServiceUnavailable, "Too many pages are open; this one is not live now."}
	}
	if f == nil {
		ctx, cancel := context.WithCancel(s.ctx)
		f = &feed{stop: cancel, subs: map[chan struct{}]struct{}{}}
		l.feeds[key] = f
		who := access.Principal{Name: "dashboard", Role: key.role, Via: access.ViaDaemon}
		s.busy.Go(func() { f.run(access.WithPrincipal(ctx, who), s.log, make) })
	}
	l.watchers++
	wake = f.subscribe()
	return f, wake, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.watchers--
		if f.unsubscribe(wake) == 0 {
			f.stop()
			delete(l.feeds, key)
		}
	}, nil
}

func (f *feed) subscribe() chan struct{} {
	wake := make(chan struct{}, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subs[wake] = struct{}{}
	return wake
}

// unsubscribe returns how many are left.
func (f *feed) unsubscribe(wake chan struct{}) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.subs, wake)
	return len(f.subs)
}

// run makes the fragments again and again until ctx ends.
func (f *feed) run(ctx context.Context, log *slog.Logger, make source) {
	tick := time.NewTicker(liveEvery)
	defer tick.Stop()
	for {
		look, cancel := context.WithTimeout(ctx, beatEvery)
		parts, err := make(look)
		cancel()
		if ctx.Err() == nil {
			f.update(parts, err)
			if err != nil {
				log.DebugContext(ctx, "a live page cannot be made", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// update takes what was made, and wakes the watchers if some of it is new.
func (f *feed) update(parts []part, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	trouble := ""
	if err != nil {
		trouble = textOf(err)
	}
	was := f.version
	if trouble != f.trouble {
		f.trouble = trouble
		f.version++
	}
	for _, p := range parts {
		f.set(p)
	}
	if f.version == was {
		return
	}
	for wake := range f.subs {
		select {
		case wake <- struct{}{}:
		default: // it has been told already and did not look yet
		}
	}
}

// set puts a fragment in the place of the one with its id, if it is another one.
func (f *feed) set(p part) {
	i := 0
	for i < len(f.parts) && f.parts[i].ID != p.ID {
		i++
	}
	if i == len(f.parts) {
		f.parts = append(f.parts, versioned{})
	} else if string(f.parts[i].HTML) == string(p.HTML) {
		return
	}
	f.version++
	data, _ := json.Marshal(struct { // of two texts
		ID   string `json:"id"`
		HTML string `json:"html"`
	}{p.ID, string(p.HTML)})
	f.parts[i] = versioned{p, fmt.Appendf(nil, "event: part\nid: %d\ndata: %s\n\n", f.version, data), f.version}
}

// since returns what has become another since the version seen, as events, and the
// version that it leads to.
func (f *feed) since(seen int64) ([]byte, int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.version == seen {
		return nil, seen
	}
	var out []byte
	for _, p := range f.parts {
		if p.version > seen {
			out = append(out, p.event...)
		}
	}
	trouble, _ := json.Marshal(f.trouble)
	return fmt.Appendf(out, "event: trouble\ndata: %s\n\n", trouble), f.version
}

// textOf is an error for people.
func textOf(err error) string {
	if p := new(problem); errors.As(err, p) {
		return p.text
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "The daemon's store does not answer in time."
	}
	_, text := api.StatusOf(err)
	return text
}
