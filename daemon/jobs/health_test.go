package jobs_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

var errFull = &jobs.StoreError{Trouble: jobs.TroubleFull, Err: errors.New("no space left for /state/jobs.db")}

func TestTroubleOfTheStoreIsLoggedOnceAndSoIsItsEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		var log bytes.Buffer
		cut := &cutStore{Store: store, how: errFull}
		d := start(t, cut, succeed, jobs.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.WatchStore(ctx) }()
		time.Sleep(time.Minute)
		cut.set(true)
		time.Sleep(time.Minute)
		if _, err := d.Health(t.Context()); !errors.Is(err, errFull) {
			t.Errorf("Health = %v", err)
		}
		cut.set(false)
		time.Sleep(time.Minute)
		if _, err := d.Health(t.Context()); err != nil {
			t.Errorf("Health = %v", err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := d.stop(); err != nil {
			t.Error(err)
		}
		text := log.String()
		for _, once := range []string{"the store of the jobs cannot be used", "the store of the jobs can be used again", "cannot claim a job"} {
			if n := strings.Count(text, once); n != 1 {
				t.Errorf("%q is logged %d times:\n%s", once, n, text)
			}
		}
		if !strings.Contains(text, "no space left for /state/jobs.db") {
			t.Errorf("the reason is not logged:\n%s", text)
		}
	})
}

func TestARunGoesOnWhileItsOwnStoreIsInTrouble(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		var runs atomic.Int64
		cut := &cutStore{Store: store, how: errFull}
		d := start(t, cut, func(ctx context.Context, _ job.Definition, _ *progress.Tracker) (job.Result, error) {
			runs.Add(1)
			select {
			case <-ctx.Done():
				return job.Result{}, context.Cause(ctx)
			case <-time.After(time.Hour):
				return job.Result{Success: true}, nil
			}
		}, jobs.Options{})
		submit(t, d.Manager, def("a"))
		wantStatus(t, d.Manager, "a", models.StatusRunning)
		cut.set(true)
		time.Sleep(2 * time.Hour) // longer than any claim, and than the run
		wantStatus(t, d.Manager, "a", models.StatusRunning)
		cut.set(false)
		time.Sleep(time.Minute)
		wantStatus(t, d.Manager, "a", models.StatusCompleted)
		if n := runs.Load(); n != 1 {
			t.Errorf("%d runs, want 1", n)
		}
	})
}

// silent is a store that does not answer when it is looked at.
type silent struct {
	jobs.Store
	looks atomic.Int64
	free  chan struct{}
}

func (s *silent) Check(context.Context) ([]string, error) {
	s.looks.Add(1)
	<-s.free
	return []string{"mind the gap"}, nil
}

func TestAStoreThatDoesNotAnswerIsNotHealthyAndIsAskedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		s := &silent{Store: store, free: make(chan struct{})}
		m := jobs.New(s, runnerFunc(succeed), jobs.Options{})
		for range 3 {
			began := time.Now()
			_, err := m.Health(t.Context())
			var trouble *jobs.StoreError
			if !errors.As(err, &trouble) || trouble.Trouble != jobs.TroubleBusy {
				t.Errorf("Health = %v, want the store to be busy", err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("Health took %v", took)
			}
		}
		if n := s.looks.Load(); n != 1 {
			t.Errorf("%d looks at once", n)
		}
		close(s.free)
		synctest.Wait()
		if notes, err := m.Health(t.Context()); err != nil || len(notes) != 1 {
			t.Errorf("Health = %v, %v", notes, err)
		}
	})
}

func TestOutagesOfTheStoreAreCountedWithTheTimeOfTheOneThatGoesOn(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		cut := &cutStore{Store: store}
		d := start(t, cut, succeed, jobs.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan error, 1)
		go func() { over <- d.WatchStore(ctx) }()
		look := func(wantN int, going bool) {
			t.Helper()
			time.Sleep(11 * time.Second) // two looks
			if n, since := d.StoreTroubles(); n != wantN || since.IsZero() == going {
				t.Errorf("%d outages, the last one since %v; want %d, and that one goes on: %t", n, since, wantN, going)
			}
		}
		look(0, false)
		cut.set(true)
		look(1, true)
		look(1, true)
		if _, since := d.StoreTroubles(); time.Since(since) < 15*time.Second {
			t.Errorf("the outage counts from %v ago", time.Since(since))
		}
		cut.set(false)
		look(1, false)
		cut.set(true)
		look(2, true)
		cut.set(false)
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
}
