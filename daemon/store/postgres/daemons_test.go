package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/postgres"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/postgres/pgtest"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// daemon is a manager on a shared database, which looks by itself so seldom that what
// it does in a test it was told.
type daemon struct {
	*jobs.Manager
	store   *postgres.Store
	started chan *progress.Tracker // of each run
	limits  chan int64
	hearing chan struct{} // closed when it hears the others
	once    sync.Once
}

func (d *daemon) Run(ctx context.Context, _ job.Definition, t *progress.Tracker) (job.Result, error) {
	d.started <- t
	<-ctx.Done()
	return job.Result{}, context.Cause(ctx)
}

func (d *daemon) CleanUp(context.Context, job.Definition, bool, *progress.Tracker) (job.Result, error) {
	return job.Result{}, nil
}

func (d *daemon) Set(_ string, bytesPerSecond int64) { d.limits <- bytesPerSecond }

func (d *daemon) Listen(ctx context.Context, heard func(jobs.Notice)) {
	d.store.Listen(ctx, func(n jobs.Notice) {
		heard(n)
		d.once.Do(func() { close(d.hearing) })
	})
}

func (d *daemon) Tell(ctx context.Context, n jobs.Notice) error { return d.store.Tell(ctx, n) }

// startDaemon runs a manager until the test ends.
func startDaemon(t *testing.T, database string, o jobs.Options) *daemon {
	t.Helper()
	d := &daemon{
		store:   open(t, postgres.Options{URL: server.URL("postgres", database)}),
		started: make(chan *progress.Tracker, 10), limits: make(chan int64, 10), hearing: make(chan struct{}),
	}
	o.Notices, o.Throttle = d, d
	o.Poll, o.StoreWatch = time.Hour, time.Hour
	if o.Hold == 0 {
		o.Hold, o.Heartbeat, o.Sample = time.Hour, 10*time.Minute, 10*time.Millisecond
	}
	d.Manager = jobs.New(d.store, d, o)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- d.Manager.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	<-d.hearing
	return d
}

// taken waits until one of two daemons has taken a job, and returns that one first, and
// what the run tells its progress.
func taken(one, other *daemon) (runs, asks *daemon, tracker *progress.Tracker) {
	select {
	case tracker = <-one.started:
		return one, other, tracker
	case tracker = <-other.started:
		return other, one, tracker
	}
}

