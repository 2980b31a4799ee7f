package jobs_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

func TestAFullQueueTakesAllJobsOfASubmissionOrNone(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		m := jobs.New(store, runnerFunc(succeed), jobs.Options{MaxQueued: 3})
		submit(t, m, def("a"), def("b"))
		for _, atomic := range []bool{true, false} {
			s, err := m.Submit(t.Context(), []job.Definition{def("c"), def("d")}, atomic)
			full := new(jobs.QueueFullError)
			if !errors.As(err, &full) || full.Never() || *full != (jobs.QueueFullError{Limit: 3, Pending: 2, Asked: 2}) {
				t.Errorf("atomic %t: %+v, %v", atomic, s, err)
			}
		}
		full := new(jobs.QueueFullError)
		if _, err := m.Submit(t.Context(), []job.Definition{def("w"), def("x"), def("y"), def("z")}, true); !errors.As(err, &full) || !full.Never() {
			t.Errorf("more than would ever fit: %v", err)
		}
		wantLeft(t, m, "a", "b")
		submit(t, m, def("c"))
	})
}

func TestTheQueueIsNotOverfilledByManyAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		m := jobs.New(store, runnerFunc(succeed), jobs.Options{MaxQueued: 5})
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				_, err := m.Submit(t.Context(), []job.Definition{def(string(rune('a' + i)))}, false)
				if err != nil && !errors.Is(err, jobs.ErrQueueFull) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := len(left(t, m)); n != 5 {
			t.Errorf("%d jobs wait, want 5", n)
		}
	})
}

// fakeRoom is a Room that a test fills.
type fakeRoom struct {
	mu  sync.Mutex
	all []jobs.NoRoom
}

func (r *fakeRoom) Lacking() []jobs.NoRoom {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all
}

func (r *fakeRoom) set(all ...jobs.NoRoom) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = all
}

func TestJobsWaitWhereThereIsNoRoomAndGoOnWhenThereIs(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		room := &fakeRoom{}
		m := start(t, store, untilStopped, jobs.Options{Room: room, MaxJobs: 10})
		submit(t, m.Manager, def("running"))
		wantStatus(t, m.Manager, "running", models.StatusRunning)
		room.set(jobs.NoRoom{Dir: "/out", Reason: "1 MB free"})
		elsewhere := def("elsewhere")
		elsewhere.OutputPath = "/outer"
		submit(t, m.Manager, def("waits"), elsewhere)
		time.Sleep(time.Minute)
		wantStatus(t, m.Manager, "running", models.StatusRunning)
		wantStatus(t, m.Manager, "elsewhere", models.StatusRunning)
		if j := wantStatus(t, m.Manager, "waits", models.StatusPending); !strings.Contains(j.WaitingFor, "waiting for room: 1 MB free") {
			t.Errorf("it waits for %q", j.WaitingFor)
		}
		room.set()
		time.Sleep(time.Minute)
		if j := wantStatus(t, m.Manager, "waits", models.StatusRunning); j.WaitingFor != "" {
			t.Errorf("it waits for %q", j.WaitingFor)
		}
	})
}
