package jobs_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

func TestAShutdownHandsJobsBackAndTheNextDaemonGoesOnAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		var mu sync.Mutex
		causes := make(map[string]error)
		d := start(t, store, func(ctx context.Context, def job.Definition, tr *progress.Tracker) (job.Result, error) {
			_, err := untilStopped(ctx, def, tr)
			time.Sleep(time.Second) // a checkpoint
			mu.Lock()
			defer mu.Unlock()
			causes[def.ID] = context.Cause(ctx)
			return job.Result{}, err
		}, jobs.Options{})
		submit(t, d.Manager, def("a"), def("b"))
		wantStatus(t, d.Manager, "b", models.StatusRunning)
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"a", "b"} {
			if !errors.Is(causes[id], job.ErrShutdown) {
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

func TestAShutdownIsBoundedAndHandsBackWhatHasNotEnded(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		release := make(chan struct{})
		d := start(t, store, func(context.Context, job.Definition, *progress.Tracker) (job.Result, error) {
			<-release
			return job.Result{Success: true}, nil
		}, jobs.Options{DrainTimeout: 7 * time.Second})
		submit(t, d.Manager, def("stubborn"))
		wantStatus(t, d.Manager, "stubborn", models.StatusRunning)
		began := time.Now()
		if err := d.stop(); err != nil {
			t.Errorf("Run = %v: a daemon that was told to stop did so in good order", err)
		}
		if took := time.Since(began); took != 7*time.Second {
			t.Errorf("the shutdown took %v, want 7s", took)
		}
		c, err := store.Claim(t.Context(), jobs.ClaimRequest{Owner: "next", Hold: time.Minute})
		if err != nil || c.Deaths != 0 {
			t.Errorf("the next daemon claims %+v, %v; want the job, and no death", c, err)
		}
		close(release) // what comes too late is refused
		wantStatus(t, d.Manager, "stubborn", models.StatusRunning)
	})
}

func TestAShutdownThatCannotHandBackSaysSo(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		release := make(chan struct{})
		defer close(release)
		cut := &cutStore{Store: store}
		d := start(t, cut, func(context.Context, job.Definition, *progress.Tracker) (job.Result, error) {
			<-release
			return job.Result{}, errors.New("too late")
		}, jobs.Options{})
		submit(t, d.Manager, def("stubborn"))
		wantStatus(t, d.Manager, "stubborn", models.StatusRunning)
		cut.set(true)
		if err := d.stop(); !errors.Is(err, jobs.ErrDrain) {
			t.Errorf("Run = %v, want ErrDrain", err)
		}
	})
}

func TestAFailureThatIsFinalIsKeptThroughAShutdown(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		d := start(t, store, func(ctx context.Context, _ job.Definition, _ *progress.Tracker) (job.Result, error) {
			<-ctx.Done()
			return job.Result{}, permanentErr{"the VM has a vTPM"}
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

// dies runs a daemon until the first of its jobs is in the phase of exporting, at
// that per cent, and then kills it.
func dies(t *testing.T, store jobs.Store, percent int64, o jobs.Options) {
	t.Helper()
	cut := &cutStore{Store: store}
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	m := jobs.New(cut, runnerFunc(func(ctx context.Context, def job.Definition, tr *progress.Tracker) (job.Result, error) {
		f := tr.AddFile("disk", 100)
		f.SetPosition(percent)
		return untilStopped(ctx, def, tr)
	}), o)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = m.Run(ctx) // it is killed
	}()
	time.Sleep(6 * time.Second) // at least one heartbeat
	cut.set(true)
	kill()
	<-ended
	time.Sleep(time.Minute) // the claims run out
}

func TestAJobThatTheDaemonDoesNotSurviveFailsInTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		submit(t, jobs.New(store, runnerFunc(succeed), jobs.Options{}), def("deadly"))
		for range 3 {
			dies(t, store, 0, jobs.Options{MaxDeaths: 3})
		}
		ran := false
		run := func(ctx context.Context, def job.Definition, tr *progress.Tracker) (job.Result, error) {
			ran = true
			return succeed(ctx, def, tr)
		}
		next := start(t, store, run, jobs.Options{MaxDeaths: 3})
		j := wantStatus(t, next.Manager, "deadly", models.StatusFailed)
		for _, want := range []string{"died 3 times", "exporting"} {
			if !strings.Contains(j.Error, want) {
				t.Errorf("error %q lacks %q", j.Error, want)
			}
		}
		if ran {
			t.Error("it was run once more")
		}
		if err := next.Retry(t.Context(), "deadly"); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, next.Manager, "deadly", models.StatusCompleted)
	})
}

func TestACancelledJobThatTheDaemonDoesNotSurviveIsCancelledInTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		submit(t, jobs.New(store, runnerFunc(succeed), jobs.Options{}), def("deadly"))
		for range 3 {
			dies(t, store, 0, jobs.Options{MaxDeaths: 3})
		}
		next := start(t, &cutStore{Store: store, cut: true}, succeed, jobs.Options{MaxDeaths: 3})
		_ = next.stop()
		if _, err := store.Cancel(t.Context(), "deadly", job.Cancelled{}); err != nil {
			t.Fatal(err)
		}
		last := startRunner(t, store, leaving{succeed, func(context.Context, job.Definition, bool) (job.Result, error) {
			t.Error("it is cleaned up, which the daemon may not survive either")
			return job.Result{}, nil
		}}, jobs.Options{MaxDeaths: 3})
		if j := wantStatus(t, last.Manager, "deadly", models.StatusCancelled); j.Error == "" {
			t.Error("the job does not say why nothing was cleaned up")
		}
	})
}

