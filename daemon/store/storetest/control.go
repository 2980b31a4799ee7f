package storetest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

func (f *fixture) cancel(id string, c job.Cancelled) models.Status {
	f.Helper()
	status, err := f.Cancel(f.Context(), id, c)
	f.must(err)
	return status
}

func cancelPending(f *fixture) {
	f.create(definition("a"))
	f.equal("status", f.cancel("a", job.Cancelled{}), models.StatusCancelled)
	f.equal("status again", f.cancel("a", job.Cancelled{}), models.StatusCancelled)
	f.nothingToClaim("owner")
	if _, err := f.claimCancelling("owner"); !errors.Is(err, jobs.ErrNoJob) {
		f.Errorf("claim to clean up = %v, want ErrNoJob", err)
	}
	j := f.get("a")
	if j.CompletedAt == nil || j.StartedAt != nil || j.Cancelling {
		f.Errorf("cancelled job: %+v", j)
	}
	f.equal("log", f.history("a"), []string{"pending", "cancelled"})
}

func cancelRunning(f *fixture) {
	f.create(definition("a"))
	c := f.claim("owner")
	f.equal("status", f.cancel("a", job.Cancelled{KeepParts: true}), models.StatusRunning)
	f.equal("status again", f.cancel("a", job.Cancelled{}), models.StatusRunning)
	f.equal("cancelling", f.get("a").Cancelling, true)
	signals, err := f.Heartbeat(f.Context(), c.Claim, jobs.Beat{Hold: hold})
	f.must(err)
	f.equal("signals", signals, jobs.Signals{Cancel: &job.Cancelled{KeepParts: true}})
	f.finish(c.Claim, models.StatusCancelled)
	j := f.get("a")
	f.equal("status", j.Status, models.StatusCancelled)
	f.equal("cancelling", j.Cancelling, false)
}

func cancelHandedBack(f *fixture) {
	f.create(definition("a"))
	c := f.claim("owner")
	f.must(f.Finish(f.Context(), c.Claim, jobs.Outcome{Status: models.StatusPending, Delay: time.Hour}))
	f.equal("status", f.cancel("a", job.Cancelled{}), models.StatusPending)
	f.nothingToClaim("owner")
	again, err := f.claimCancelling("owner")
	f.must(err)
	f.equal("request", again.Cancel, &job.Cancelled{})
	f.finish(again.Claim, models.StatusCancelled)
	f.equal("status", f.get("a").Status, models.StatusCancelled)

	// A run that is handed back although a cancel was asked for is due at
	// once, whatever its delay.
	f.create(definition("b"))
	c = f.claim("owner")
	f.cancel("b", job.Cancelled{})
	f.must(f.Finish(f.Context(), c.Claim, jobs.Outcome{Status: models.StatusPending, Delay: time.Hour}))
	again, err = f.claimCancelling("owner")
	f.must(err)
	f.equal("job", again.Claim.JobID, "b")
}

func cancelInterrupted(f *fixture) {
	f.create(definition("a"))
	f.claim("dead")
	f.cancel("a", job.Cancelled{})
	if _, err := f.claimCancelling("alive"); !errors.Is(err, jobs.ErrNoJob) {
		f.Errorf("claim of a job that another owner still holds = %v, want ErrNoJob", err)
	}
	f.advance(2 * hold)
	f.nothingToClaim("alive")
	c, err := f.claimCancelling("alive")
	f.must(err)
	f.equal("epoch", c.Claim.Epoch, int64(2))
}

func cancelFinished(f *fixture) {
	for _, s := range []models.Status{models.StatusCompleted, models.StatusFailed} {
		id := string(s)
		f.ended(id, s)
		if _, err := f.Cancel(f.Context(), id, job.Cancelled{}); !errors.Is(err, jobs.ErrFinished) {
			f.Errorf("Cancel of a %s job = %v, want ErrFinished", s, err)
		}
		f.equal("status", f.get(id).Status, s)
	}
}

func retryFailed(f *fixture) {
	f.must(f.Create(f.Context(), []jobs.NewJob{{Definition: definition("a"), Secret: []byte("sealed")}}))
	c := f.claim("owner")
	f.must(f.Finish(f.Context(), c.Claim, jobs.Outcome{
		Status: models.StatusFailed, Failed: true, Error: "broken", Progress: &models.Progress{PercentComplete: 40},
	}))
	f.retry("a")
	j := f.get("a")
	f.equal("status", j.Status, models.StatusPending)
	f.equal("error", j.Error, "")
	f.equal("attempts", j.Attempts, 0)
	f.equal("progress", j.Progress, &models.Progress{Phase: "pending"})
	if j.StartedAt != nil || j.CompletedAt != nil {
		f.Errorf("times of a job to be tried again: %+v", j)
	}
	again := f.claim("owner")
	f.equal("secret", string(again.Secret), "sealed")
	f.equal("epoch", again.Claim.Epoch, int64(2))
	f.equal("log", f.history("a"), []string{"pending", "running", "failed", "pending", "running"})
}

