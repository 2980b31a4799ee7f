package jobs_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

func TestCancelInEachPhaseReturnsOnceTheRunHasEnded(t *testing.T) {
	t.Parallel()
	for _, phase := range []progress.Phase{
		progress.Pending, progress.Connecting, progress.Discovering, progress.Preparing,
		progress.Exporting, progress.Verifying, progress.Describing,
	} {
		t.Run(string(phase), func(t *testing.T) {
			inBubble(t, func(t *testing.T, store jobs.Store) {
				var cleaned atomic.Bool
				var cause error
				d := start(t, store, func(ctx context.Context, _ job.Definition, tr *progress.Tracker) (job.Result, error) {
					tr.SetPhase(phase)
					<-ctx.Done()
					cause = context.Cause(ctx)
					time.Sleep(time.Second) // the lease is aborted, the snapshot removed
					cleaned.Store(true)
					return job.Result{}, ctx.Err()
				}, jobs.Options{})
				submit(t, d.Manager, def("a"))
				wantStatus(t, d.Manager, "a", models.StatusRunning)
				began := time.Now()
				if err := d.Cancel(t.Context(), []string{"a"}, job.Cancelled{KeepParts: true})["a"]; err != nil {
					t.Fatal(err)
				}
				if !cleaned.Load() {
					t.Error("Cancel returned before the run had cleaned up")
				}
				if took := time.Since(began); took != time.Second {
					t.Errorf("Cancel took %v, the run only a second", took)
				}
				if !errors.Is(cause, job.Cancelled{KeepParts: true}) {
					t.Errorf("cause = %#v", cause)
				}
				if j := wantStatus(t, d.Manager, "a", models.StatusCancelled); j.Error != "" || j.Attempts != 0 {
					t.Errorf("cancelled job: %+v", j)
				}
			})
		})
	}
}

func TestCancelAnswersForEachJob(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		d := start(t, store, func(ctx context.Context, def job.Definition, tr *progress.Tracker) (job.Result, error) {
			if def.ID == "done" {
				return job.Result{}, nil
			}
			return untilStopped(ctx, def, tr)
		}, jobs.Options{MaxJobs: 1})
		submit(t, d.Manager, def("done"))
		wantStatus(t, d.Manager, "done", models.StatusCompleted)
		submit(t, d.Manager, def("running"), def("pending"))
		wantStatus(t, d.Manager, "running", models.StatusRunning)
		got := d.Cancel(t.Context(), []string{"running", "pending", "done", "unknown", "running"}, job.Cancelled{})
		for id, want := range map[string]error{"running": nil, "pending": nil, "done": jobs.ErrFinished, "unknown": jobs.ErrNotFound} {
			if err, ok := got[id]; !ok || !errors.Is(err, want) {
				t.Errorf("Cancel of %s = %v, want %v", id, err, want)
			}
		}
		if len(got) != 4 {
			t.Errorf("answers = %v", got)
		}
		wantStatus(t, d.Manager, "pending", models.StatusCancelled)
		if err := d.Cancel(t.Context(), []string{"running"}, job.Cancelled{})["running"]; err != nil {
			t.Errorf("Cancel of a cancelled job = %v", err)
		}
	})
}

func TestACancelThatTakesTooLongStands(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		d := start(t, store, func(ctx context.Context, _ job.Definition, _ *progress.Tracker) (job.Result, error) {
			<-ctx.Done()
			time.Sleep(time.Minute)
			return job.Result{}, errors.New("the snapshot could not be removed")
		}, jobs.Options{})
		submit(t, d.Manager, def("a"))
		wantStatus(t, d.Manager, "a", models.StatusRunning)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := d.Cancel(ctx, []string{"a"}, job.Cancelled{})["a"]; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Cancel = %v, want DeadlineExceeded", err)
		}
		if j := wantStatus(t, d.Manager, "a", models.StatusRunning); !j.Cancelling {
			t.Error("the job does not say that it is being cancelled")
		}
		time.Sleep(time.Minute)
		if j := wantStatus(t, d.Manager, "a", models.StatusCancelled); j.Error != "the snapshot could not be removed" {
			t.Errorf("error = %q", j.Error)
		}
	})
}

func TestARunThatEndsInSpiteOfACancelIsCompleted(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		d := start(t, store, func(ctx context.Context, _ job.Definition, _ *progress.Tracker) (job.Result, error) {
			<-ctx.Done()
			return job.Result{Success: true}, nil
		}, jobs.Options{})
		submit(t, d.Manager, def("a"))
		wantStatus(t, d.Manager, "a", models.StatusRunning)
		if err := d.Cancel(t.Context(), []string{"a"}, job.Cancelled{})["a"]; !errors.Is(err, jobs.ErrFinished) {
			t.Errorf("Cancel = %v, want ErrFinished", err)
		}
		wantStatus(t, d.Manager, "a", models.StatusCompleted)
	})
}

