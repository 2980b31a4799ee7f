package jobs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// site are vCenters that can be away. It is Runner and VCenters in one.
type site struct {
	mu       sync.Mutex
	away     map[string]jobs.VCenterState // by vCenter
	reached  progress.Phase               // in which runs find out
	back     bool                         // runs say that it answers again
	runs     map[string]int               // by job
	probes   map[string]int               // by vCenter
	forgiven int
	silent   bool          // a clean-up does not end by itself
	takes    time.Duration // a run
}

func newSite() *site {
	return &site{away: map[string]jobs.VCenterState{}, runs: map[string]int{}, probes: map[string]int{}, reached: progress.Connecting}
}

func (s *site) set(vcenter string, state jobs.VCenterState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away[vcenter] = state
}

func (s *site) err(def job.Definition) error {
	state := s.away[def.VCenter]
	if state == "" || state != jobs.Unreachable && def.Username != "" {
		return nil
	}
	return fmt.Errorf("connect: %w", &jobs.Unavailable{State: state, Back: s.back, Err: errors.New("connection refused")})
}

func (s *site) Run(ctx context.Context, def job.Definition, t *progress.Tracker) (job.Result, error) {
	t.SetPhase(progress.Connecting)
	s.mu.Lock()
	s.runs[def.ID]++
	if s.err(def) != nil {
		t.SetPhase(s.reached)
	}
	err, takes := s.err(def), s.takes
	s.mu.Unlock()
	if err != nil {
		return job.Result{}, err
	}
	t.SetPhase(progress.Exporting)
	select {
	case <-ctx.Done():
		return job.Result{}, ctx.Err()
	case <-time.After(takes):
		return job.Result{Success: true}, nil
	}
}

func (s *site) CleanUp(ctx context.Context, def job.Definition, _ bool, _ *progress.Tracker) (job.Result, error) {
	s.mu.Lock()
	err, silent := s.err(def), s.silent
	s.mu.Unlock()
	if silent {
		<-ctx.Done()
		return job.Result{}, ctx.Err()
	}
	return job.Result{}, err
}

func (s *site) Probe(_ context.Context, def job.Definition) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probes[def.VCenter]++
	return s.err(def)
}

func (s *site) Forgive(job.Definition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgiven++
}

// asked is how often a vCenter was probed.
func (s *site) asked(vcenter string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.probes[vcenter]
}

// ran is how often a job was run.
func (s *site) ran(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs[id]
}

func (s *site) forgivenTimes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.forgiven
}

// open starts a daemon at the site.
func (s *site) open(t *testing.T, store jobs.Store, o jobs.Options) *daemon {
	t.Helper()
	o.VCenters = s
	return startRunner(t, store, s, o)
}

// lockedBuffer is a log that can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func many(n int, vcenter string) []job.Definition {
	var out []job.Definition
	for i := range n {
		d := def(fmt.Sprintf("%s-%02d", vcenter, i))
		d.VCenter = vcenter
		out = append(out, d)
	}
	return out
}

