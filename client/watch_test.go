package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/api/apitest"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// script is an event stream that misbehaves as told, a step per connection.
type script struct {
	mu    sync.Mutex
	steps []func(w http.ResponseWriter)
	asked chan string // Last-Event-ID of each connection
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked <- r.Header.Get("Last-Event-ID")
	s.mu.Lock()
	if len(s.steps) == 0 {
		s.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
		return
	}
	step := s.steps[0]
	s.steps = s.steps[1:]
	s.mu.Unlock()
	step(w)
}

func send(w http.ResponseWriter, ids ...int) {
	for _, id := range ids {
		fmt.Fprintf(w, "id: %d\nevent: log\ndata: {\"text\":\"%d\"}\n\n", id, id)
	}
	w.(http.Flusher).Flush()
}

func cut() { panic(http.ErrAbortHandler) }

func (s *script) watch(t *testing.T) (ids []int64, err error) {
	t.Helper()
	s.asked = make(chan string, 100)
	srv := httptest.NewServer(s)
	defer srv.Close()
	for ev, e := range dial(t, srv.URL).Watch(t.Context(), "x") {
		if e != nil {
			err = e
			continue
		}
		ids = append(ids, ev.ID)
	}
	srv.Close() // waits for its handlers
	close(s.asked)
	return ids, err
}

func TestAWatchGoesOnAfterTheLastEventItSaw(t *testing.T) {
	t.Parallel()
	s := &script{steps: []func(http.ResponseWriter){
		func(w http.ResponseWriter) { send(w, 1, 2); cut() },
		func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
		func(w http.ResponseWriter) { send(w, 2, 3) /* one twice, and a clean end without a final state */ },
		func(w http.ResponseWriter) {
			fmt.Fprint(w, ": comment\n\nevent: unknown\ndata: {}\n\nid: 4\nevent: log\ndata: {\"text\":\"cut in the mid")
			w.(http.Flusher).Flush()
			cut()
		},
		func(w http.ResponseWriter) {
			send(w, 4)
			fmt.Fprint(w, "id: 5\nevent: state\ndata: {\"status\":\"completed\"}\n\n")
		},
	}}
	ids, err := s.watch(t)
	if err != nil || !slices.Equal(ids, []int64{1, 2, 3, 4, 5}) {
		t.Errorf("got %v, %v", ids, err)
	}
	var asked []string
	for a := range s.asked {
		asked = append(asked, a)
	}
	if want := []string{"", "2", "2", "3", "3"}; !slices.Equal(asked, want) {
		t.Errorf("asked after %q, want %q", asked, want)
	}
}

func TestAWatchThatHasSeenEverythingEnds(t *testing.T) {
	t.Parallel()
	s := &script{steps: []func(http.ResponseWriter){func(w http.ResponseWriter) { send(w, 1); cut() }}}
	if ids, err := s.watch(t); err != nil || !slices.Equal(ids, []int64{1}) {
		t.Errorf("got %v, %v", ids, err)
	}
}

func TestAWatchGivesUpWhenTheDaemonStaysAway(t *testing.T) {
	t.Parallel()
	s := &script{}
	for range 10 {
		s.steps = append(s.steps, func(http.ResponseWriter) { cut() })
	}
	_, err := s.watch(t)
	if !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if n := len(s.asked); n != 4 { // once, and Options.WatchRetries times
		t.Errorf("connected %d times", n)
	}
}

func TestAWatchOfAnUnknownJobEndsAtOnce(t *testing.T) {
	t.Parallel()
	d := apitest.Start(t, api.Options{})
	n := 0
	for _, err := range dial(t, d.URL).Watch(t.Context(), "nope") {
		n++
		if !errors.Is(err, client.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	}
	if n != 1 {
		t.Errorf("%d pairs", n)
	}
}

func TestAWatchEndsWithItsContextAndWithItsReader(t *testing.T) {
	t.Parallel()
	d := apitest.Start(t, api.Options{})
	c := dial(t, d.URL)
	r, err := c.Submit(t.Context(), []job.Definition{definition("/vm/busy")}, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range c.Watch(t.Context(), r.JobIDs[0]) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for ev, err := range c.Watch(ctx, r.JobIDs[0]) {
		if ev.Type == models.EventProgress {
			cancel()
		}
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("got %v", last)
	}
}

func TestLinesWithoutEndAreRefused(t *testing.T) {
	t.Parallel()
	s := &script{}
	for range 10 {
		s.steps = append(s.steps, func(w http.ResponseWriter) {
			fmt.Fprint(w, "event: log\ndata: "+strings.Repeat("x", 5<<20)+"\n\n")
		})
	}
	if _, err := s.watch(t); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
