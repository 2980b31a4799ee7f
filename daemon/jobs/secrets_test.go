package jobs_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// plainSealer marks what it seals.
type plainSealer struct{ mark string }

func (s plainSealer) Seal(plain []byte) ([]byte, error)  { return append([]byte(s.mark), plain...), nil }
func (s plainSealer) Open(sealed []byte) ([]byte, error) { return sealed[len(s.mark):], nil }

// own is a job that brings a user and a password along.
func own(id string) job.Definition {
	d := def(id)
	d.VCenter, d.VCenterURL, d.Username, d.Password = "", "https://vc.example.com/sdk", "alice", "secret"
	return d
}

// failing is a run that fails for good.
func failing(context.Context, job.Definition, *progress.Tracker) (job.Result, error) {
	return job.Result{}, errors.New("broken")
}

func TestThePasswordOfAFailedJobIsKeptForARetryAndThenDropped(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		m := start(t, store, failing, jobs.Options{Sealer: plainSealer{"x"}, KeepPasswords: 10 * time.Hour})
		submit(t, m.Manager, own("a"), def("configured"))
		wantStatus(t, m.Manager, "a", models.StatusFailed)
		time.Sleep(9 * time.Hour)
		if err := m.Retry(t.Context(), "a"); err != nil {
			t.Errorf("a retry while the password is kept: %v", err)
		}
		wantStatus(t, m.Manager, "a", models.StatusFailed)
		time.Sleep(12 * time.Hour)
		if err := m.Retry(t.Context(), "a"); !errors.Is(err, jobs.ErrNoPassword) {
			t.Errorf("a retry after that = %v, want ErrNoPassword", err)
		}
		if err := m.Retry(t.Context(), "configured"); err != nil {
			t.Errorf("a retry of a job without a password of its own: %v", err)
		}
	})
}

func TestNoPasswordIsKeptWhereNoneIsToBe(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		m := start(t, store, failing, jobs.Options{Sealer: plainSealer{"x"}, KeepPasswords: -1})
		submit(t, m.Manager, own("a"))
		wantStatus(t, m.Manager, "a", models.StatusFailed)
		if err := m.Retry(t.Context(), "a"); !errors.Is(err, jobs.ErrNoPassword) {
			t.Errorf("Retry = %v, want ErrNoPassword", err)
		}
	})
}

// slowStore holds Create up until it may go on.
type slowStore struct {
	jobs.Store
	entered, proceed chan struct{}
}

func (s slowStore) Create(ctx context.Context, batch []jobs.NewJob) error {
	close(s.entered)
	<-s.proceed
	return s.Store.Create(ctx, batch)
}

func TestAPasswordThatIsBeingStoredIsNotPassedOverByARotation(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		slow := slowStore{store, make(chan struct{}), make(chan struct{})}
		m := jobs.New(slow, runnerFunc(succeed), jobs.Options{Sealer: plainSealer{"old"}, Secrets: store.(jobs.Secrets)})
		submitted := make(chan error, 1)
		go func() {
			_, err := m.Submit(t.Context(), []job.Definition{own("a")}, true)
			submitted <- err
		}()
		<-slow.entered
		done := make(chan int, 1)
		go func() {
			n, err := m.Reseal(t.Context(), func([]byte) ([]byte, error) { return []byte("new"), nil })
			if err != nil {
				t.Error(err)
			}
			done <- n
		}()
		close(slow.proceed)
		if err := <-submitted; err != nil {
			t.Fatal(err)
		}
		if n := <-done; n != 1 {
			t.Errorf("%d passwords were sealed anew, want 1", n)
		}
	})
}