func counts(t *testing.T, m *jobs.Manager) jobs.Counts {
	t.Helper()
	synctest.Wait()
	c, err := m.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAnOutageOfAVCenterCostsNoJobAnAttempt(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		var log lockedBuffer
		s := newSite()
		s.set("lab", jobs.Unreachable)
		d := s.open(t, store, jobs.Options{MaxJobs: 3, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		submit(t, d.Manager, many(44, "lab")...)
		submit(t, d.Manager, many(3, "other")...)
		time.Sleep(8 * time.Hour)
		if c := counts(t, d.Manager); c != (jobs.Counts{Pending: 44, Completed: 3}) {
			t.Fatalf("during the outage of one of two vCenters: %+v", c)
		}
		j := wantStatus(t, d.Manager, "lab-07", models.StatusPending)
		if want := "waiting for vCenter lab since "; !strings.HasPrefix(j.WaitingFor, want) || !strings.HasSuffix(j.WaitingFor, ": connect: connection refused") && !strings.HasSuffix(j.WaitingFor, ": connection refused") {
			t.Errorf("it waits for %q, want %q…", j.WaitingFor, want)
		}
		if s.asked("lab") < 400 || s.asked("lab") > 700 {
			t.Errorf("%d questions in 8 h, want about one a minute", s.asked("lab"))
		}
		all, err := d.VCenters(t.Context())
		if err != nil || len(all) != 1 || all[0].Name != "lab" || all[0].State != jobs.Unreachable || all[0].Waiting != 44 ||
			all[0].Reason != "connection refused" || time.Until(all[0].NextProbe) > 90*time.Second {
			t.Errorf("vCenters: %+v, %v", all, err)
		}
		s.set("lab", "")
		time.Sleep(2 * time.Minute)
		if c := counts(t, d.Manager); c != (jobs.Counts{Completed: 47}) {
			t.Errorf("after the outage: %+v", c)
		}
		for _, def := range many(44, "lab") {
			if j := wantStatus(t, d.Manager, def.ID, models.StatusCompleted); j.Attempts != 0 || s.ran(def.ID) > 2 {
				t.Errorf("job %s: %d attempts, %d runs", def.ID, j.Attempts, s.ran(def.ID))
			}
		}
		if all, err := d.VCenters(t.Context()); err != nil || len(all) > 0 {
			t.Errorf("vCenters that are back: %+v, %v", all, err)
		}
		for text, want := range map[string]int{"its jobs wait": 1, "its jobs go on": 1} {
			if n := strings.Count(log.String(), text); n != want {
				t.Errorf("the log says %d times that %q, want once:\n%s", n, text, log.String())
			}
		}
	})
}

func TestAVCenterThatComesAndGoesIsNotAskedMoreOften(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		var n atomic.Int64
		d := start(t, store, func(context.Context, job.Definition, *progress.Tracker) (job.Result, error) {
			n.Add(1)
			return job.Result{}, &jobs.Unavailable{State: jobs.Unreachable, Err: errors.New("gone")}
		}, jobs.Options{MaxJobs: 3}) // whoever is asked says that it answers
		submit(t, d.Manager, many(20, "lab")...)
		time.Sleep(time.Hour)
		if n.Load() > 300 {
			t.Errorf("%d runs in an hour", n.Load())
		}
		if c := counts(t, d.Manager); c.Pending != 20 {
			t.Errorf("%+v, want all to wait", c)
		}
	})
}

func TestARefusedLoginHoldsTheJobsThatUseIt(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		s := newSite()
		s.set("", jobs.LoginRefused)
		d := s.open(t, store, jobs.Options{MaxJobs: 2, Sealer: reversing{}})
		own := def("own")
		own.VCenter, own.Username, own.Password = "", "alice", "s"
		submit(t, d.Manager, many(10, "")...)
		submit(t, d.Manager, own)
		time.Sleep(time.Hour)
		if c := counts(t, d.Manager); c.Pending != 10 || c.Completed != 1 {
			t.Errorf("%+v, want the job with a user of its own to be completed and the others to wait", c)
		}
		// Its login may have been refused to somebody who looked for VMs.
		if err := d.Resume("other"); !errors.Is(err, jobs.ErrUsable) || s.forgivenTimes() != 1 {
			t.Errorf("Resume of a vCenter that no job waits for = %v, and the login was forgiven %d times, want ErrUsable, and once", err, s.forgivenTimes())
		}
		before := s.asked("")
		if err := d.Resume(""); err != nil || s.forgivenTimes() != 2 {
			t.Errorf("Resume = %v, and the login was forgiven %d times", err, s.forgivenTimes())
		}
		synctest.Wait()
		if s.asked("") != before+1 {
			t.Error("a vCenter that is resumed is not asked at once")
		}
		s.set("", "")
		time.Sleep(10 * time.Second)
		if c := counts(t, d.Manager); c.Completed != 11 {
			t.Errorf("%+v, want all to be completed once the login is right", c)
		}
	})
}

func TestARetryForgivesARefusedLoginOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		s := newSite()
		d := start(t, store, func(context.Context, job.Definition, *progress.Tracker) (job.Result, error) {
			return job.Result{}, permanentErr{"login refused"}
		}, jobs.Options{VCenters: s, Sealer: reversing{}})
		var ids []string
		for _, def := range many(20, "") {
			def.Username, def.Password = "alice", "s"
			submit(t, d.Manager, def)
			ids = append(ids, def.ID)
		}
		if c := counts(t, d.Manager); c.Failed != 20 {
			t.Fatalf("%+v", c)
		}
		outcome, err := d.RetryAll(t.Context(), append(ids, "unknown"))
		if err != nil || len(outcome) != 21 || !errors.Is(outcome["unknown"], jobs.ErrNotFound) || outcome[ids[3]] != nil {
			t.Errorf("RetryAll = %v, %v", outcome, err)
		}
		if s.forgivenTimes() != 1 {
			t.Errorf("one user's login was forgiven %d times", s.forgivenTimes())
		}
	})
}

func TestAJobThatFailsAtAVCenterThatAnswersFailsInTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		s := newSite()
		s.set("lab", jobs.Unreachable)
		s.back, s.reached = true, progress.Exporting
		d := s.open(t, store, jobs.Options{})
		submit(t, d.Manager, def("a"))
		if j := wantStatus(t, d.Manager, "a", models.StatusPending); j.NextAttempt == nil || j.Attempts != 0 || j.WaitingFor != "" {
			t.Errorf("after the first run: %+v", j)
		}
		time.Sleep(time.Hour)
		wantStatus(t, d.Manager, "a", models.StatusFailed)
		if s.ran("a") != 3 {
			t.Errorf("%d runs, want 3: two that are excused, and one that counts", s.ran("a"))
		}
	})
}

func TestAWaitingJobIsCancelledAtOnceWhenItDidNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		s := newSite()
		s.set("lab", jobs.Unreachable)
		d := s.open(t, store, jobs.Options{MaxJobs: 2})
		submit(t, d.Manager, many(3, "lab")...)
		time.Sleep(time.Minute)
		began := time.Now()
		for id, err := range d.Cancel(t.Context(), []string{"lab-00", "lab-01", "lab-02"}, job.Cancelled{}) {
			if err != nil {
				t.Errorf("cancel of %s: %v", id, err)
			}
			if j := wantStatus(t, d.Manager, id, models.StatusCancelled); j.Error != "" || j.WaitingFor != "" {
				t.Errorf("job %s: %+v", id, j)
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %v", took)
		}
	})
}

func TestACancelAtAVCenterThatIsAwayIsBoundedAndSaysWhatItWaitsFor(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		s := newSite()
		s.reached, s.silent = progress.Exporting, true
		s.set("lab", jobs.Unreachable)
		d := s.open(t, store, jobs.Options{})
		submit(t, d.Manager, def("a"))
		wantStatus(t, d.Manager, "a", models.StatusPending)
		began := time.Now()
		done := make(chan error, 1)
		go func() { done <- d.Cancel(t.Context(), []string{"a"}, job.Cancelled{})["a"] }()
		time.Sleep(2 * time.Second)
		j := wantStatus(t, d.Manager, "a", models.StatusRunning)
		if want := "cancelling: waiting for vCenter lab since "; !strings.HasPrefix(j.WaitingFor, want) {
			t.Errorf("it waits for %q, want %q…", j.WaitingFor, want)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("the cancel took %v", took)
		}
		j = wantStatus(t, d.Manager, "a", models.StatusCancelled)
		if !strings.Contains(j.Error, "hyper2kvm clean") || !strings.Contains(j.Error, "/out/a") {
			t.Errorf("error %q does not tell what is owed and how it is settled", j.Error)
		}
	})
}

func TestACancelWaitsForAVCenterThatComesBackSoon(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		s := newSite()
		s.reached = progress.Exporting
		s.set("lab", jobs.Unreachable)
		d := s.open(t, store, jobs.Options{})
		submit(t, d.Manager, def("a"))
		wantStatus(t, d.Manager, "a", models.StatusPending)
		time.AfterFunc(8*time.Second, func() { s.set("lab", "") })
		if err := d.Cancel(t.Context(), []string{"a"}, job.Cancelled{})["a"]; err != nil {
			t.Fatal(err)
		}
		if j := wantStatus(t, d.Manager, "a", models.StatusCancelled); j.Error != "" {
			t.Errorf("error %q", j.Error)
		}
	})
}

