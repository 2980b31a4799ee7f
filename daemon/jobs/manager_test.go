package jobs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

func TestASubmittedJobRunsToItsEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		d := start(t, store, func(_ context.Context, def job.Definition, tr *progress.Tracker) (job.Result, error) {
			tr.SetPhase(progress.Exporting)
			f := tr.AddFile("disk-0.vmdk", 100)
			f.AddReceived(60)
			f.SetPosition(100)
			f.SetState(progress.Complete)
			return job.Result{VMName: def.Name, Success: true}, nil
		}, jobs.Options{})
		submit(t, d.Manager, def("a"))
		j := wantStatus(t, d.Manager, "a", models.StatusCompleted)
		if j.Result == nil || j.Result.VMName != "a" {
			t.Errorf("result = %+v", j.Result)
		}
		want := models.Progress{Phase: "done", FilesDownloaded: 1, TotalFiles: 1, BytesDownloaded: 60, TotalBytes: 100, PercentComplete: 100}
		if *j.Progress != want {
			t.Errorf("progress = %+v, want %+v", *j.Progress, want)
		}
		if c, err := d.Stats(t.Context()); err != nil || c != (jobs.Counts{Completed: 1}) {
			t.Errorf("Stats = %+v, %v", c, err)
		}
	})
}

func TestLimitsHoldPerDaemonAndPerVCenter(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		var g gauge
		d := start(t, store, g.run, jobs.Options{MaxJobs: 7, PerVCenter: map[string]int{"big": 3, "other": 3, "small": 1, "any": 0}})
		for _, vcenter := range []string{"big", "small", "other"} {
			for i := range 8 {
				def := def(fmt.Sprint(vcenter, i))
				def.VCenter = vcenter
				submit(t, d.Manager, def)
			}
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		for key, want := range map[string]int{"all": 7, "big": 3, "other": 3, "small": 1} {
			if g.most[key] != want {
				t.Errorf("%d jobs at once for %s, want %d", g.most[key], key, want)
			}
		}
		if c, _ := d.Stats(t.Context()); c.Completed != 24 {
			t.Errorf("counts = %+v, want 24 completed", c)
		}
	})
}

func TestQueryShowsTheLiveProgressOfARun(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		files := make(chan *progress.File, 1)
		d := start(t, store, func(ctx context.Context, def job.Definition, tr *progress.Tracker) (job.Result, error) {
			files <- tr.AddFile("disk-0.vmdk", 1000)
			return untilStopped(ctx, def, tr)
		}, jobs.Options{Heartbeat: time.Hour, Hold: 2 * time.Hour})
		submit(t, d.Manager, def("a"))
		f := <-files
		f.SetState(progress.Active)
		f.SetPosition(420)
		time.Sleep(1100 * time.Millisecond)
		page, err := d.Query(t.Context(), jobs.Query{})
		if err != nil || len(page.Jobs) != 1 {
			t.Fatalf("Query = %+v, %v", page, err)
		}
		p := page.Jobs[0].Progress
		if p.PercentComplete != 42 || p.CurrentFile != "disk-0.vmdk" || p.Phase != "exporting" {
			t.Errorf("progress = %+v", p)
		}
	})
}

func TestAFailedRunIsTriedAgainAfterGrowingDelays(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		var starts []time.Duration
		began := time.Now()
		d := start(t, store, func(context.Context, job.Definition, *progress.Tracker) (job.Result, error) {
			starts = append(starts, time.Since(began).Round(time.Second))
			if len(starts) < 4 {
				return job.Result{}, errors.New("host is busy")
			}
			return job.Result{Success: true}, nil
		}, jobs.Options{RetryMin: 10 * time.Second, RetryMax: 30 * time.Second})
		a := def("a")
		a.Options.Retries = 3
		submit(t, d.Manager, a)
		j := wantStatus(t, d.Manager, "a", models.StatusPending)
		if j.Attempts != 1 || j.Error != "host is busy" || j.NextAttempt == nil {
			t.Errorf("a job that waits for its next attempt: %+v", j)
		}
		time.Sleep(2 * time.Minute)
		wantStatus(t, d.Manager, "a", models.StatusCompleted)
		if want := "[0s 10s 30s 1m0s]"; fmt.Sprint(starts) != want {
			t.Errorf("attempts began at %v, want %s", starts, want)
		}
	})
}

