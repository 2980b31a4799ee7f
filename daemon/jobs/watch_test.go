package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// watch follows a job from an event on.
func watch(t *testing.T, m *jobs.Manager, id string, after int64) *jobs.Watcher {
	t.Helper()
	w, err := m.Watch(t.Context(), id, after)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// rest reads a job's events to the end.
func rest(t *testing.T, w *jobs.Watcher) []models.Event {
	t.Helper()
	var all []models.Event
	for {
		e, err := w.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
}

// words puts events into short words.
func words(events []models.Event) []string {
	var all []string
	for _, e := range events {
		switch e.Type {
		case models.EventState:
			all = append(all, string(e.Status)+" "+e.Phase)
		case models.EventLog:
			all = append(all, e.Level+": "+e.Text)
		case models.EventProgress:
			all = append(all, fmt.Sprintf("%v%%", e.Progress.PercentComplete))
		}
	}
	return all
}

// export is a run of ten seconds with a retry in it.
func export(_ context.Context, _ job.Definition, t *progress.Tracker) (job.Result, error) {
	t.SetPhase(progress.Connecting)
	time.Sleep(300 * time.Millisecond)
	t.SetPhase(progress.Exporting)
	f := t.AddFile("disk-0.vmdk", 100)
	f.SetState(progress.Active)
	for i := range 10 {
		if i == 4 {
			f.Event(progress.Warning, "connection cut; trying again")
		}
		f.SetPosition(int64(i * 10))
		time.Sleep(time.Second)
	}
	f.SetState(progress.Complete)
	return job.Result{Success: true}, nil
}

func TestAWatcherSeesStatesPhasesLogAndProgressInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		d := start(t, store, export, jobs.Options{})
		submit(t, d.Manager, def("a"))
		got := words(rest(t, watch(t, d.Manager, "a", 0)))
		var kept, percent []string
		for _, w := range got {
			if w[len(w)-1] == '%' {
				percent = append(percent, w)
			} else {
				kept = append(kept, w)
			}
		}
		want := []string{"pending ", "running ", "running connecting", "running exporting", "warning: connection cut; trying again", "completed "}
		if !slices.Equal(kept, want) {
			t.Errorf("kept events = %q, want %q", kept, want)
		}
		if want := []string{"0%", "10%", "20%", "30%", "40%", "50%", "60%", "70%", "80%", "90%"}; !slices.Equal(percent, want) {
			t.Errorf("progress = %v, want %v", percent, want)
		}
	})
}

func TestProgressComesAtMostOnceASecond(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		d := start(t, store, func(ctx context.Context, def job.Definition, tr *progress.Tracker) (job.Result, error) {
			for range 100 {
				for _, p := range []progress.Phase{progress.Connecting, progress.Exporting} {
					tr.SetPhase(p)
					time.Sleep(50 * time.Millisecond)
				}
			}
			return job.Result{}, nil
		}, jobs.Options{})
		submit(t, d.Manager, def("a"))
		var last time.Time
		for _, e := range rest(t, watch(t, d.Manager, "a", 0)) {
			if e.Type != models.EventProgress {
				continue
			}
			if since := e.Time.Sub(last); since < time.Second {
				t.Errorf("progress came after %v", since)
			}
			last = e.Time
		}
		if last.IsZero() {
			t.Error("no progress came")
		}
	})
}

func TestAWatcherResumesBehindAnyEvent(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		d := start(t, store, export, jobs.Options{})
		submit(t, d.Manager, def("a"))
		rest(t, watch(t, d.Manager, "a", 0))
		all := rest(t, watch(t, d.Manager, "a", 0))
		if len(all) != 6 {
			t.Fatalf("%d events kept, want 6", len(all))
		}
		for i, e := range all {
			if got := rest(t, watch(t, d.Manager, "a", e.ID)); !slices.Equal(words(got), words(all[i+1:])) {
				t.Errorf("after event %d: %q, want %q", e.ID, words(got), words(all[i+1:]))
			}
		}
	})
}

func TestAWatcherGoesOnWhenAFailedJobIsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		d := failedThenCompleted(t, store)
		got := words(rest(t, watch(t, d.Manager, "a", 0)))
		if want := []string{"pending ", "running ", "failed ", "pending ", "running ", "completed "}; !slices.Equal(got, want) {
			t.Errorf("events = %q, want %q", got, want)
		}
	})
}

func TestNextMayBeCalledAgainAfterItsContextEnded(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		m := jobs.New(store, runnerFunc(succeed), jobs.Options{})
		submit(t, m, def("a"))
		w := watch(t, m, "a", 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if e, err := w.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Next = %+v, %v; want DeadlineExceeded", e, err)
		}
		m.Cancel(t.Context(), []string{"a"}, job.Cancelled{})
		if e, err := w.Next(t.Context()); err != nil || e.Status != models.StatusCancelled {
			t.Errorf("Next = %+v, %v; want the cancel", e, err)
		}
	})
}

func TestAWatcherLearnsThatItsJobIsGone(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		m := jobs.New(store, runnerFunc(succeed), jobs.Options{})
		if _, err := m.Watch(t.Context(), "unknown", 0); !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("Watch = %v, want ErrNotFound", err)
		}
		submit(t, m, def("a"))
		m.Cancel(t.Context(), []string{"a"}, job.Cancelled{})
		w := watch(t, m, "a", 0)
		if err := m.Delete(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		for range 2 { // what it has read already comes first
			if _, err := w.Next(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Next(t.Context()); !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("Next = %v, want ErrNotFound", err)
		}
	})
}

func TestAJobInAnotherDaemonIsWatchedThroughTheStore(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		one := start(t, store, export, jobs.Options{})
		other := jobs.New(store, runnerFunc(succeed), jobs.Options{Heartbeat: time.Second})
		submit(t, one.Manager, def("a"))
		got := words(rest(t, watch(t, other, "a", 0)))
		if last := got[len(got)-1]; last != "completed " || !slices.Contains(got, "40%") {
			t.Errorf("events = %q", got)
		}
	})
}

func TestManyWatchersAndSlowOnesHoldNothingUp(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		d := start(t, store, export, jobs.Options{})
		submit(t, d.Manager, def("a"))
		watch(t, d.Manager, "a", 0) // never reads
		var wg sync.WaitGroup
		for range 500 {
			w := watch(t, d.Manager, "a", 0)
			wg.Go(func() {
				for {
					e, err := w.Next(t.Context())
					if err != nil {
						t.Errorf("Next = %v", err)
						return
					}
					if e.Status.Final() {
						return
					}
				}
			})
		}
		began := time.Now()
		wg.Wait()
		if took := time.Since(began); took > 11*time.Second {
			t.Errorf("a run of 10.3s took %v with watchers", took)
		}
		synctest.Wait()
		wantStatus(t, d.Manager, "a", models.StatusCompleted)
	})
}
