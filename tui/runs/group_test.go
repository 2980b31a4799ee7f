package runs_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
)

// script is a backend whose jobs do as they are told through channels.
type script struct {
	mu      sync.Mutex
	started []string
	holds   []string
	gate    chan struct{}         // not nil: a Hold waits here before it acts
	limits  []*transfer.Limiter   // of every run that was started
	undone  error                 // what a cancelled run returns, if it cannot clean up
	end     map[string]chan error // by name; what the next run of it returns
}

func newScript(names ...string) *script {
	s := &script{end: map[string]chan error{}}
	for _, n := range names {
		s.end[n] = make(chan error, 1)
	}
	return s
}

func (s *script) Export(ctx context.Context, j *runs.Job) (job.Result, error) {
	s.mu.Lock()
	s.started, s.limits = append(s.started, fmt.Sprintf("%s again=%t", j.Name, j.Again)), append(s.limits, j.Limiter)
	s.mu.Unlock()
	j.Tracker.SetPhase(progress.Exporting)
	j.Tracker.Event(progress.Info, "", "moving")
	select {
	case err := <-s.end[j.Name]:
		return job.Result{VMName: j.Name, TotalSize: 7}, err
	case <-ctx.Done():
		if s.undone != nil {
			return job.Result{}, s.undone
		}
		return job.Result{}, fmt.Errorf("%w: %w", ctx.Err(), context.Cause(ctx))
	}
}

func (s *script) Remove(_ context.Context, j *runs.Job) (job.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = append(s.started, j.Name+" removed")
	j.Tracker.SetPhase(progress.Discovering)
	return job.Result{}, nil
}

func (s *script) Hold(_ context.Context, j *runs.Job, hold bool) error {
	if s.gate != nil {
		<-s.gate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holds = append(s.holds, fmt.Sprintf("%s %t", j.Name, hold))
	if hold {
		j.Limiter.SetLimit(1)
	} else {
		j.Limiter.SetLimit(0)
	}
	return nil
}

func specs(names ...string) []runs.Spec {
	var out []runs.Spec
	for _, n := range names {
		out = append(out, runs.Spec{Name: n, Def: job.Definition{VMPath: "/vm/" + n}})
	}
	return out
}

// story runs a group and hands it to tell, in virtual time.
func story(t *testing.T, o runs.Options, names []string, tell func(t *testing.T, g *runs.Group, s *script)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScript(names...)
		g := runs.NewGroup(s, specs(names...), o)
		ctx, cancel := context.WithCancelCause(t.Context())
		over := make(chan struct{})
		go func() { defer close(over); g.Run(ctx) }()
		synctest.Wait()
		tell(t, g, s)
		cancel(runs.ErrLeft)
		<-over // Run waits for what it started
	})
}

// wantStates fails unless the jobs are in these states, once all is quiet.
func wantStates(t *testing.T, g *runs.Group, want ...runs.State) {
	t.Helper()
	synctest.Wait()
	for i, s := range g.Statuses() {
		if s.State != want[i] {
			t.Errorf("%s is %s, want %s", s.Name, s.State, want[i])
		}
	}
}

func TestTwoRunAtATimeAndTheNextWhenOneHasEnded(t *testing.T) {
	story(t, runs.Options{}, []string{"a", "b", "c"}, func(t *testing.T, g *runs.Group, s *script) {
		wantStates(t, g, runs.Running, runs.Running, runs.Waiting)
		s.end["b"] <- nil
		wantStates(t, g, runs.Running, runs.Done, runs.Running)
		s.end["a"] <- errors.New("no")
		s.end["c"] <- nil
		wantStates(t, g, runs.Failed, runs.Done, runs.Done)
		if !g.Ended() {
			t.Error("the group has not ended")
		}
		st := g.Statuses()
		if st[0].Err == nil || st[1].Result.TotalSize != 7 || st[0].Reached != progress.Exporting {
			t.Errorf("the outcome is lost: %+v", st)
		}
	})
}

