package jobs_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runnerFunc is a Runner of jobs that leave nothing behind.
type runnerFunc func(ctx context.Context, def job.Definition, t *progress.Tracker) (job.Result, error)

func (f runnerFunc) Run(ctx context.Context, def job.Definition, t *progress.Tracker) (job.Result, error) {
	return f(ctx, def, t)
}

func (runnerFunc) CleanUp(context.Context, job.Definition, bool, *progress.Tracker) (job.Result, error) {
	return job.Result{}, nil
}

// leaving is a Runner of jobs that leave something behind.
type leaving struct {
	runnerFunc
	cleanUp func(ctx context.Context, def job.Definition, keepParts bool) (job.Result, error)
}

func (l leaving) CleanUp(ctx context.Context, def job.Definition, keepParts bool, _ *progress.Tracker) (job.Result, error) {
	return l.cleanUp(ctx, def, keepParts)
}

// succeed is a run that has nothing to do.
func succeed(context.Context, job.Definition, *progress.Tracker) (job.Result, error) {
	return job.Result{Success: true}, nil
}

// untilStopped is a run that goes on until its context ends.
func untilStopped(ctx context.Context, _ job.Definition, t *progress.Tracker) (job.Result, error) {
	t.SetPhase(progress.Exporting)
	<-ctx.Done()
	return job.Result{}, ctx.Err()
}

// daemon is a manager that runs.
type daemon struct {
	*jobs.Manager
	stop func() error // ends it and returns what Run returned
}

// start runs a manager until stop, or until the test ends.
func start(t *testing.T, store jobs.Store, run runnerFunc, o jobs.Options) *daemon {
	t.Helper()
	return startRunner(t, store, run, o)
}

// startRunner is start for any Runner.
func startRunner(t *testing.T, store jobs.Store, run jobs.Runner, o jobs.Options) *daemon {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	d := &daemon{Manager: jobs.New(store, run, o)}
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	d.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = d.stop() })
	return d
}

// def is a valid definition.
func def(id string) job.Definition {
	return job.Definition{ID: id, VMPath: "/dc/vm/" + id, OutputPath: "/out/" + id, VCenter: "lab"}
}

// submit submits jobs that must be accepted.
func submit(t *testing.T, m *jobs.Manager, defs ...job.Definition) {
	t.Helper()
	s, err := m.Submit(t.Context(), defs, true)
	if err != nil || len(s.IDs) != len(defs) {
		t.Fatalf("Submit = %+v, %v", s, err)
	}
}

// job returns a job as it is once nothing moves any more.
func theJob(t *testing.T, m *jobs.Manager, id string) models.Job {
	t.Helper()
	synctest.Wait()
	j, err := m.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func wantStatus(t *testing.T, m *jobs.Manager, id string, want models.Status) models.Job {
	t.Helper()
	j := theJob(t, m, id)
	if j.Status != want {
		t.Errorf("job %s is %s (%s), want %s", id, j.Status, j.Error, want)
	}
	return j
}

// inBubble runs a test in virtual time on an empty store.
func inBubble(t *testing.T, test func(t *testing.T, store jobs.Store)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { test(t, memory.New()) })
}

var errCut = errors.New("the store cannot be reached")

// cutStore is a store that cannot be reached while it is cut.
type cutStore struct {
	jobs.Store
	mu  sync.Mutex
	cut bool
	how error // what it says then; errCut when nil
}

func (s *cutStore) set(cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = cut
}

func (s *cutStore) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return cmp.Or(s.how, errCut)
	}
	return nil
}

func (s *cutStore) Check(ctx context.Context) ([]string, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.Store.Check(ctx)
}

func (s *cutStore) Claim(ctx context.Context, r jobs.ClaimRequest) (jobs.Claimed, error) {
	if err := s.err(); err != nil {
		return jobs.Claimed{}, err
	}
	return s.Store.Claim(ctx, r)
}

func (s *cutStore) Heartbeat(ctx context.Context, l jobs.Claim, b jobs.Beat) (jobs.Signals, error) {
	if err := s.err(); err != nil {
		return jobs.Signals{}, err
	}
	return s.Store.Heartbeat(ctx, l, b)
}

func (s *cutStore) Finish(ctx context.Context, l jobs.Claim, o jobs.Outcome) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.Store.Finish(ctx, l, o)
}

// permanentErr is an error that is not worth another attempt.
type permanentErr struct{ text string }

func (e permanentErr) Error() string { return e.text }
func (permanentErr) Permanent() bool { return true }

// reversing seals by reversing, which is enough to see whether it was done.
type reversing struct{}

func (reversing) Seal(plain []byte) ([]byte, error) {
	out := make([]byte, len(plain))
	for i, b := range plain {
		out[len(plain)-1-i] = b
	}
	return out, nil
}

func (r reversing) Open(sealed []byte) ([]byte, error) {
	if string(sealed) == "" {
		return nil, errors.New("nothing sealed")
	}
	return r.Seal(sealed)
}

// gauge counts how many runs go on at once, in total and by vCenter.
type gauge struct {
	mu   sync.Mutex
	now  map[string]int
	most map[string]int
}

func (g *gauge) run(ctx context.Context, def job.Definition, _ *progress.Tracker) (job.Result, error) {
	g.add(1, "all", def.VCenter)
	defer g.add(-1, "all", def.VCenter)
	select {
	case <-ctx.Done():
		return job.Result{}, fmt.Errorf("interrupted: %w", ctx.Err())
	case <-time.After(time.Minute):
		return job.Result{Success: true}, nil
	}
}

func (g *gauge) add(n int, keys ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.now == nil {
		g.now, g.most = make(map[string]int), make(map[string]int)
	}
	for _, k := range keys {
		g.now[k] += n
		g.most[k] = max(g.most[k], g.now[k])
	}
}
