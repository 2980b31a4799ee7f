package jobs_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// indebted is a Runner some of whose jobs owe something.
type indebted struct {
	runnerFunc
	mu   sync.Mutex
	owes map[string]error // by job ID; a nil error is a debt, any other that it cannot be told
}

func (o *indebted) Owes(_ context.Context, def job.Definition) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	err, ok := o.owes[def.ID]
	return ok && err == nil, err
}

// left are the ids of the jobs that there are.
func left(t *testing.T, m *jobs.Manager) []string {
	t.Helper()
	synctest.Wait()
	page, err := m.Query(t.Context(), jobs.Query{})
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{}
	for _, j := range page.Jobs {
		ids = append(ids, j.Definition.ID)
	}
	slices.Sort(ids)
	return ids
}

// wantLeft fails unless these jobs are left.
func wantLeft(t *testing.T, m *jobs.Manager, want ...string) {
	t.Helper()
	if got := left(t, m); !slices.Equal(got, want) {
		t.Errorf("jobs left: %v, want %v", got, want)
	}
}

func TestJobsAreForgottenAtTheirAgeAndThoseThatOweSomethingAreKept(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		r := &indebted{runnerFunc: succeed, owes: map[string]error{"owes": nil, "unknown": errors.New("its output directory does not answer")}}
		var told []string
		m := startRunner(t, store, r, jobs.Options{
			Retention: jobs.Retention{Jobs: 10 * time.Hour},
			Forgetting: func(_ context.Context, old []models.Job) (func([]string, error), error) {
				return func(ids []string, err error) {
					if len(ids) != len(old) || err != nil {
						t.Errorf("forgotten %v of %d, %v", ids, len(old), err)
					}
					told = append(told, ids...)
				}, nil
			},
		})
		submit(t, m.Manager, def("a"), def("b"), def("owes"), def("unknown"))
		time.Sleep(9 * time.Hour)
		submit(t, m.Manager, def("young"))
		wantLeft(t, m.Manager, "a", "b", "owes", "unknown", "young")
		time.Sleep(2 * time.Hour)
		wantLeft(t, m.Manager, "owes", "unknown", "young")
		if !slices.Equal(told, []string{"a", "b"}) {
			t.Errorf("told of %v", told)
		}
		r.mu.Lock()
		clear(r.owes)
		r.mu.Unlock()
		time.Sleep(time.Hour)
		wantLeft(t, m.Manager, "young")
	})
}

func TestAJobIsKeptWhenTheAuditLogCannotBeTold(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		m := start(t, store, succeed, jobs.Options{
			Retention:  jobs.Retention{Jobs: time.Hour},
			Forgetting: func(context.Context, []models.Job) (func([]string, error), error) { return nil, errCut },
		})
		submit(t, m.Manager, def("a"))
		time.Sleep(5 * time.Hour)
		wantLeft(t, m.Manager, "a")
	})
}

func TestFailedJobsHaveAnAgeOfTheirOwn(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		run := func(_ context.Context, d job.Definition, _ *progress.Tracker) (job.Result, error) {
			if d.ID == "failed" {
				return job.Result{}, permanentErr{"broken"}
			}
			return job.Result{Success: true}, nil
		}
		m := start(t, store, run, jobs.Options{Retention: jobs.Retention{Jobs: time.Hour, Failed: 10 * time.Hour}})
		submit(t, m.Manager, def("completed"), def("failed"))
		time.Sleep(3 * time.Hour)
		wantLeft(t, m.Manager, "failed")
		time.Sleep(10 * time.Hour)
		wantLeft(t, m.Manager)
	})
}

func TestAboveTheirNumberTheJobsThatEndedFirstGo(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		r := &indebted{runnerFunc: succeed, owes: map[string]error{"a": nil}}
		m := startRunner(t, store, r, jobs.Options{Retention: jobs.Retention{MaxJobs: 3, Events: time.Hour}})
		for _, id := range []string{"a", "b", "c", "d", "e"} {
			submit(t, m.Manager, def(id))
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Hour)
		wantLeft(t, m.Manager, "a", "d", "e")
		events, err := store.Events(t.Context(), "e", 0, 0)
		if err != nil || len(events) != 1 || events[0].Status != models.StatusCompleted {
			t.Errorf("events of a job that ended hours ago: %+v, %v", events, err)
		}
	})
}

func TestNothingIsForgottenUnlessAsked(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		m := start(t, store, succeed, jobs.Options{Poll: time.Hour})
		submit(t, m.Manager, def("a"))
		time.Sleep(1000 * time.Hour)
		wantLeft(t, m.Manager, "a")
	})
}
