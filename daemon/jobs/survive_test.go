package jobs_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

func TestAShutdownHandsJobsBackAndTheNextDaemonGoesOnAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		var mu sync.Mutex
		causes := make(map[string]error)
		d := start(t, store, func(ctx context.Context, def models.JobDefinition, tr *progress.Tracker) (models.Result, error) {
			_, err := untilStopped(ctx, def, tr)
			time.Sleep(time.Second) // a checkpoint
			mu.Lock()
			defer mu.Unlock()
			causes[def.ID] = context.Cause(ctx)
			return models.Result{}, err
		}, jobs.Options{})
		submit(t, d.Manager, def("a"), def("b"))
		wantStatus(t, d.Manager, "b", models.StatusRunning)
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"a", "b"} {
			if causes[id] != models.ErrShutdown {
				t.Errorf("cause of %s = %v, want ErrShutdown", id, causes[id])
			}
			if j := wantStatus(t, d.Manager, id, models.StatusPending); j.Attempts != 0 || j.NextAttempt != nil || j.Error != "" {
				t.Errorf("job handed back: %+v", j)
			}
		}
		next := start(t, store, succeed, jobs.Options{})
		wantStatus(t, next.Manager, "a", models.StatusCompleted)
		wantStatus(t, next.Manager, "b", models.StatusCompleted)
	})
}

func TestAShutdownIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		release := make(chan struct{})
		defer close(release)
		d := start(t, store, func(context.Context, models.JobDefinition, *progress.Tracker) (models.Result, error) {
			<-release
			return models.Result{}, errors.New("too late")
		}, jobs.Options{DrainTimeout: 7 * time.Second})
		submit(t, d.Manager, def("stubborn"))
		wantStatus(t, d.Manager, "stubborn", models.StatusRunning)
		began := time.Now()
		if err := d.stop(); !errors.Is(err, jobs.ErrDrain) {
			t.Errorf("Run = %v, want ErrDrain", err)
		}
		if took := time.Since(began); took != 7*time.Second {
			t.Errorf("the shutdown took %v, want 7s", took)
		}
	})
}

func TestAFailureThatIsFinalIsKeptThroughAShutdown(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		d := start(t, store, func(ctx context.Context, _ models.JobDefinition, _ *progress.Tracker) (models.Result, error) {
			<-ctx.Done()
			return models.Result{}, permanentErr{"the VM has a vTPM"}
		}, jobs.Options{})
		submit(t, d.Manager, def("a"))
		wantStatus(t, d.Manager, "a", models.StatusRunning)
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, d.Manager, "a", models.StatusFailed)
	})
}

func TestAJobOfADeadDaemonGoesOnInTheNext(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		cut := &cutStore{Store: store}
		dead := start(t, cut, untilStopped, jobs.Options{})
		submit(t, dead.Manager, def("a"))
		wantStatus(t, dead.Manager, "a", models.StatusRunning)
		cut.set(true) // it dies: nothing of what it does arrives any more

		next := start(t, store, succeed, jobs.Options{})
		time.Sleep(20 * time.Second)
		wantStatus(t, next.Manager, "a", models.StatusRunning)
		time.Sleep(20 * time.Second)
		if j := wantStatus(t, next.Manager, "a", models.StatusCompleted); j.Attempts != 0 {
			t.Errorf("attempts = %d, want 0: a crash is no failure of the job", j.Attempts)
		}
	})
}

func TestADaemonThatLosesItsLeaseEndsTheRunAndWritesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		cut := &cutStore{Store: store}
		causes := make(chan error, 1)
		began := time.Now()
		var ended time.Duration
		d := start(t, cut, func(ctx context.Context, def models.JobDefinition, tr *progress.Tracker) (models.Result, error) {
			_, err := untilStopped(ctx, def, tr)
			ended = time.Since(began)
			causes <- context.Cause(ctx)
			return models.Result{}, err
		}, jobs.Options{})
		submit(t, d.Manager, def("a"))
		wantStatus(t, d.Manager, "a", models.StatusRunning)
		cut.set(true)
		if cause := <-causes; cause != models.ErrLeaseLost {
			t.Errorf("cause = %v, want ErrLeaseLost", cause)
		}
		if ended > 35*time.Second {
			t.Errorf("the run ended after %v, its lease after 30s", ended)
		}
		other := start(t, store, succeed, jobs.Options{})
		time.Sleep(5 * time.Second)
		wantStatus(t, other.Manager, "a", models.StatusCompleted)
		cut.set(false) // the late outcome arrives, and is refused
		time.Sleep(time.Minute)
		wantStatus(t, other.Manager, "a", models.StatusCompleted)
	})
}

func TestARunWhoseLeaseWasTakenIsToldWithTheNextHeartbeat(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		cut := &cutStore{Store: store}
		causes := make(chan error, 1)
		d := start(t, cut, func(ctx context.Context, def models.JobDefinition, tr *progress.Tracker) (models.Result, error) {
			_, err := untilStopped(ctx, def, tr)
			causes <- context.Cause(ctx)
			return models.Result{}, err
		}, jobs.Options{Heartbeat: 29 * time.Second})
		submit(t, d.Manager, def("a"))
		wantStatus(t, d.Manager, "a", models.StatusRunning)
		cut.set(true)
		time.Sleep(31 * time.Second) // one heartbeat is lost, and with it the lease
		taken, err := store.Claim(t.Context(), jobs.ClaimRequest{Owner: "other", Lease: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		cut.set(false)
		if cause := <-causes; cause != models.ErrLeaseLost {
			t.Errorf("cause = %v, want ErrLeaseLost", cause)
		}
		synctest.Wait()
		if err := store.Finish(t.Context(), taken.Lease, jobs.Outcome{Status: models.StatusCompleted}); err != nil {
			t.Errorf("the new owner's outcome: %v", err)
		}
	})
}