func TestAnyDaemonAnswersForAJobThatRunsAtAnother(t *testing.T) {
	t.Parallel()
	name := server.Database(t, "postgres")
	here := startDaemon(t, name, jobs.Options{})
	there := startDaemon(t, name, jobs.Options{MaxJobs: 1})
	// A first job makes the other daemon full, whoever has which.
	if _, err := here.Submit(t.Context(), []job.Definition{def("first")}, true); err != nil {
		t.Fatal(err)
	}
	runs, asks, tracker := taken(here, there)
	if n := len(runs.Running()) + len(asks.Running()); n != 1 {
		t.Fatalf("%d runs of one job", n)
	}

	w, err := asks.Watch(t.Context(), "first", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	tracker.SetPhase(progress.Exporting)
	tracker.AddFile("disk-0.qcow2", 1000).AddReceived(420)
	for live := false; !live; {
		e, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		live = e.Type == models.EventProgress && e.Progress.BytesDownloaded == 420
	}

	if err := asks.SetLimit(t.Context(), "first", "10MB/s"); err != nil {
		t.Fatal(err)
	}
	<-asks.limits // it has not the job, and says so to whoever looks after it
	if got := <-runs.limits; got != 10_000_000 {
		t.Errorf("the limit where the job runs is %d", got)
	}

	if err := asks.Cancel(t.Context(), []string{"first"}, job.Cancelled{})["first"]; err != nil {
		t.Errorf("cancel: %v", err)
	}
	for {
		e, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if e.Status == models.StatusCancelled {
			break
		}
	}
}

func TestTheFilesOfAJobThatRunsAtAnotherDaemonAreToldAsFarAsTheyFit(t *testing.T) {
	t.Parallel()
	name := server.Database(t, "postgres")
	here, there := startDaemon(t, name, jobs.Options{}), startDaemon(t, name, jobs.Options{})
	if _, err := here.Submit(t.Context(), []job.Definition{def("a")}, true); err != nil {
		t.Fatal(err)
	}
	runs, asks, tracker := taken(here, there)
	own, err := runs.Watch(t.Context(), "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	w, err := asks.Watch(t.Context(), "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	// until reads what is told until something is so.
	until := func(w *jobs.Watcher, so func() bool) {
		t.Helper()
		for !so() {
			if _, err := w.Next(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	tracker.SetPhase(progress.Exporting)
	disk := tracker.AddFile("disk-0.qcow2", 1000)
	disk.SetState(progress.Active)
	disk.AddReceived(420)
	disk.SetPosition(420)
	until(own, func() bool { files, _ := runs.Files(t.Context(), "a"); return len(files) == 1 })

	var files []models.FileProgress
	var unlisted int
	until(w, func() bool { files, unlisted = asks.Files(t.Context(), "a"); return len(files) == 1 })
	if f := files[0]; f.Name != "disk-0.qcow2" || f.Bytes != 420 || f.Total != 1000 || f.State != "active" || unlisted != 0 {
		t.Errorf("%+v and %d more", f, unlisted)
	}
	const many = 200
	for i := range many {
		f := tracker.AddFile(fmt.Sprintf("%03d-%s.qcow2", i, strings.Repeat("\u00e9", 100)), 1000)
		if f.SetState(progress.Complete); i%50 == 0 {
			f.SetState(progress.Retrying)
		}
	}
	until(w, func() bool { // once all are there, and as they are
		files, unlisted = asks.Files(t.Context(), "a")
		var going []string
		for _, f := range files {
			if f.State != "complete" {
				going = append(going, f.Name[:3])
			}
		}
		return len(files)+unlisted == 1+many && strings.Join(going, " ") == "dis 000 050 100 150"
	})
	if len(files) < 10 || unlisted == 0 {
		t.Errorf("%d files and %d more", len(files), unlisted)
	}
}

func TestARunEndsBeforeAClaimThatCannotBeRenewedIsFreeForOthers(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(p *pgtest.Proxy){
		"the server is away": func(p *pgtest.Proxy) {
			p.Close()
		},
		"the network is silent":                         func(p *pgtest.Proxy) { p.Silent.Store(true) },
		"each answer takes longer than a claim holds":   func(p *pgtest.Proxy) { p.Delay.Store(int64(6 * time.Second)) },
		"a heartbeat takes longer than there is for it": func(p *pgtest.Proxy) { p.Delay.Store(int64(400 * time.Millisecond)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runEndsInTime(t, away)
		})
	}
}

func runEndsInTime(t *testing.T, away func(p *pgtest.Proxy)) {
	p := server.Proxy(t)
	name := server.Database(t, "postgres")
	cutOff := &daemon{
		store:   open(t, postgres.Options{URL: p.URL("postgres", name)}),
		started: make(chan *progress.Tracker, 1), limits: make(chan int64, 1), hearing: make(chan struct{}),
	}
	const hold = 5 * time.Second
	var ended atomic.Int64
	cutOff.Manager = jobs.New(cutOff.store, runner{cutOff, func() { ended.Store(time.Now().UnixNano()) }}, jobs.Options{
		Notices: cutOff, Hold: hold, Heartbeat: time.Second, Poll: 50 * time.Millisecond, DrainTimeout: time.Second,
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	over := make(chan error, 1)
	go func() { over <- cutOff.Manager.Run(ctx) }()
	other := open(t, postgres.Options{URL: server.URL("postgres", name)})
	if err := other.Create(t.Context(), []jobs.NewJob{{Definition: def("a")}}); err != nil {
		t.Fatal(err)
	}
	<-cutOff.started
	away(p)
	var c jobs.Claimed
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for range look.C {
		var err error
		if c, err = other.Claim(t.Context(), jobs.ClaimRequest{Owner: "other", Hold: time.Hour}); err == nil {
			break
		}
		if !errors.Is(err, jobs.ErrNoJob) {
			t.Fatal(err)
		}
	}
	if at := ended.Load(); at == 0 {
		t.Error("the job is claimed elsewhere while it still runs here")
	}
	if c.Claim.Epoch != 2 || c.Deaths != 1 {
		t.Errorf("%+v", c.Claim)
	}
	cancel()
	p.Close()
	if err := <-over; err != nil && !errors.Is(err, jobs.ErrDrain) {
		t.Error(err)
	}
}

// runner is a daemon's, and tells when a run has ended.
type runner struct {
	*daemon
	ended func()
}

func (r runner) Run(ctx context.Context, d job.Definition, t *progress.Tracker) (job.Result, error) {
	defer r.ended()
	return r.daemon.Run(ctx, d, t)
}

func TestTwoDaemonsWriteOneAuditLog(t *testing.T) {
	t.Parallel()
	const each = 20
	name := server.Database(t, "postgres")
	var logs []*audit.Log
	for range 2 {
		s := open(t, postgres.Options{URL: server.URL("postgres", name)})
		logs = append(logs, audit.NewShared(s.Audit(), filepath.Join(t.TempDir(), "audit.head"), nil))
	}
	var wg sync.WaitGroup
	for _, l := range logs {
		for range 3 {
			wg.Go(func() {
				for range each {
					c, err := l.Begin(t.Context(), audit.Entry{Action: audit.Cancel})
					if err == nil {
						err = c.End(t.Context(), audit.Entry{Done: 1})
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	for _, l := range logs {
		if v, err := l.Verify(t.Context()); err != nil || v.Entries != 2*3*each*2 || len(v.Notes) > 0 {
			t.Errorf("%+v, %v", v, err)
		}
	}
	// What one of them has written is missed by that one, whoever removes it.
	server.Exec(t, name, `ALTER TABLE audit DISABLE TRIGGER ALL; DELETE FROM audit WHERE number > 100`)
	for _, l := range logs {
		broken := new(audit.BrokenError)
		if v, err := l.Verify(t.Context()); !errors.As(err, &broken) {
			t.Errorf("%+v, %v; want a broken log", v, err)
		}
	}
}

func TestAuditEntriesAreNeitherChangedNorRemovedByMistake(t *testing.T) {
	t.Parallel()
	s := fresh(t)
	if _, err := audit.NewShared(s.Audit(), "", nil).Begin(t.Context(), audit.Entry{Action: audit.Cancel}); err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{`UPDATE audit SET data = 'x'`, `DELETE FROM audit`, `TRUNCATE audit`} {
		if err := s.Exec(t.Context(), statement); err == nil {
			t.Errorf("%s: done", statement)
		}
	}
}
