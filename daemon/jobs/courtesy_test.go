package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// counted is a run that is counted for all daemons and for its own.
func counted(g *gauge, name string) runnerFunc {
	return func(ctx context.Context, def job.Definition, t *progress.Tracker) (job.Result, error) {
		g.add(1, name)
		defer g.add(-1, name)
		return g.run(ctx, def, t)
	}
}

// limited are options of a daemon beside others, with room for more than its part.
func limited(id string, most int) jobs.Options {
	o := named(id, 1)
	o.MaxJobs, o.PerVCenter, o.Notices = 20, map[string]int{"lab": most}, unheard{}
	return o
}

func submitMany(t *testing.T, m *jobs.Manager, n int) {
	t.Helper()
	for i := range n {
		submit(t, m, def(fmt.Sprint("job-", i)))
	}
}

func TestDaemonsDivideTheJobsOfAVCenterAmongThem(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		var g gauge
		a := start(t, store, counted(&g, "a"), limited("a", 6))
		b := start(t, store, counted(&g, "b"), limited("b", 6))
		c := start(t, store, counted(&g, "c"), limited("c", 6))
		time.Sleep(10 * time.Second) // they have heard of each other
		submitMany(t, a.Manager, 60)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		for _, d := range []*daemon{a, b, c} {
			if n := len(d.Running()); n != 2 {
				t.Errorf("%d jobs run at a daemon, want 2", n)
			}
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if s, err := a.Stats(t.Context()); err != nil || s.Completed != 60 || g.most["lab"] != 6 {
			t.Errorf("%+v, %v; at most %d at once, want 60 jobs and 6", s, err, g.most["lab"])
		}
	})
}

func TestADaemonTakesMoreThanItsPartOfWhatNobodyElseWants(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		var g gauge
		busy := limited("busy", 6)
		busy.MaxJobs = 1
		a, b := start(t, store, counted(&g, "a"), limited("a", 6)), start(t, store, counted(&g, "b"), busy)
		time.Sleep(10 * time.Second)
		submitMany(t, a.Manager, 30)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if n, m := len(a.Running()), len(b.Running()); n != 5 || m != 1 {
			t.Errorf("%d and %d jobs run, want 5 and 1", n, m)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if g.most["lab"] != 6 {
			t.Errorf("%d jobs at once, want 6", g.most["lab"])
		}
	})
}

func TestALimitHoldsWhenADaemonIsCutOffAndItsJobsGoOnElsewhere(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		var g gauge
		away := &cutStore{Store: store, how: &jobs.StoreError{Trouble: jobs.TroubleAway, Err: errCut}}
		o := limited("a", 4)
		o.Daemons, _ = store.(jobs.Daemons)
		hourLong := func(ctx context.Context, def job.Definition, _ *progress.Tracker) (job.Result, error) {
			g.add(1, "lab")
			defer g.add(-1, "lab")
			select {
			case <-ctx.Done():
				return job.Result{}, context.Cause(ctx)
			case <-time.After(time.Hour):
				return job.Result{Success: true}, nil
			}
		}
		a, b := start(t, away, hourLong, o), start(t, store, hourLong, limited("b", 4))
		time.Sleep(10 * time.Second)
		submitMany(t, b.Manager, 12)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if n, m := len(a.Running()), len(b.Running()); n != 2 || m != 2 {
			t.Fatalf("%d and %d jobs run, want 2 and 2", n, m)
		}
		away.set(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(b.Running()); n != 4 {
			t.Errorf("%d jobs run at the daemon that is left, want 4", n)
		}
		away.set(false)
		time.Sleep(6 * time.Hour)
		synctest.Wait()
		s, err := b.Stats(t.Context())
		if err != nil || s.Completed != 12 || g.most["lab"] != 4 {
			t.Errorf("%+v, %v; at most %d at once, want 12 jobs and 4", s, err, g.most["lab"])
		}
		if err := errors.Join(a.stop(), b.stop()); err != nil {
			t.Error(err)
		}
	})
}
