package storetest

import (
	"errors"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// pruner is the part of the store that forgets jobs.
func (f *fixture) pruner() jobs.Pruner {
	f.Helper()
	p, ok := f.Store.(jobs.Pruner)
	if !ok {
		f.Fatalf("%T is no jobs.Pruner", f.Store)
	}
	return p
}

// final are the statuses that jobs end with.
var final = []models.Status{models.StatusCompleted, models.StatusFailed, models.StatusCancelled}

// endedIDs reads jobs that have ended, size at a time.
func (f *fixture) endedIDs(age time.Duration, size int, statuses ...models.Status) []string {
	f.Helper()
	all := []string{}
	for cursor := ""; ; {
		page, next, err := f.pruner().Ended(f.Context(), statuses, age, cursor, size)
		f.must(err)
		if len(page) > size {
			f.Fatalf("a page of %d jobs, want at most %d", len(page), size)
		}
		for _, j := range page {
			all = append(all, j.Definition.ID)
		}
		if cursor = next; cursor == "" {
			return all
		}
	}
}

func endedAreFound(f *fixture) {
	// They end in another order than they were created in; two at the same time.
	f.create(definition("late"))
	late := f.claim("owner").Claim
	f.ended("first", models.StatusCompleted)
	f.advance(time.Hour)
	f.ended("second", models.StatusFailed)
	f.ended("third", models.StatusCompleted)
	f.advance(time.Hour)
	f.finish(late, models.StatusFailed)
	f.create(definition("pending"))
	for size := 1; size <= 5; size++ {
		f.equal("all", f.endedIDs(0, size, final...), []string{"first", "second", "third", "late"})
		f.equal("an hour ago", f.endedIDs(time.Hour, size, final...), []string{"first", "second", "third"})
		f.equal("failed", f.endedIDs(0, size, models.StatusFailed), []string{"second", "late"})
		f.equal("too young", f.endedIDs(3*time.Hour, size, final...), []string{})
	}
	if _, _, err := f.pruner().Ended(f.Context(), final, 0, "nonsense", 1); !errors.Is(err, jobs.ErrCursor) {
		f.Errorf("a cursor that no page gave: %v", err)
	}
	f.must(f.tryAgain("late"))
	f.equal("one that is tried again", f.endedIDs(0, 5, final...), []string{"first", "second", "third"})
}

func endedArePruned(f *fixture) {
	f.ended("old", models.StatusCompleted)
	f.ended("again", models.StatusFailed)
	f.must(f.tryAgain("again"))
	f.advance(time.Hour)
	f.create(definition("pending"))
	f.ended("young", models.StatusCompleted)
	ids := []string{"old", "again", "young", "pending", "none"}
	pruned, err := f.pruner().Prune(f.Context(), ids, time.Hour)
	f.must(err)
	f.equal("pruned", pruned, []string{"old"})
	if _, err := f.Events(f.Context(), "old", 0, 0); !errors.Is(err, jobs.ErrNotFound) {
		f.Errorf("events of a job that is forgotten: %v", err)
	}
	counts, err := f.Counts(f.Context())
	f.must(err)
	f.equal("jobs left", counts.Total(), 3)
	f.create(definition("old")) // its id is free
}

func eventsArePruned(f *fixture) {
	long := []string{"old", "older", "oldest"}
	for _, id := range long {
		f.ended(id, models.StatusCompleted)
	}
	f.advance(time.Hour)
	f.ended("young", models.StatusFailed)
	f.create(definition("running"))
	f.claim("owner")
	n, calls := 0, 0
	for cursor := ""; ; calls++ {
		some, next, err := f.pruner().PruneEvents(f.Context(), time.Hour, cursor, 2)
		f.must(err)
		n += some
		if cursor = next; cursor == "" {
			break
		}
	}
	f.equal("logs", n, 3)
	if calls == 0 {
		f.Errorf("three logs were not more than two at a time")
	}
	for _, id := range long {
		f.equal("events of "+id, f.history(id), []string{"completed"})
	}
	f.equal("events of a young job", f.history("young"), []string{"pending", "running", "failed"})
	f.equal("events of a running job", f.history("running"), []string{"pending", "running"})
	n, _, err := f.pruner().PruneEvents(f.Context(), time.Hour, "", 10)
	f.must(err)
	f.equal("logs, once more", n, 0)
}