func TestARunFailsForGood(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		retries  int
		err      error
		attempts int
	}{
		"when its attempts are used up":         {2, errors.New("broken"), 3},
		"when another attempt would be useless": {2, fmt.Errorf("export: %w", permanentErr{"broken"}), 1},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, store jobs.Store) {
				attempts := 0
				d := start(t, store, func(context.Context, job.Definition, *progress.Tracker) (job.Result, error) {
					attempts++
					return job.Result{}, test.err
				}, jobs.Options{})
				a := def("a")
				a.Options.Retries = test.retries
				submit(t, d.Manager, a)
				time.Sleep(time.Hour)
				j := wantStatus(t, d.Manager, "a", models.StatusFailed)
				if j.Error != test.err.Error() || attempts != test.attempts || j.Attempts != test.attempts {
					t.Errorf("job %+v after %d attempts, want %d", j, attempts, test.attempts)
				}
			})
		})
	}
}

// failedThenCompleted starts a daemon with a job "a", which has failed and was
// completed when it was tried again.
func failedThenCompleted(t *testing.T, store jobs.Store) *daemon {
	t.Helper()
	err := errors.New("broken")
	d := start(t, store, func(context.Context, job.Definition, *progress.Tracker) (job.Result, error) {
		return job.Result{}, err
	}, jobs.Options{})
	submit(t, d.Manager, def("a"))
	wantStatus(t, d.Manager, "a", models.StatusFailed)
	err = nil
	if err := d.Retry(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, d.Manager, "a", models.StatusCompleted)
	return d
}

func TestAFailedJobCanBeTriedAgainByHand(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		d := failedThenCompleted(t, store)
		if err := d.Retry(t.Context(), "a"); !errors.Is(err, jobs.ErrCompleted) {
			t.Errorf("Retry of a completed job = %v, want ErrCompleted", err)
		}
		if err := d.Delete(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Get(t.Context(), "a"); !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("Get of a deleted job = %v, want ErrNotFound", err)
		}
	})
}

func TestAPanicFailsTheJobAndGoesToTheLogOnly(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		var log bytes.Buffer
		d := start(t, store, func(context.Context, job.Definition, *progress.Tracker) (job.Result, error) {
			panic("index out of range")
		}, jobs.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		a := def("a")
		a.Options.Retries = 5
		submit(t, d.Manager, a)
		j := wantStatus(t, d.Manager, "a", models.StatusFailed)
		if strings.Contains(j.Error, "index") || !strings.Contains(j.Error, "internal error") {
			t.Errorf("error shown = %q", j.Error)
		}
		if err := d.stop(); err != nil {
			t.Error(err)
		}
		for _, want := range []string{"index out of range", "manager_test.go", "job=a"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log lacks %q:\n%s", want, log.String())
			}
		}
	})
}

func TestAnOutcomeIsStoredOnceTheStoreIsBack(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		cut := &cutStore{Store: store}
		d := start(t, cut, func(context.Context, job.Definition, *progress.Tracker) (job.Result, error) {
			cut.set(true)
			return job.Result{Success: true}, nil
		}, jobs.Options{})
		submit(t, d.Manager, def("a"))
		time.Sleep(time.Hour)
		wantStatus(t, d.Manager, "a", models.StatusRunning)
		cut.set(false)
		time.Sleep(10 * time.Second)
		wantStatus(t, d.Manager, "a", models.StatusCompleted)
	})
}
