package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// bare is a Site that has nothing but live pages.
func bare() *Site {
	s := &Site{log: slog.New(slog.DiscardHandler)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.lives.feeds = make(map[feedKey]*feed)
	return s
}

func TestAFragmentIsMadeOnceForAllWhoWatchIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := bare()
		var made [access.Admin + 1]atomic.Int64 // by role
		make := func(ctx context.Context) ([]part, error) {
			made[access.FromContext(ctx).Role].Add(1)
			return []part{{"same", []byte("always the same")}, {"other", fmt.Append(nil, time.Now().Unix())}}, nil
		}
		var leaves []func()
		var first *feed
		for i := range 200 {
			f, _, leave, err := s.lives.join(s, feedKey{"overview", access.Viewer + access.Role(i%2)}, make)
			if err != nil {
				t.Fatal(err)
			}
			first = f
			leaves = append(leaves, leave)
		}
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		if v, o, n := made[access.Viewer].Load(), made[access.Operator].Load(), int64(10*time.Second/liveEvery)+1; v != n || o != n {
			t.Errorf("made %d and %d times, want %d for each role", v, o, n)
		}
		news, seen := first.since(0)
		if !strings.Contains(string(news), "always the same") {
			t.Errorf("who comes gets %q", news)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if news, _ := first.since(seen); strings.Contains(string(news), "always the same") || !strings.Contains(string(news), "other") {
			t.Errorf("who was there gets %q", news)
		}
		for _, leave := range leaves {
			leave()
		}
		was := made[access.Viewer].Load()
		time.Sleep(time.Minute)
		synctest.Wait()
		if made[access.Viewer].Load() != was || len(s.lives.feeds) != 0 {
			t.Error("it goes on though nobody watches")
		}
		s.Close()
	})
}

func TestTroubleIsSaidAndTakenBack(t *testing.T) {
	t.Parallel()
	f := &feed{subs: map[chan struct{}]struct{}{}}
	wake := f.subscribe()
	f.update(nil, problem{503, "the store is away"})
	news, seen := f.since(0)
	if !strings.Contains(string(news), "the store is away") || len(wake) != 1 {
		t.Errorf("%q", news)
	}
	f.update(nil, errors.New("a secret of the inside"))
	if news, seen = f.since(seen); strings.Contains(string(news), "secret") || !strings.Contains(string(news), "event: trouble") {
		t.Errorf("%q", news)
	}
	f.update([]part{{"a", []byte("b")}}, nil)
	if news, _ = f.since(seen); !strings.Contains(string(news), "event: trouble\ndata: \"\"\n") {
		t.Errorf("%q", news)
	}
}

func TestTooManyPagesAreRefusedAndNotHalfServed(t *testing.T) {
	t.Parallel()
	s := bare()
	defer s.Close()
	make := func(context.Context) ([]part, error) { return nil, nil }
	for i := range maxFeeds {
		if _, _, _, err := s.lives.join(s, feedKey{page: fmt.Sprint(i)}, make); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, _, err := s.lives.join(s, feedKey{page: "one more"}, make); err == nil {
		t.Error("there is no end")
	}
	if _, _, leave, err := s.lives.join(s, feedKey{page: "0"}, make); err != nil {
		t.Error(err)
	} else {
		leave()
	}
}

// readsOf counts how often the log of a job is read.
type readsOf struct {
	jobs.Store
	reads atomic.Int64
}

func (s *readsOf) Events(ctx context.Context, id string, after int64, limit int) ([]models.Event, error) {
	s.reads.Add(1)
	return s.Store.Events(ctx, id, after, limit)
}

func TestThePageOfAJobThatHasEndedIsSeldomLookedAtAndFollowsItsRetry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &readsOf{Store: memory.New()}
		m := jobs.New(store, nil, jobs.Options{})
		s := New(Options{API: api.New(m, api.Options{}), Sessions: access.NewSessions(nil, access.SessionOptions{})})
		defer s.Close()
		r, err := m.Submit(t.Context(), []job.Definition{{VMPath: "a", OutputPath: "/out"}}, true)
		if err != nil || len(r.IDs) != 1 {
			t.Fatal(r, err)
		}
		f, _, leave, err := s.lives.join(s, feedKey{"job", access.Viewer}, s.jobSource(r.IDs[0]))
		if err != nil {
			t.Fatal(err)
		}
		defer leave()
		during := func(d time.Duration) int64 {
			was := store.reads.Load()
			time.Sleep(d)
			synctest.Wait()
			return store.reads.Load() - was
		}
		if n := during(30 * time.Second); n < 59 {
			t.Errorf("a job that waits is looked at %d times in 30 s", n)
		}
		if errs := m.Cancel(t.Context(), r.IDs, job.Cancelled{}); errs[r.IDs[0]] != nil {
			t.Fatal(errs)
		}
		during(time.Second)
		if news, _ := f.since(0); !strings.Contains(string(news), "cancelled") {
			t.Errorf("a second later it says %s", news)
		}
		if n := during(30 * time.Second); n > 10 {
			t.Errorf("a job that has ended is looked at %d times in 30 s", n)
		}
		_, seen := f.since(0)
		if err := m.Retry(t.Context(), r.IDs[0]); err != nil {
			t.Fatal(err)
		}
		during(endedAge + liveEvery)
		if news, _ := f.since(seen); !strings.Contains(string(news), "queued again") {
			t.Errorf("after its retry it says %s", news)
		}
	})
}