func TestACancelledRunThatDoesNotEndIsLeftToItself(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		release := make(chan struct{})
		d := start(t, store, func(ctx context.Context, _ job.Definition, _ *progress.Tracker) (job.Result, error) {
			<-ctx.Done()
			<-release
			return job.Result{}, ctx.Err()
		}, jobs.Options{})
		submit(t, d.Manager, def("a"))
		wantStatus(t, d.Manager, "a", models.StatusRunning)
		began := time.Now()
		if err := d.Cancel(t.Context(), []string{"a"}, job.Cancelled{})["a"]; err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 2*time.Minute {
			t.Errorf("the cancel took %v", took)
		}
		if j := wantStatus(t, d.Manager, "a", models.StatusCancelled); !strings.Contains(j.Error, "still undoing") {
			t.Errorf("error %q", j.Error)
		}
		if err := d.Retry(t.Context(), "a"); !errors.Is(err, jobs.ErrNotFinished) {
			t.Errorf("Retry while the run still undoes = %v, want ErrNotFinished", err)
		}
		close(release)
		synctest.Wait()
		if err := d.Retry(t.Context(), "a"); err != nil {
			t.Errorf("Retry afterwards = %v", err)
		}
	})
}

func TestAShutdownDoesNotWaitForWhatIsCancelledAndAway(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		release := make(chan struct{})
		d := start(t, store, func(ctx context.Context, _ job.Definition, _ *progress.Tracker) (job.Result, error) {
			<-ctx.Done()
			<-release
			return job.Result{}, ctx.Err()
		}, jobs.Options{})
		submit(t, d.Manager, def("a"))
		wantStatus(t, d.Manager, "a", models.StatusRunning)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_ = d.Cancel(ctx, []string{"a"}, job.Cancelled{})
		if err := d.stop(); err != nil {
			t.Errorf("Run = %v", err)
		}
		close(release)
		next := start(t, store, succeed, jobs.Options{})
		wantStatus(t, next.Manager, "a", models.StatusCancelled)
	})
}

func TestARestartDuringAnOutageCostsNoAttempt(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		s := newSite()
		s.set("lab", jobs.Unreachable)
		for range 5 {
			d := s.open(t, store, jobs.Options{MaxJobs: 3})
			if c := counts(t, d.Manager); c.Total() == 0 {
				submit(t, d.Manager, many(10, "lab")...)
			}
			time.Sleep(time.Minute)
			if err := d.stop(); err != nil {
				t.Fatal(err)
			}
		}
		s.set("lab", "")
		d := s.open(t, store, jobs.Options{MaxJobs: 3})
		for _, def := range many(10, "lab") {
			if j := wantStatus(t, d.Manager, def.ID, models.StatusCompleted); j.Attempts != 0 {
				t.Errorf("job %s: %d attempts", def.ID, j.Attempts)
			}
		}
	})
}

func TestAWatcherIsToldWhatAJobWaitsFor(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		s := newSite()
		s.set("lab", jobs.Unreachable)
		d := s.open(t, store, jobs.Options{MaxJobs: 1})
		submit(t, d.Manager, many(2, "lab")...)
		w, err := d.Watch(t.Context(), "lab-01", 0) // which is never run
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		time.AfterFunc(5*time.Minute, func() { s.set("lab", "") })
		var got []string
		for {
			e, err := w.Next(t.Context())
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if e.Type == models.EventLog {
				got = append(got, e.Text)
			}
		}
		if len(got) != 1 || !strings.HasPrefix(got[0], "waiting for vCenter lab since ") {
			t.Errorf("it was told %q, want once what the job waits for", got)
		}
	})
}

// deaf is a site whose probes do not end with their context.
type deaf struct {
	*site
	release chan struct{}
}

func (d deaf) Probe(context.Context, job.Definition) error {
	<-d.release
	return nil
}

func TestAShutdownDoesNotWaitForAProbeThatHangs(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		s := deaf{newSite(), make(chan struct{})}
		defer close(s.release)
		s.set("lab", jobs.Unreachable)
		d := startRunner(t, store, s, jobs.Options{VCenters: s, DrainTimeout: 7 * time.Second})
		submit(t, d.Manager, def("a"))
		time.Sleep(time.Minute)
		began := time.Now()
		if err := d.stop(); err != nil || time.Since(began) > 7*time.Second {
			t.Errorf("Run = %v after %v", err, time.Since(began))
		}
	})
}