func TestAllRunAtOnceWhereThereIsNoBound(t *testing.T) {
	story(t, runs.Options{Parallel: -1}, []string{"a", "b", "c"}, func(t *testing.T, g *runs.Group, _ *script) {
		wantStates(t, g, runs.Running, runs.Running, runs.Running)
	})
}

func TestAPausedJobIsHeldAndGivesItsPlaceAway(t *testing.T) {
	story(t, runs.Options{Parallel: 1}, []string{"a", "b"}, func(t *testing.T, g *runs.Group, s *script) {
		if err := g.Pause(t.Context(), 0); err != nil {
			t.Error(err)
		}
		wantStates(t, g, runs.Paused, runs.Running)
		if err := g.Resume(t.Context(), 0); err != nil {
			t.Error(err)
		}
		wantStates(t, g, runs.Running, runs.Running)
		if got := fmt.Sprint(s.holds); got != "[a true a false]" {
			t.Errorf("holds: %s", got)
		}
		if got := fmt.Sprint(s.started); got != "[a again=false b again=false]" {
			t.Errorf("started: %s", got)
		}
	})
}

func TestAPauseThatIsOvertakenByTheEndDoesNotHoldTheNextRun(t *testing.T) {
	story(t, runs.Options{}, []string{"a"}, func(t *testing.T, g *runs.Group, s *script) {
		s.gate = make(chan struct{})
		go func() { _ = g.Pause(t.Context(), 0) }()
		synctest.Wait()
		s.end["a"] <- errors.New("cable")
		wantStates(t, g, runs.Failed)
		_ = g.Resume(t.Context(), 0)
		wantStates(t, g, runs.Running)
		close(s.gate)
		synctest.Wait()
		if n := s.limits[1].Limit(); len(s.holds) != 1 || n != 0 {
			t.Errorf("after holds %v, the second run has a limit of %d bytes per second", s.holds, n)
		}
	})
}

func TestAResumeThatMeetsThePauseHasTheLastWord(t *testing.T) {
	story(t, runs.Options{}, []string{"a"}, func(t *testing.T, g *runs.Group, s *script) {
		s.gate = make(chan struct{})
		go func() { _ = g.Pause(t.Context(), 0) }()
		synctest.Wait()
		go func() { _ = g.Resume(t.Context(), 0) }()
		synctest.Wait()
		s.gate <- struct{}{} // the pause, which asked first
		s.gate <- struct{}{}
		wantStates(t, g, runs.Running)
		if got, n := fmt.Sprint(s.holds), s.limits[0].Limit(); got != "[a true a false]" || n != 0 {
			t.Errorf("after holds %s, a job that runs has a limit of %d bytes per second", got, n)
		}
	})
}

func TestCancellingAJobThatWaitsToBeRunAgainRemovesWhatTheFirstRunLeft(t *testing.T) {
	story(t, runs.Options{Parallel: 1}, []string{"a", "b"}, func(t *testing.T, g *runs.Group, s *script) {
		s.end["a"] <- errors.New("cable")
		wantStates(t, g, runs.Failed, runs.Running)
		_ = g.Resume(t.Context(), 0)
		wantStates(t, g, runs.Waiting, runs.Running)
		g.Cancel(0)
		wantStates(t, g, runs.Cancelled, runs.Running)
		if got := fmt.Sprint(s.started); got != "[a again=false b again=false a removed]" {
			t.Errorf("started: %s", got)
		}
		var why job.Cancelled
		st := g.Statuses()[0]
		if !errors.As(st.Err, &why) || why.KeepParts || st.Reached != progress.Exporting {
			t.Errorf("it reached %s and was cancelled with %v", st.Reached, st.Err)
		}
	})
}

func TestStoppingAllLeavesWhatAnEarlierRunLeft(t *testing.T) {
	story(t, runs.Options{Parallel: 1}, []string{"a", "b"}, func(t *testing.T, g *runs.Group, s *script) {
		s.end["a"] <- errors.New("cable")
		synctest.Wait()
		_ = g.Resume(t.Context(), 0)
		g.Stop()
		wantStates(t, g, runs.Cancelled, runs.Cancelled)
		if got := fmt.Sprint(s.started); got != "[a again=false b again=false]" {
			t.Errorf("started: %s", got)
		}
	})
}