// tryAgain is Retry of one job.
func (f *fixture) tryAgain(id string) error {
	f.Helper()
	outcome, err := f.Retry(f.Context(), []string{id})
	f.must(err)
	return outcome[id]
}

func (f *fixture) retry(id string) { f.Helper(); f.must(f.tryAgain(id)) }

func retryMany(f *fixture) {
	f.ended("failed", models.StatusFailed)
	f.ended("cancelled", models.StatusCancelled)
	f.ended("completed", models.StatusCompleted)
	outcome, err := f.Retry(f.Context(), []string{"failed", "unknown", "completed", "cancelled", "failed"})
	f.must(err)
	f.equal("outcomes", len(outcome), 4)
	for id, want := range map[string]error{"failed": nil, "cancelled": nil, "completed": jobs.ErrCompleted, "unknown": jobs.ErrNotFound} {
		if err, ok := outcome[id]; !ok || !errors.Is(err, want) {
			f.Errorf("Retry of %s = %v, want %v", id, err, want)
		}
	}
	counts, err := f.Counts(f.Context())
	f.must(err)
	f.equal("counts", counts, jobs.Counts{Pending: 2, Completed: 1})
}

func retryRefused(f *fixture) {
	f.ended("completed", models.StatusCompleted)
	f.create(definition("running"))
	f.claim("owner")
	f.create(definition("pending"))
	for id, want := range map[string]error{
		"completed": jobs.ErrCompleted,
		"running":   jobs.ErrNotFinished,
		"pending":   jobs.ErrNotFinished,
	} {
		if err := f.tryAgain(id); !errors.Is(err, want) {
			f.Errorf("Retry of a %s job = %v, want %v", id, err, want)
		}
	}
}

func deleteFinished(f *fixture) {
	f.create(definition("running"))
	f.claim("owner")
	if err := f.Delete(f.Context(), "running"); !errors.Is(err, jobs.ErrNotFinished) {
		f.Errorf("Delete of a running job = %v, want ErrNotFinished", err)
	}
	f.ended("ended", models.StatusFailed)
	f.must(f.Delete(f.Context(), "ended"))
	if _, err := f.Events(f.Context(), "ended", 0, 0); !errors.Is(err, jobs.ErrNotFound) {
		f.Errorf("Events of a deleted job = %v, want ErrNotFound", err)
	}
	f.create(definition("ended"))
	f.equal("log of a new job with the id", f.history("ended"), []string{"pending"})
}

func countsFollow(f *fixture) {
	check := func(want jobs.Counts) {
		f.Helper()
		got, err := f.Counts(f.Context())
		f.must(err)
		f.equal("counts", got, want)
	}
	check(jobs.Counts{})
	f.create(repeat(6, func(i int) job.Definition { return definition(fmt.Sprint(i)) })...)
	check(jobs.Counts{Pending: 6})
	for _, s := range []models.Status{models.StatusCompleted, models.StatusFailed, models.StatusCancelled, models.StatusPending} {
		f.finish(f.claim("owner").Claim, s)
	}
	f.claim("owner")
	check(jobs.Counts{Pending: 2, Running: 1, Completed: 1, Failed: 1, Cancelled: 1})
	f.must(f.Delete(f.Context(), "0"))
	f.retry("1")
	f.cancel("5", job.Cancelled{})
	check(jobs.Counts{Pending: 2, Running: 1, Cancelled: 2})
}

func listPages(f *fixture) {
	f.create(repeat(5, func(i int) job.Definition { return definition(fmt.Sprint(i)) })...)
	var all []string
	q := jobs.Query{Limit: 2}
	for range 3 {
		page, err := f.List(f.Context(), q)
		f.must(err)
		f.equal("total", page.Total, 5)
		all = append(all, ids(page)...)
		q.Cursor = page.Next
	}
	f.equal("jobs", all, []string{"4", "3", "2", "1", "0"})
	f.equal("cursor after the last page", q.Cursor, "")
	if _, err := f.List(f.Context(), jobs.Query{Cursor: "no cursor"}); !errors.Is(err, jobs.ErrCursor) {
		f.Errorf("List with a bad cursor = %v, want ErrCursor", err)
	}
}

func listByStatus(f *fixture) {
	f.ended("failed", models.StatusFailed)
	f.ended("completed", models.StatusCompleted)
	f.create(definition("running"))
	f.claim("owner")
	f.create(definition("pending 1"), definition("pending 2"))
	for _, test := range []struct {
		statuses []models.Status
		limit    int
		want     []string
		total    int
	}{
		{nil, 0, []string{"pending 2", "pending 1", "running", "completed", "failed"}, 5},
		{[]models.Status{models.StatusFailed, models.StatusRunning}, 0, []string{"running", "failed"}, 2},
		{[]models.Status{models.StatusPending, models.StatusFailed}, 1, []string{"pending 2"}, 3},
		{[]models.Status{models.StatusCancelled}, 0, nil, 0},
		{[]models.Status{"unheard of"}, 0, nil, 0},
	} {
		page, err := f.List(f.Context(), jobs.Query{Statuses: test.statuses, Limit: test.limit})
		f.must(err)
		f.equal(fmt.Sprint("jobs with status ", test.statuses), ids(page), test.want)
		f.equal(fmt.Sprint("total with status ", test.statuses), page.Total, test.total)
		if page.Jobs == nil {
			f.Errorf("jobs with status %v are nil", test.statuses)
		}
	}
}

