package runs_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
)

func TestAGroupIsCountedIntoOneTrackerFromTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScript("a", "b", "c")
		g := runs.NewGroup(s, []runs.Spec{{Name: "a", Size: 100 << 20}, {Name: "b", Size: 200 << 20}, {Name: "c"}}, runs.Options{Parallel: 1})
		all := progress.New()
		ctx, stop := context.WithCancel(t.Context())
		counted, ended := make(chan struct{}), make(chan struct{})
		go func() { defer close(counted); g.Overall(ctx, all) }()
		go func() { defer close(ended); g.RunToEnd(t.Context()) }()
		synctest.Wait()
		if got := all.Snapshot(); got.Total() != 301<<20 || got.Position() != 0 || got.Files[0].State != progress.Active || got.Files[1].State != progress.Waiting {
			t.Errorf("at the start: %+v", got)
		}
		s.end["a"] <- nil
		synctest.Wait()
		if got := all.Snapshot(); got.Total() != 301<<20 || got.Position() != 100<<20 || got.Files[0].State != progress.Complete {
			t.Errorf("with one done: %+v", got)
		}
		s.end["b"] <- errors.New("gone")
		s.end["c"] <- nil
		<-ended
		stop()
		<-counted
		got := all.Snapshot()
		if got.Files[1].State != progress.Failed || got.Files[2].State != progress.Complete || len(all.EventsAfter(0)) != 3 || all.EventsAfter(0)[1].File != "b" {
			t.Errorf("at the end: %+v, %+v", got, all.EventsAfter(0))
		}
	})
}

func TestARunToEndLeavesWhatHasNotBegunWhenItIsStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScript("a", "b")
		g := runs.NewGroup(s, []runs.Spec{{Name: "a"}, {Name: "b"}}, runs.Options{Parallel: 1})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); g.RunToEnd(ctx) }()
		synctest.Wait()
		stop()
		<-ended
		if got := g.Statuses(); got[0].State != runs.Cancelled || got[1].State != runs.Waiting {
			t.Errorf("states %s and %s", got[0].State, got[1].State)
		}
	})
}

func TestVMsWhoseSizeIsNotKnownCountAsThoseThatWereLearned(t *testing.T) {
	t.Parallel()
	seen := func(total, done int64, state runs.State) runs.Status {
		s := runs.Status{State: state}
		if total > 0 {
			s.Progress.Files = []progress.FileSnapshot{{State: progress.Active, Total: total, Position: done, Received: done}}
		}
		return s
	}
	all := progress.New()
	o := runs.NewOverall([]runs.Status{{}, {}, {}, {}}, all)
	last := 0.0
	for i, jobs := range [][]runs.Status{
		{seen(100<<20, 0, runs.Running), {}, {}, {}},
		{seen(100<<20, 50<<20, runs.Running), {}, {}, {}},
		{seen(100<<20, 100<<20, runs.Done), seen(300<<20, 0, runs.Running), {}, {}}, // which is larger than was thought
		{seen(100<<20, 100<<20, runs.Done), seen(300<<20, 300<<20, runs.Done), {}, {}},
	} {
		o.Count(jobs)
		s := all.Snapshot()
		want := []int64{400 << 20, 400 << 20, 800 << 20, 800 << 20}[i]
		if s.Total() != want || s.Percent() < last {
			t.Errorf("look %d: %d bytes, %v %% after %v %%", i, s.Total(), s.Percent(), last)
		}
		last = s.Percent()
	}
	if last != 50 {
		t.Errorf("with half of it done it is %v %%", last)
	}
}
