package jobs_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// owing is a Runner whose jobs owe something at vSphere.
type owing struct {
	runnerFunc
	settle func(ctx context.Context, id string) error

	mu      sync.Mutex
	settled []string
}

func (o *owing) Settle(ctx context.Context, def job.Definition, _ *progress.Tracker) error {
	o.mu.Lock()
	o.settled = append(o.settled, strings.TrimSuffix(def.ID+" as "+def.Username+":"+def.Password, " as :"))
	o.mu.Unlock()
	return o.settle(ctx, def.ID)
}

func (o *owing) looked() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.settled)
}

func broken(context.Context, job.Definition, *progress.Tracker) (job.Result, error) {
	return job.Result{}, errors.New("broken")
}

func TestAtItsStartADaemonSettlesWhatEndedJobsOwe(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		first := start(t, store, broken, jobs.Options{Sealer: reversing{}})
		submit(t, first.Manager, def("a"), def("b"))
		mine := def("own-user")
		mine.VCenter, mine.VCenterURL, mine.Username, mine.Password = "", "https://vc.example.com", "me", "secret"
		submit(t, first.Manager, mine)
		wantStatus(t, first.Manager, "b", models.StatusFailed)
		if err := first.stop(); err != nil {
			t.Fatal(err)
		}
		var back atomic.Bool
		r := &owing{runnerFunc: broken, settle: func(_ context.Context, id string) error {
			if id == "b" && !back.Load() {
				return errors.New("vSphere is away")
			}
			return nil
		}}
		startRunner(t, store, r, jobs.Options{Sealer: reversing{}})
		synctest.Wait()
		if got := r.looked(); !slices.Equal(got, []string{"a", "b", "own-user as me:secret"}) {
			t.Errorf("at the start: %v; want a and b, and the third with its own password", got)
		}
		back.Store(true)
		time.Sleep(30 * time.Minute)
		if got := r.looked(); !slices.Equal(got, []string{"a", "b", "own-user as me:secret", "b"}) {
			t.Errorf("later: %v; want b once more, and nothing that is settled", got)
		}
	})
}

// A person settles what is left of it, with hyper2kvm clean.
func TestAJobWhosePasswordIsNotKeptAnyMoreIsNotSettled(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		first := start(t, store, broken, jobs.Options{Sealer: reversing{}, KeepPasswords: -1})
		submit(t, first.Manager, own("a"))
		wantStatus(t, first.Manager, "a", models.StatusFailed)
		if err := first.stop(); err != nil {
			t.Fatal(err)
		}
		r := &owing{runnerFunc: broken, settle: func(context.Context, string) error { return nil }}
		startRunner(t, store, r, jobs.Options{Sealer: reversing{}})
		time.Sleep(time.Hour)
		if got := r.looked(); len(got) > 0 {
			t.Errorf("settled %v", got)
		}
	})
}

func TestAJobThatEndsOwingSomethingIsSettledLater(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		r := &owing{
			runnerFunc: func(_ context.Context, def job.Definition, _ *progress.Tracker) (job.Result, error) {
				switch def.ID {
				case "failed":
					return job.Result{}, errors.New("owed at vSphere")
				case "owes":
					return job.Result{Success: true, Owed: []string{"a snapshot"}}, nil
				}
				return job.Result{Success: true}, nil
			},
			settle: func(context.Context, string) error { return nil },
		}
		d := startRunner(t, store, r, jobs.Options{})
		synctest.Wait() // the look at what earlier daemons have left is over
		submit(t, d.Manager, def("failed"), def("owes"), def("clean"))
		time.Sleep(time.Hour)
		if got := r.looked(); !slices.Equal(got, []string{"failed", "owes"}) {
			t.Errorf("settled %v", got)
		}
	})
}

func TestAJobThatIsRunAgainEndsItsSettling(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		first := start(t, store, broken, jobs.Options{})
		submit(t, first.Manager, def("a"))
		wantStatus(t, first.Manager, "a", models.StatusFailed)
		if err := first.stop(); err != nil {
			t.Fatal(err)
		}
		var overlap, busy atomic.Bool
		r := &owing{
			runnerFunc: func(context.Context, job.Definition, *progress.Tracker) (job.Result, error) {
				overlap.Store(overlap.Load() || busy.Load())
				return job.Result{Success: true}, nil
			},
			settle: func(ctx context.Context, _ string) error {
				busy.Store(true)
				<-ctx.Done()
				time.Sleep(time.Second)
				busy.Store(false)
				return ctx.Err()
			},
		}
		d := startRunner(t, store, r, jobs.Options{})
		synctest.Wait()
		if err := d.Retry(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		wantStatus(t, d.Manager, "a", models.StatusCompleted)
		if overlap.Load() {
			t.Error("it ran while it was settled")
		}
	})
}
