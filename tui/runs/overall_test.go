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
