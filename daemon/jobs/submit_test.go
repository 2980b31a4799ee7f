package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// batch is n valid definitions without IDs.
func batch(n int) []job.Definition {
	defs := make([]job.Definition, n)
	for i := range defs {
		defs[i] = def(fmt.Sprintf("vm%03d", i))
		defs[i].ID = ""
	}
	return defs
}

func TestABatchOf201IsAcceptedInOneCall(t *testing.T) {
	t.Parallel()
	m := jobs.New(memory.New(), runnerFunc(succeed), jobs.Options{})
	s, err := m.Submit(t.Context(), batch(201), false)
	if err != nil || len(s.IDs) != 201 || len(s.Rejected) != 0 {
		t.Fatalf("%d accepted, %v rejected, error %v", len(s.IDs), s.Rejected, err)
	}
	page, err := m.Query(t.Context(), jobs.Query{IDs: s.IDs})
	if err != nil || len(page.Jobs) != 201 {
		t.Fatalf("%d found, error %v", len(page.Jobs), err)
	}
	for i, j := range page.Jobs {
		if want := fmt.Sprintf("vm%03d", i); j.Definition.Name != want {
			t.Fatalf("job %d has name %s, want %s: ids are in the order of the jobs", i, j.Definition.Name, want)
		}
	}
}

func TestABadJobIsRejectedAloneOrWithItsBatch(t *testing.T) {
	t.Parallel()
	for _, atomic := range []bool{false, true} {
		t.Run(fmt.Sprintf("atomic=%v", atomic), func(t *testing.T) {
			t.Parallel()
			m := jobs.New(memory.New(), runnerFunc(succeed), jobs.Options{})
			if _, err := m.Submit(t.Context(), []job.Definition{def("taken")}, false); err != nil {
				t.Fatal(err)
			}
			defs := batch(5)
			defs[1].OutputPath = "relative"
			defs[2].ID = "taken"
			defs[3].ID, defs[4].ID = "twice", "twice"
			s, err := m.Submit(t.Context(), defs, atomic)
			if err != nil {
				t.Fatal(err)
			}
			rejected := make(map[int]error)
			for _, r := range s.Rejected {
				rejected[r.Index] = r
			}
			var invalid *job.ValidationError
			if !errors.As(rejected[1], &invalid) {
				t.Errorf("jobs[1]: %v, want a ValidationError", rejected[1])
			}
			if !errors.Is(rejected[4], jobs.ErrExists) {
				t.Errorf("jobs[4]: %v, want ErrExists", rejected[4])
			}
			counts, err := m.Stats(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if atomic {
				if len(s.IDs) != 0 || counts.Total() != 1 {
					t.Errorf("%d accepted of a batch that is atomic", len(s.IDs))
				}
				return
			}
			if !errors.Is(rejected[2], jobs.ErrExists) {
				t.Errorf("jobs[2]: %v, want ErrExists", rejected[2])
			}
			if len(s.IDs) != 2 || len(s.Rejected) != 3 || counts.Total() != 3 {
				t.Errorf("submission = %+v, counts = %+v", s, counts)
			}
		})
	}
}

func TestAnAtomicBatchWithAnIDThatIsTakenIsRefusedWhole(t *testing.T) {
	t.Parallel()
	m := jobs.New(memory.New(), runnerFunc(succeed), jobs.Options{})
	if _, err := m.Submit(t.Context(), []job.Definition{def("taken")}, true); err != nil {
		t.Fatal(err)
	}
	s, err := m.Submit(t.Context(), []job.Definition{def("new"), def("taken")}, true)
	if err != nil || len(s.IDs) != 0 || len(s.Rejected) != 1 || s.Rejected[0].Index != 1 {
		t.Errorf("Submit = %+v, %v", s, err)
	}
}

const password = "correct horse battery staple"

func withPassword(id string) job.Definition {
	d := def(id)
	d.VCenter = ""
	d.VCenterURL = "https://vc.example/sdk"
	d.Username = "operator"
	d.Password = password
	return d
}

func TestAPasswordReachesTheRunAndNobodyElse(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		got := make(chan string, 1)
		d := start(t, store, func(ctx context.Context, def job.Definition, tr *progress.Tracker) (job.Result, error) {
			got <- def.Password
			return untilStopped(ctx, def, tr)
		}, jobs.Options{Sealer: reversing{}})
		submit(t, d.Manager, withPassword("a"))
		if p := <-got; p != password {
			t.Errorf("the run's password is %q", p)
		}
		j := wantStatus(t, d.Manager, "a", models.StatusRunning)
		if text := fmt.Sprintf("%+v", j); strings.Contains(text, password) {
			t.Error("the job gives its password back")
		}
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
		c, err := store.Claim(t.Context(), jobs.ClaimRequest{Owner: "test", Hold: 1})
		if err != nil || len(c.Secret) != len(password) || strings.Contains(string(c.Secret), "horse") {
			t.Errorf("the store holds secret %q, error %v", c.Secret, err)
		}
	})
}

func TestAJobWithAPasswordNeedsAKey(t *testing.T) {
	t.Parallel()
	m := jobs.New(memory.New(), runnerFunc(succeed), jobs.Options{})
	s, err := m.Submit(t.Context(), []job.Definition{withPassword("a")}, false)
	if err != nil || len(s.Rejected) != 1 || !errors.Is(s.Rejected[0], jobs.ErrNoKey) {
		t.Fatalf("Submit = %+v, %v; want ErrNoKey", s, err)
	}
	if text := s.Rejected[0].Error(); !strings.Contains(text, "vcenter") || strings.Contains(text, password) {
		t.Errorf("the rejection says %q", text)
	}
}

func TestAJobWhoseKeyIsGoneFailsWithAHint(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		before := jobs.New(store, runnerFunc(succeed), jobs.Options{Sealer: reversing{}})
		submit(t, before, withPassword("a"))
		d := start(t, store, succeed, jobs.Options{})
		j := wantStatus(t, d.Manager, "a", models.StatusFailed)
		if !strings.Contains(j.Error, "key") {
			t.Errorf("error = %q", j.Error)
		}
	})
}