func listByID(f *fixture) {
	f.create(definition("a"), definition("b"), definition("c"))
	page, err := f.List(f.Context(), jobs.Query{IDs: []string{"c", "unknown", "a", "c"}})
	f.must(err)
	f.equal("jobs", ids(page), []string{"c", "a"})
	f.equal("total", page.Total, 2)
	page, err = f.List(f.Context(), jobs.Query{IDs: []string{}})
	f.must(err)
	f.equal("jobs of no ids", ids(page), []string(nil))
}

func eventsResume(f *fixture) {
	f.create(definition("a"), definition("other"))
	c := f.claim("owner")
	at := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	for i := range 3 {
		_, err := f.Heartbeat(f.Context(), c.Claim, jobs.Beat{Hold: hold, Events: []models.Event{
			{Type: models.EventLog, Time: at, Level: "info", File: "disk-0.vmdk", Text: fmt.Sprint(i)},
			{Type: models.EventState, Time: at, Status: models.StatusRunning, Phase: "exporting"},
		}})
		f.must(err)
	}
	f.finish(c.Claim, models.StatusCompleted)
	all, err := f.Events(f.Context(), "a", 0, 0)
	f.must(err)
	if len(all) != 9 {
		f.Fatalf("%d events, want 9", len(all))
	}
	f.equal("event", all[2], models.Event{ID: 3, Type: models.EventLog, Time: at, Level: "info", File: "disk-0.vmdk", Text: "0"})
	for i, e := range all {
		f.equal("id", e.ID, int64(i+1))
		rest, err := f.Events(f.Context(), "a", e.ID, 0)
		f.must(err)
		f.equal(fmt.Sprint("events after ", e.ID), append([]models.Event{}, rest...), append([]models.Event{}, all[i+1:]...))
	}
	some, err := f.Events(f.Context(), "a", 2, 3)
	f.must(err)
	f.equal("three events", some, all[2:5])
}

func eventsAreBounded(f *fixture) {
	f.create(definition("a"))
	c := f.claim("owner")
	const batch = 100
	for range jobs.MaxEvents/batch + 1 {
		events := repeat(batch, func(int) models.Event { return models.Event{Type: models.EventLog, Text: strings.Repeat("x", 10)} })
		_, err := f.Heartbeat(f.Context(), c.Claim, jobs.Beat{Hold: hold, Events: events})
		f.must(err)
	}
	all, err := f.Events(f.Context(), "a", 0, 0)
	f.must(err)
	f.equal("events kept", len(all), jobs.MaxEvents)
	f.equal("last event", all[len(all)-1].ID, int64(2+batch+jobs.MaxEvents))
}

func unknownJobs(f *fixture) {
	_, cancelErr := f.Cancel(f.Context(), "unknown", job.Cancelled{})
	_, eventsErr := f.Events(f.Context(), "unknown", 0, 0)
	for name, err := range map[string]error{
		"Cancel": cancelErr,
		"Events": eventsErr,
		"Retry":  f.tryAgain("unknown"),
		"Delete": f.Delete(f.Context(), "unknown"),
	} {
		if !errors.Is(err, jobs.ErrNotFound) {
			f.Errorf("%s = %v, want ErrNotFound", name, err)
		}
	}
}

func setLimit(f *fixture) {
	limit := func(id, rate string) { f.Helper(); f.must(f.SetLimit(f.Context(), id, rate)) }
	want := definition("a")
	f.create(want)
	limit("a", "10MB/s")
	want.Options.Limit = "10MB/s"
	f.equal("definition", f.get("a").Definition, want)
	c := f.claim("owner")
	f.equal("claimed limit", c.Job.Definition.Options.Limit, "10MB/s")
	limit("a", "20MB/s")
	f.equal("limit", f.get("a").Definition.Options.Limit, "20MB/s")
	f.equal("status", f.get("a").Status, models.StatusRunning)
	f.finish(c.Claim, models.StatusFailed)
	if err := f.SetLimit(f.Context(), "a", "none"); !errors.Is(err, jobs.ErrFinished) {
		f.Errorf("of a job that has ended: %v, want ErrFinished", err)
	}
	if err := f.SetLimit(f.Context(), "b", "none"); !errors.Is(err, jobs.ErrNotFound) {
		f.Errorf("of no job: %v, want ErrNotFound", err)
	}
	f.equal("limit afterwards", f.get("a").Definition.Options.Limit, "20MB/s")
}
