package runs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
)

// fakeDaemon serves one job by the REST contract.
type fakeDaemon struct {
	mu      sync.Mutex
	job     models.Job
	log     []models.Event
	changed chan struct{}
	calls   []string
	seen    chan struct{} // closed once somebody follows the job
	once    sync.Once

	finishing bool          // the job completes before a cancel reaches it
	stop      chan struct{} // not nil: a cancel is answered after this is closed
}

func newFakeDaemon(t *testing.T) (*fakeDaemon, *client.Client) {
	t.Helper()
	d := &fakeDaemon{changed: make(chan struct{}), seen: make(chan struct{})}
	d.job = models.Job{Definition: job.Definition{ID: "j1"}, Status: models.StatusRunning, Progress: &models.Progress{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /jobs/j1", func(w http.ResponseWriter, _ *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		_ = json.NewEncoder(w).Encode(d.job)
	})
	mux.HandleFunc("GET /jobs/j1/events", d.events)
	mux.HandleFunc("POST /jobs/cancel", func(w http.ResponseWriter, r *http.Request) {
		var c models.Cancel
		_ = json.NewDecoder(r.Body).Decode(&c)
		d.call(fmt.Sprintf("cancel keep=%t", c.KeepParts))
		if d.finishing {
			d.tell(models.StatusCompleted, models.Event{Type: models.EventState, Status: models.StatusCompleted})
			<-d.stop
			_ = json.NewEncoder(w).Encode(models.CancelResult{Failed: c.JobIDs, Errors: map[string]string{"j1": "the job has finished"}})
			return
		}
		d.tell(models.StatusCancelled, models.Event{Type: models.EventState, Status: models.StatusCancelled})
		_ = json.NewEncoder(w).Encode(models.CancelResult{Cancelled: c.JobIDs})
	})
	mux.HandleFunc("POST /jobs/j1/retry", func(w http.ResponseWriter, _ *http.Request) {
		d.call("retry")
		d.tell(models.StatusRunning, models.Event{Type: models.EventState, Status: models.StatusRunning, Phase: "exporting"})
		_ = json.NewEncoder(w).Encode(models.Job{})
	})
	line := newPipes()
	srv := &httptest.Server{Listener: line, Config: &http.Server{Handler: mux}}
	srv.Start()
	t.Cleanup(srv.Close)
	c, err := client.New("http://daemon", client.Options{HTTPClient: &http.Client{Transport: &http.Transport{DialContext: line.dial}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return d, c
}

// pipes is a listener in memory, whose connections synctest understands.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   *sync.Once
}

func newPipes() pipes {
	return pipes{conns: make(chan net.Conn), closed: make(chan struct{}), once: new(sync.Once)}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// dial connects to the listener, for an http.Transport.
func (p pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p pipes) Close() error { p.once.Do(func() { close(p.closed) }); return nil }

func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (d *fakeDaemon) call(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, s)
}

// asked is everything that the daemon was asked to do.
func (d *fakeDaemon) asked() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return fmt.Sprint(d.calls)
}

// tell sets the job's status and adds events to its log.
func (d *fakeDaemon) tell(status models.Status, events ...models.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.job.Status = status
	for _, ev := range events {
		if ev.Type != models.EventProgress {
			ev.ID = int64(len(d.log) + 1)
		}
		d.log = append(d.log, ev)
	}
	close(d.changed)
	d.changed = make(chan struct{})
}

// events streams the log until the job has ended.
func (d *fakeDaemon) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	d.once.Do(func() { close(d.seen) })
	for sent := 0; ; {
		d.mu.Lock()
		news, ended, changed := d.log[sent:], d.job.Status.Final(), d.changed
		d.mu.Unlock()
		for _, ev := range news {
			b, _ := json.Marshal(ev)
			if ev.ID > 0 {
				fmt.Fprintf(w, "id: %d\n", ev.ID)
			}
			fmt.Fprintf(w, "event: %s\ndata: %s\n\n", ev.Type, b)
			sent++
		}
		_ = http.NewResponseController(w).Flush()
		if ended {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// follow runs the job in a group of its own, and returns a function that waits
// until it is in a state, by what the group itself reports.
func follow(t *testing.T, c *client.Client) (*runs.Group, func(runs.State) runs.Status) {
	t.Helper()
	g := runs.NewGroup(runs.Daemon{Client: c}, []runs.Spec{{Name: "web", ID: "j1", Def: job.Definition{VMPath: "/vm/web"}}}, runs.Options{Parallel: -1})
	ctx, cancel := context.WithCancelCause(context.Background())
	over := make(chan struct{})
	go func() { defer close(over); g.Run(ctx) }()
	t.Cleanup(func() { cancel(runs.ErrLeft); <-over })
	return g, func(want runs.State) runs.Status {
		t.Helper()
		for {
			changed := g.Changed()
			s := g.Statuses()[0]
			if s.State == want {
				return s
			}
			if s.State.Ended() {
				t.Fatalf("the job is %s (%v), want %s", s.State, s.Err, want)
			}
			<-changed
		}
	}
}

// paused follows a job that is running and has it paused.
func paused(t *testing.T) (*fakeDaemon, *runs.Group, func(runs.State) runs.Status) {
	t.Helper()
	d, c := newFakeDaemon(t)
	g, until := follow(t, c)
	<-d.seen
	if err := g.Pause(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	until(runs.Paused)
	return d, g, until
}

func TestADaemonsJobIsMirroredToItsEnd(t *testing.T) {
	t.Parallel()
	d, c := newFakeDaemon(t)
	g, until := follow(t, c)
	<-d.seen
	d.mu.Lock()
	d.job.Result = &job.Result{VMName: "web", Success: true, TotalSize: 5}
	d.mu.Unlock()
	d.tell(models.StatusCompleted,
		models.Event{Type: models.EventState, Status: models.StatusRunning, Phase: "exporting"},
		models.Event{Type: models.EventLog, Level: "warning", File: "disk-0", Text: "retry 1"},
		models.Event{Type: models.EventProgress, Progress: &models.Progress{Phase: "exporting", TotalBytes: 100, PercentComplete: 40, BytesDownloaded: 30}},
		models.Event{Type: models.EventState, Status: models.StatusCompleted})
	s := until(runs.Done)
	if s.Result.TotalSize != 5 || s.Progress.Total() != 100 || s.Progress.Position() != 40 || s.Progress.Received() != 30 {
		t.Errorf("mirrored as %+v", s)
	}
	if log := g.Log(10); len(log) != 1 || log[0].Text != "retry 1" || log[0].Level != progress.Warning {
		t.Errorf("log: %+v", log)
	}
}

func TestPausingADaemonsJobKeepsItsPartsAndResumingTriesItAgain(t *testing.T) {
	t.Parallel()
	d, g, until := paused(t)
	if err := g.Resume(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	until(runs.Running)
	d.waitForCall(t, "retry")
	d.tell(models.StatusCompleted, models.Event{Type: models.EventState, Status: models.StatusCompleted})
	until(runs.Done)
	if got := d.asked(); got != "[cancel keep=true retry]" {
		t.Errorf("the daemon was asked: %s", got)
	}
}

func TestADaemonsJobThatCompletesWhileItIsPausedIsDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, c := newFakeDaemon(t)
		d.finishing, d.stop = true, make(chan struct{})
		g, _ := follow(t, c)
		<-d.seen
		paused := make(chan error)
		go func() { paused <- g.Pause(t.Context(), 0) }()
		synctest.Wait() // the end of the job is known, the answer to the pause is not
		close(d.stop)
		if err := <-paused; err == nil {
			t.Error("a job that has finished was paused")
		}
		wantStates(t, g, runs.Done)
		if got := d.asked(); got != "[cancel keep=true]" {
			t.Errorf("the daemon was asked: %s", got)
		}
	})
}

func TestCancellingADaemonsHeldJobHasItsPartsRemoved(t *testing.T) {
	t.Parallel()
	d, g, until := paused(t)
	g.Cancel(0)
	if s := until(runs.Cancelled); !errors.Is(s.Err, context.Canceled) {
		t.Errorf("cancelled with %v", s.Err)
	}
	if got := d.asked(); got != "[cancel keep=true retry cancel keep=false]" {
		t.Errorf("the daemon was asked: %s", got)
	}
}

func TestStoppingADaemonsHeldJobKeepsItsParts(t *testing.T) {
	t.Parallel()
	d, c := newFakeDaemon(t)
	g, until := follow(t, c)
	<-d.seen
	if err := g.Pause(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	g.Stop()
	until(runs.Cancelled)
	if got := d.asked(); strings.Contains(got, "retry") || strings.Contains(got, "keep=false") {
		t.Errorf("the daemon was asked: %s", got)
	}
}

func (d *fakeDaemon) waitForCall(t *testing.T, want string) {
	t.Helper()
	for {
		d.mu.Lock()
		last, changed := d.calls[len(d.calls)-1], d.changed
		d.mu.Unlock()
		if last == want {
			return
		}
		<-changed
	}
}

func TestCancellingADaemonsJobIsAskedOfTheDaemon(t *testing.T) {
	t.Parallel()
	d, c := newFakeDaemon(t)
	g, until := follow(t, c)
	<-d.seen
	g.Cancel(0)
	if s := until(runs.Cancelled); !errors.Is(s.Err, context.Canceled) {
		t.Errorf("cancelled with %v", s.Err)
	}
	if got := d.asked(); got != "[cancel keep=false]" {
		t.Errorf("the daemon was asked: %s", got)
	}
}

func TestLeavingADaemonsJobAsksNothingOfTheDaemon(t *testing.T) {
	t.Parallel()
	d, c := newFakeDaemon(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	over := make(chan struct{})
	g := runs.NewGroup(runs.Daemon{Client: c}, []runs.Spec{{Name: "web", ID: "j1"}}, runs.Options{Parallel: -1})
	go func() { defer close(over); g.Run(ctx) }()
	<-d.seen
	cancel(runs.ErrLeft)
	<-over
	if got := d.asked(); got != "[]" {
		t.Errorf("the daemon was asked: %s", got)
	}
}

func TestADaemonsJobThatFailsTellsWhy(t *testing.T) {
	t.Parallel()
	d, c := newFakeDaemon(t)
	_, until := follow(t, c)
	<-d.seen
	d.mu.Lock()
	d.job.Error = "disk full"
	d.mu.Unlock()
	d.tell(models.StatusFailed, models.Event{Type: models.EventState, Status: models.StatusFailed, Error: "disk full"})
	if s := until(runs.Failed); s.Err.Error() != "disk full" {
		t.Errorf("told %v", s.Err)
	}
}
