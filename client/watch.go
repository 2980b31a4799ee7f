package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
)

// Watch yields a job's events as they happen, those kept from before first,
// and ends after the final state. A lost connection is made again, going on
// after the last event seen, so that no state or log line is missed or
// repeated; progress in between is. The last pair may carry an error:
// ErrNotFound for an unknown job, ErrUnavailable when the daemon stayed away
// for all of Options.WatchRetries, or the context's.
func (c *Client) Watch(ctx context.Context, id string) iter.Seq2[models.Event, error] {
	return func(yield func(models.Event, error) bool) {
		w := watcher{c: c, id: id}
		for failures := 0; ; {
			done, moved, err := w.connect(ctx, yield)
			if done {
				return
			}
			if ctx.Err() != nil {
				yield(models.Event{}, fmt.Errorf("watch job %s: %w", id, context.Cause(ctx)))
				return
			}
			if moved {
				failures = 0
			}
			failures++
			if !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrTooMany) || failures > c.o.WatchRetries {
				yield(models.Event{}, err)
				return
			}
			if sleep.For(ctx, c.retryDelay(failures)) != nil {
				yield(models.Event{}, fmt.Errorf("watch job %s: %w", id, context.Cause(ctx)))
				return
			}
		}
	}
}

// Log yields the events of a job that are kept now, and does not wait for more.
// The last pair may carry an error, as for [Client.Watch]; nothing is retried.
func (c *Client) Log(ctx context.Context, id string) iter.Seq2[models.Event, error] {
	return func(yield func(models.Event, error) bool) {
		w := watcher{c: c, id: id, query: url.Values{"follow": {"false"}}}
		done, _, err := w.connect(ctx, yield)
		if done {
			return
		}
		if ctx.Err() != nil {
			err = fmt.Errorf("log of job %s: %w", id, context.Cause(ctx))
		}
		yield(models.Event{}, err)
	}
}

// retryDelay is the pause before attempt n+1: doubling, bounded, with up to a
// quarter of jitter so that many watchers do not come back at once.
func (c *Client) retryDelay(n int) time.Duration {
	d := c.o.RetryDelay << min(n-1, 5)
	d = min(d, 30*c.o.RetryDelay)
	return d - time.Duration(rand.Int64N(int64(d)/4+1))
}

// watcher remembers how far a watch has come across connections.
type watcher struct {
	c     *Client
	id    string
	query url.Values
	last  int64
	final bool // the last state seen was a final one
}

// connect reads one connection's events. done means that the caller wants no
// more or there are none; moved, that some event arrived. A final state alone
// does not end it: a job that was tried again has one in its past. The daemon
// ends the stream cleanly when nothing can follow, and only then.
func (w *watcher) connect(ctx context.Context, yield func(models.Event, error) bool) (done, moved bool, err error) {
	path, err := jobPath(w.id, "/events")
	if err != nil {
		yield(models.Event{}, err)
		return true, false, nil
	}
	h := http.Header{"Accept": {"text/event-stream"}}
	if w.last > 0 {
		h.Set("Last-Event-ID", strconv.FormatInt(w.last, 10))
	}
	r := request{method: http.MethodGet, path: path, query: w.query, header: h}
	resp, err := w.c.send(ctx, r)
	if err != nil {
		return false, false, err
	}
	defer resp.Body.Close() // nothing was written
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNoContent: // the job has ended and everything was seen
		return true, false, nil
	default:
		return false, false, readError(r, resp)
	}
	for ev, err := range readEvents(resp.Body) {
		if err != nil {
			return false, moved, &unreachableError{addr: w.c.BaseURL(), err: err}
		}
		moved = true
		if ev.ID > 0 {
			if ev.ID <= w.last {
				continue
			}
			w.last = ev.ID
		}
		if ev.Type == models.EventState {
			w.final = ev.Status.Final()
		}
		if !yield(ev, nil) {
			return true, true, nil
		}
	}
	if w.final || w.query != nil {
		return true, moved, nil
	}
	return false, moved, &unreachableError{addr: w.c.BaseURL(), err: errors.New("event stream ended before the job did")}
}