func TestAJobThatWaitsForItsNextAttemptIsCleanedUpEvenByAFullDaemon(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		var cleaned []bool
		runner := leaving{func(ctx context.Context, def job.Definition, tr *progress.Tracker) (job.Result, error) {
			if def.ID != "a" {
				return untilStopped(ctx, def, tr)
			}
			return job.Result{}, errors.New("broken")
		}, func(ctx context.Context, _ job.Definition, keepParts bool) (job.Result, error) {
			cleaned = append(cleaned, keepParts)
			return job.Result{}, ctx.Err()
		}}
		d := startRunner(t, store, runner, jobs.Options{MaxJobs: 1, RetryMin: time.Hour})
		a := def("a")
		a.Options.Retries = 1
		submit(t, d.Manager, a)
		wantStatus(t, d.Manager, "a", models.StatusPending)
		submit(t, d.Manager, def("long"))
		wantStatus(t, d.Manager, "long", models.StatusRunning)
		if err := d.Cancel(t.Context(), []string{"a"}, job.Cancelled{})["a"]; err != nil {
			t.Fatal(err)
		}
		if len(cleaned) != 1 || cleaned[0] {
			t.Errorf("the clean-ups kept parts: %v; want one that does not", cleaned)
		}
		wantStatus(t, d.Manager, "a", models.StatusCancelled)
		wantStatus(t, d.Manager, "long", models.StatusRunning)
	})
}

func TestACancelByAnotherDaemonArrivesWithTheHeartbeat(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		one := start(t, store, untilStopped, jobs.Options{})
		submit(t, one.Manager, def("a"))
		wantStatus(t, one.Manager, "a", models.StatusRunning)
		other := start(t, store, untilStopped, jobs.Options{})
		began := time.Now()
		if err := other.Cancel(t.Context(), []string{"a"}, job.Cancelled{})["a"]; err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("the cancel took %v, a heartbeat and a poll are 6s", took)
		}
		synctest.Wait()
		wantStatus(t, other.Manager, "a", models.StatusCancelled)
	})
}

// cancelled cancels a job that failed once and waits for its next attempt, so that
// it is cleaned up.
func cancelled(t *testing.T, store jobs.Store, keep bool, cleanUp func(context.Context, job.Definition, bool) (job.Result, error)) *daemon {
	t.Helper()
	broken := func(context.Context, job.Definition, *progress.Tracker) (job.Result, error) {
		return job.Result{}, errors.New("broken")
	}
	d := startRunner(t, store, leaving{broken, cleanUp}, jobs.Options{RetryMin: time.Hour})
	a := def("a")
	a.Options.Retries = 1
	submit(t, d.Manager, a)
	wantStatus(t, d.Manager, "a", models.StatusPending)
	ctx, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	_ = d.Cancel(ctx, []string{"a"}, job.Cancelled{KeepParts: keep})
	return d
}

func TestACleanUpIsNotEndedByTheCancelThatItIsFor(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		d := cancelled(t, store, true, func(ctx context.Context, _ job.Definition, keepParts bool) (job.Result, error) {
			if !keepParts {
				t.Error("parts are to be kept")
			}
			select {
			case <-ctx.Done():
				t.Errorf("ended: %v", context.Cause(ctx))
			case <-time.After(time.Minute): // several heartbeats
			}
			return job.Result{}, nil
		})
		if err := d.Cancel(t.Context(), []string{"a"}, job.Cancelled{})["a"]; err != nil { // again, while it is cleaned up
			t.Error(err)
		}
		if j := wantStatus(t, d.Manager, "a", models.StatusCancelled); j.Error != "" {
			t.Errorf("error %q", j.Error)
		}
	})
}

func TestACleanUpSaysWhatIsLeftOrThatTheJobWasComplete(t *testing.T) {
	for name, tt := range map[string]struct {
		result job.Result
		err    error
		status models.Status
		text   string
	}{
		"something is left": {err: errors.New("a snapshot is left"), status: models.StatusCancelled, text: "a snapshot is left"},
		"it was complete":   {result: job.Result{Success: true}, status: models.StatusCompleted},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, store jobs.Store) {
				d := cancelled(t, store, false, func(context.Context, job.Definition, bool) (job.Result, error) {
					return tt.result, tt.err
				})
				if j := wantStatus(t, d.Manager, "a", tt.status); j.Error != tt.text {
					t.Errorf("error %q, want %q", j.Error, tt.text)
				}
			})
		})
	}
}

func TestACleanUpThatAShutdownEndsIsDoneByTheNextDaemon(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		d := cancelled(t, store, false, func(ctx context.Context, _ job.Definition, _ bool) (job.Result, error) {
			<-ctx.Done()
			if cause := context.Cause(ctx); !errors.Is(cause, job.ErrShutdown) {
				t.Errorf("ended by %v", cause)
			}
			return job.Result{}, ctx.Err()
		})
		wantStatus(t, d.Manager, "a", models.StatusRunning)
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
		next := start(t, store, succeed, jobs.Options{})
		wantStatus(t, next.Manager, "a", models.StatusCancelled)
	})
}