func TestAWaitingJobCanBePausedAndCancelled(t *testing.T) {
	story(t, runs.Options{Parallel: 1}, []string{"a", "b", "c"}, func(t *testing.T, g *runs.Group, s *script) {
		_ = g.Pause(t.Context(), 1)
		g.Cancel(2)
		wantStates(t, g, runs.Running, runs.Paused, runs.Cancelled)
		s.end["a"] <- nil
		wantStates(t, g, runs.Done, runs.Paused, runs.Cancelled)
		_ = g.Resume(t.Context(), 1)
		wantStates(t, g, runs.Done, runs.Running, runs.Cancelled)
	})
}

func TestCancellingOneRemovesItsPartsAndStoppingAllKeepsThem(t *testing.T) {
	story(t, runs.Options{}, []string{"a", "b", "c"}, func(t *testing.T, g *runs.Group, _ *script) {
		g.Cancel(0)
		wantStates(t, g, runs.Cancelled, runs.Running, runs.Running)
		g.Stop()
		wantStates(t, g, runs.Cancelled, runs.Cancelled, runs.Cancelled)
		for i, keep := range []bool{false, true, true} {
			var why job.Cancelled
			if err := g.Statuses()[i].Err; !errors.As(err, &why) || why.KeepParts != keep {
				t.Errorf("job %d: %v, keep %t; want %t", i, err, why.KeepParts, keep)
			}
		}
	})
}

func TestAFailedJobCanBeRunAgain(t *testing.T) {
	story(t, runs.Options{}, []string{"a"}, func(t *testing.T, g *runs.Group, s *script) {
		s.end["a"] <- errors.New("cable")
		wantStates(t, g, runs.Failed)
		_ = g.Resume(t.Context(), 0)
		s.end["a"] <- nil
		wantStates(t, g, runs.Done)
		if err := g.Statuses()[0].Err; err != nil {
			t.Errorf("the old error stayed: %v", err)
		}
	})
}

func TestACancelThatCouldNotCleanUpIsAFailure(t *testing.T) {
	story(t, runs.Options{}, []string{"a"}, func(t *testing.T, g *runs.Group, s *script) {
		s.undone = errors.New("the snapshot could not be removed")
		g.Cancel(0)
		wantStates(t, g, runs.Failed)
		if err := g.Statuses()[0].Err; !errors.Is(err, s.undone) {
			t.Errorf("told %v", err)
		}
	})
}

func TestTheLogHasTheEventsOfAllJobs(t *testing.T) {
	story(t, runs.Options{}, []string{"a", "b"}, func(t *testing.T, g *runs.Group, _ *script) {
		g.Statuses()
		g.Statuses()
		if log := g.Log(10); len(log) != 2 || log[0].Job != "a" || log[1].Job != "b" || log[0].Text != "moving" {
			t.Errorf("log: %v", log)
		}
		if log := g.Log(1); len(log) != 1 || log[0].Job != "b" {
			t.Errorf("the last of the log: %v", log)
		}
	})
}

func TestReleasedJobsAreStoppedWithTheirPartsKeptAndCanBeReclaimed(t *testing.T) {
	story(t, runs.Options{Parallel: 1}, []string{"a", "b", "c"}, func(t *testing.T, g *runs.Group, s *script) {
		s.end["a"] <- nil
		wantStates(t, g, runs.Done, runs.Running, runs.Waiting)
		released, err := g.Release(t.Context())
		if err != nil || fmt.Sprint(released) != "[1 2]" {
			t.Errorf("released %v, %v", released, err)
		}
		wantStates(t, g, runs.Done, runs.Cancelled, runs.Cancelled)
		var why job.Cancelled
		if !errors.As(g.Statuses()[1].Err, &why) || !why.KeepParts {
			t.Errorf("it was stopped with %v", g.Statuses()[1].Err)
		}
		if err := g.Reclaim(t.Context(), released); err != nil {
			t.Error(err)
		}
		wantStates(t, g, runs.Done, runs.Running, runs.Waiting)
	})
}
