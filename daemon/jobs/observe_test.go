package jobs_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// counting is an Observer that adds up.
type counting struct {
	mu       sync.Mutex
	waits    []time.Duration
	received map[progress.Route]int64
	retries  map[progress.Retry]int64
	ends     []models.Status
}

func (c *counting) Claimed(_ jobs.Claimed, queued time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits = append(c.waits, queued)
}

func (c *counting) Counted(t progress.Tally) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.received == nil {
		c.received, c.retries = make(map[progress.Route]int64), make(map[progress.Retry]int64)
	}
	for k, n := range t.Received {
		c.received[k] += n
	}
	for k, n := range t.Retries {
		c.retries[k] += n
	}
}

func (c *counting) Finished(o jobs.Outcome, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ends = append(c.ends, o.Status)
}

func TestAnObserverHearsEveryByteAndRetryOnceHoweverARunEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		seen := new(counting)
		attempt := 0
		run := func(_ context.Context, _ job.Definition, tracker *progress.Tracker) (job.Result, error) {
			attempt++
			tracker.SetPhase(progress.Exporting)
			for range 5 {
				f := tracker.AddFile("disk", 100)
				f.SetRoute(progress.NFCStream)
				f.AddReceived(10)
				f.AddRetryFor("cut")
				time.Sleep(700 * time.Millisecond)
				tracker.ResetFiles()
			}
			if attempt == 1 {
				return job.Result{}, errors.New("again")
			}
			return job.Result{Success: true}, nil
		}
		m := start(t, store, run, jobs.Options{Observer: seen})
		d := def("a")
		d.Options.Retries = 1
		submit(t, m.Manager, d)
		time.Sleep(time.Minute)
		wantStatus(t, m.Manager, "a", models.StatusCompleted)
		seen.mu.Lock()
		defer seen.mu.Unlock()
		if n := seen.received[progress.NFCStream]; n != 100 {
			t.Errorf("%d bytes were counted, want 100", n)
		}
		if n := seen.retries[progress.Retry{Route: progress.NFCStream, Cause: "cut"}]; n != 10 {
			t.Errorf("%d retries were counted, want 10", n)
		}
		if len(seen.waits) != 2 || seen.waits[0] < 0 || seen.waits[1] >= 0 {
			t.Errorf("waits %v, want that of the first claim alone", seen.waits)
		}
		if len(seen.ends) != 2 || seen.ends[0] != models.StatusPending || seen.ends[1] != models.StatusCompleted {
			t.Errorf("ends %v", seen.ends)
		}
	})
}

func TestRunningListsRunsWithTheirPhases(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		m := start(t, store, untilStopped, jobs.Options{})
		submit(t, m.Manager, def("b"), def("a"))
		time.Sleep(5 * time.Second)
		got := m.Running()
		if len(got) != 2 || got[0].JobID != "a" || got[1].VCenter != "lab" || got[0].Phase != string(progress.Exporting) {
			t.Errorf("running: %+v", got)
		}
	})
}
