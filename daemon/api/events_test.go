package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
)

// sse is one event as it came over the wire.
type sse struct{ id, event, data string }

// stream reads a job's events from one connection.
type stream struct {
	t    *testing.T
	resp *http.Response
	sc   *bufio.Scanner
	note int // comments seen
}

func (d *daemon) watch(ctx context.Context, id, lastEventID string) *stream {
	d.t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", d.URL+"/jobs/"+id+"/events", nil)
	if err != nil {
		d.t.Fatal(err)
	}
	if lastEventID != "" {
		req.Header.Set("Last-Event-ID", lastEventID)
	}
	resp, err := d.http.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { resp.Body.Close() })
	return &stream{t: d.t, resp: resp, sc: bufio.NewScanner(resp.Body)}
}

// next reads one event; ok is false at the end of the stream.
func (s *stream) next() (e sse, ok bool) {
	for s.sc.Scan() {
		line := s.sc.Text()
		k, v, _ := strings.Cut(line, ": ")
		switch k {
		case "":
			if line == "" {
				if e.data != "" {
					return e, true
				}
				continue
			}
			s.note++
		case "id":
			e.id = v
		case "event":
			e.event = v
		case "data":
			e.data = v
		}
	}
	return e, false
}

// rest reads to the end of the stream, which must be a clean one.
func (s *stream) rest() []sse {
	s.t.Helper()
	var all []sse
	for e, ok := s.next(); ok; e, ok = s.next() {
		all = append(all, e)
	}
	if err := s.sc.Err(); err != nil {
		s.t.Errorf("the stream was cut: %v", err)
	}
	return all
}

func TestAWatcherSeesStatesLogAndProgressAndThenTheEnd(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	id := d.running("/vm/a")
	s := d.watch(t.Context(), id, "")
	if ct := s.resp.Header.Get("Content-Type"); s.resp.StatusCode != 200 || ct != "text/event-stream" {
		t.Fatalf("HTTP %d %s", s.resp.StatusCode, ct)
	}
	seen := map[string]int{}
	var last sse
	for seen["progress"] == 0 || seen["log"] == 0 {
		e, ok := s.next()
		if !ok {
			t.Fatalf("the stream ended early: %v", seen)
		}
		seen[e.event]++
		if (e.id == "") != (e.event == "progress") {
			t.Errorf("a kept event has an id, progress has none: %+v", e)
		}
		if e.event == "progress" && !strings.Contains(e.data, `"percent_complete":42`) {
			t.Errorf("progress: %s", e.data)
		}
		if e.event == "log" && !strings.Contains(e.data, `"text":"one retry"`) {
			t.Errorf("log: %s", e.data)
		}
	}
	d.Runner.Verdict("/vm/a") <- nil
	for _, e := range s.rest() {
		if e.id != "" {
			last = e
		}
	}
	if last.event != "state" || !strings.Contains(last.data, `"status":"completed"`) {
		t.Errorf("last event: %+v", last)
	}
}

func TestAWatcherResumesAfterTheLastEventItSaw(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	id := d.running("/vm/a")
	d.finish("/vm/a", id, errors.New("boom"))
	all := d.watch(t.Context(), id, "").rest()
	if len(all) < 4 {
		t.Fatalf("too few events: %+v", all)
	}
	for i, e := range all {
		if e.id != fmt.Sprint(i+1) {
			t.Errorf("event %d has id %s", i, e.id)
		}
	}
	rest := d.watch(t.Context(), id, all[1].id).rest()
	if len(rest) != len(all)-2 || rest[0] != all[2] {
		t.Errorf("after %s: %+v, want %+v", all[1].id, rest, all[2:])
	}
	s := d.watch(t.Context(), id, all[len(all)-1].id)
	if s.resp.StatusCode != 204 {
		t.Errorf("with nothing left: HTTP %d", s.resp.StatusCode)
	}
	if s := d.watch(t.Context(), "nope", ""); s.resp.StatusCode != 404 {
		t.Errorf("unknown job: HTTP %d", s.resp.StatusCode)
	}
	if s := d.watch(t.Context(), id, "hunter2"); s.resp.StatusCode != 422 {
		t.Errorf("a Last-Event-ID that is none: HTTP %d", s.resp.StatusCode)
	}
}

func TestAStreamGoesOnOverAFailureThatWasTriedAgain(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	id := d.running("/vm/a")
	d.finish("/vm/a", id, errors.New("boom"))
	if a := d.post("/jobs/"+id+"/retry", ""); a.status != 200 {
		t.Fatal(a.body)
	}
	<-d.Runner.Started
	s := d.watch(t.Context(), id, "")
	var failed bool
	for e, ok := s.next(); ok; e, ok = s.next() {
		failed = failed || strings.Contains(e.data, `"status":"failed"`)
		if e.event == "progress" {
			break
		}
	}
	if !failed {
		t.Error("the first attempt's end is missing")
	}
	d.Runner.Verdict("/vm/a") <- nil
	all := s.rest()
	if len(all) == 0 || !strings.Contains(all[len(all)-1].data, `"status":"completed"`) {
		t.Errorf("rest: %+v", all)
	}
}

func TestAQuietStreamIsKeptAliveByComments(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{KeepAlive: time.Millisecond})
	for range 4 { // fill the daemon, so that the next job waits
		d.running(fmt.Sprintf("/vm/%p", new(int)))
	}
	id := d.submit("/vm/waiting")
	s := d.watch(t.Context(), id, "")
	for s.note < 5 && s.sc.Scan() {
		if strings.HasPrefix(s.sc.Text(), ":") {
			s.note++
		}
	}
	if s.note < 5 {
		t.Errorf("%d comments, then %v", s.note, s.sc.Err())
	}
}

func TestEventsKeptNowCanBeReadWithoutWaiting(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	id := d.running("/vm/a")
	a := d.get("/jobs/" + id + "/events?follow=false")
	if a.status != 200 || !strings.Contains(a.body, `"status":"pending"`) || strings.Contains(a.body, "event: progress") {
		t.Errorf("HTTP %d %s", a.status, a.body)
	}
}

func TestStoppingCutsStreamsSoThatWatchersComeBack(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	id := d.running("/vm/a")
	s := d.watch(t.Context(), id, "")
	if _, ok := s.next(); !ok {
		t.Fatal("no event")
	}
	d.API.StopStreams()
	for _, ok := s.next(); ok; _, ok = s.next() {
	}
	if err := s.sc.Err(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the stream looks as if the job had ended: %v", err)
	}
}

func Test500WatchersLeakNothing(t *testing.T) {
	t.Parallel() // goleak in TestMain counts what is left
	d := start(t, api.Options{})
	id := d.running("/vm/a")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var ready, ended sync.WaitGroup
	completed := make(chan bool, 500)
	for i := range 500 {
		ready.Add(1)
		leave := i%2 == 0
		ended.Go(func() {
			mine, stop := context.WithCancel(ctx)
			defer stop()
			s := d.watch(mine, id, "")
			s.next()
			ready.Done()
			if leave { // half of them go away in the middle
				return
			}
			all := s.rest()
			completed <- len(all) > 0 && strings.Contains(all[len(all)-1].data, `"status":"completed"`)
		})
	}
	ready.Wait()
	d.finish("/vm/a", id, nil)
	ended.Wait()
	close(completed)
	n := 0
	for ok := range completed {
		if ok {
			n++
		}
	}
	if n != 250 {
		t.Errorf("%d of 250 watchers saw the end", n)
	}
}