func TestDeathsAfterWhichAJobGetsFurtherDoNotCount(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		submit(t, jobs.New(store, runnerFunc(succeed), jobs.Options{}), def("long"))
		for n := range int64(10) {
			dies(t, store, 9*n, jobs.Options{MaxDeaths: 3})
		}
		next := start(t, store, succeed, jobs.Options{MaxDeaths: 3})
		wantStatus(t, next.Manager, "long", models.StatusCompleted)
	})
}

func TestSuspectsRunOneAfterAnotherSoThatTheInnocentDoNotFail(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		o := jobs.Options{MaxDeaths: 4, MaxJobs: 4, Trial: 20 * time.Second}
		submit(t, jobs.New(store, runnerFunc(succeed), o), def("innocent"), def("deadly"), def("slow"))
		dies(t, store, 0, o)
		dies(t, store, 0, o)
		var running, most int
		for life := range 3 { // each kills the daemon as soon as "deadly" begins
			cut := &cutStore{Store: store}
			ctx, kill := context.WithCancel(t.Context())
			m := jobs.New(cut, runnerFunc(func(ctx context.Context, def job.Definition, tr *progress.Tracker) (job.Result, error) {
				running++
				defer func() { running-- }()
				switch def.ID {
				case "innocent":
					most = max(most, running)
					select {
					case <-ctx.Done():
						return job.Result{}, ctx.Err()
					case <-time.After(10 * time.Second):
						return job.Result{}, nil
					}
				case "deadly":
					cut.set(true)
					kill()
				}
				return untilStopped(ctx, def, tr)
			}), o)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = m.Run(ctx) // it is killed
			}()
			if life < 2 {
				<-ended
			} else { // it is buried, and what is slow goes on
				time.Sleep(2 * time.Minute)
				wantStatus(t, m, "deadly", models.StatusFailed)
				wantStatus(t, m, "innocent", models.StatusCompleted)
				wantStatus(t, m, "slow", models.StatusRunning)
				kill()
				<-ended
			}
			kill()
			time.Sleep(time.Minute)
		}
		if most > 1 {
			t.Errorf("%d suspects ran at a time", most)
		}
	})
}

func TestADaemonThatLosesItsClaimEndsTheRunAndWritesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		cut := &cutStore{Store: store}
		causes := make(chan error, 1)
		began := time.Now()
		var ended time.Duration
		d := start(t, cut, func(ctx context.Context, def job.Definition, tr *progress.Tracker) (job.Result, error) {
			_, err := untilStopped(ctx, def, tr)
			ended = time.Since(began)
			causes <- context.Cause(ctx)
			return job.Result{}, err
		}, jobs.Options{})
		submit(t, d.Manager, def("a"))
		wantStatus(t, d.Manager, "a", models.StatusRunning)
		cut.set(true)
		if cause := <-causes; !errors.Is(cause, job.ErrClaimLost) {
			t.Errorf("cause = %v, want ErrClaimLost", cause)
		}
		if ended > 35*time.Second {
			t.Errorf("the run ended after %v, its claim after 30s", ended)
		}
		other := start(t, store, succeed, jobs.Options{})
		time.Sleep(5 * time.Second)
		wantStatus(t, other.Manager, "a", models.StatusCompleted)
		cut.set(false) // the late outcome arrives, and is refused
		time.Sleep(time.Minute)
		wantStatus(t, other.Manager, "a", models.StatusCompleted)
	})
}

func TestARunWhoseClaimWasTakenIsToldWithTheNextHeartbeat(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		cut := &cutStore{Store: store}
		causes := make(chan error, 1)
		d := start(t, cut, func(ctx context.Context, def job.Definition, tr *progress.Tracker) (job.Result, error) {
			_, err := untilStopped(ctx, def, tr)
			causes <- context.Cause(ctx)
			return job.Result{}, err
		}, jobs.Options{Heartbeat: 29 * time.Second})
		submit(t, d.Manager, def("a"))
		wantStatus(t, d.Manager, "a", models.StatusRunning)
		cut.set(true)
		time.Sleep(31 * time.Second) // one heartbeat is lost, and with it the claim
		taken, err := store.Claim(t.Context(), jobs.ClaimRequest{Owner: "other", Hold: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		cut.set(false)
		if cause := <-causes; !errors.Is(cause, job.ErrClaimLost) {
			t.Errorf("cause = %v, want ErrClaimLost", cause)
		}
		synctest.Wait()
		if err := store.Finish(t.Context(), taken.Claim, jobs.Outcome{Status: models.StatusCompleted}); err != nil {
			t.Errorf("the new owner's outcome: %v", err)
		}
	})
}
