package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/postgres"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// byID counts runs.
type byID struct {
	mu   sync.Mutex
	runs map[string]int
	over chan string
}

func (r *byID) Run(_ context.Context, d job.Definition, _ *progress.Tracker) (job.Result, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs[d.ID]++
	r.over <- d.ID
	return job.Result{Success: true}, nil
}

func (*byID) CleanUp(context.Context, job.Definition, bool, *progress.Tracker) (job.Result, error) {
	return job.Result{}, nil
}

func TestDaemonsOnASlowDatabaseRunEachJobOnce(t *testing.T) {
	t.Parallel()
	const all = 8
	p := server.Proxy(t)
	name := server.Database(t, "postgres")
	r := &byID{runs: make(map[string]int), over: make(chan string, 10*all)}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var over sync.WaitGroup
	var managers []*jobs.Manager
	for range 2 {
		s := open(t, postgres.Options{URL: p.URL("postgres", name)})
		m := jobs.New(s, r, jobs.Options{MaxJobs: 3, Poll: 100 * time.Millisecond})
		managers = append(managers, m)
		over.Go(func() { _ = m.Run(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		over.Wait()
	})
	p.Delay.Store(int64(60 * time.Millisecond))
	var defs []job.Definition
	for i := range all {
		defs = append(defs, def(fmt.Sprint("job-", i)))
	}
	if _, err := managers[0].Submit(t.Context(), defs, true); err != nil {
		t.Fatal(err)
	}
	for range all {
		<-r.over
	}
	for _, m := range managers {
		for n := -1; n != all; {
			c, err := m.Stats(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			n = c.Completed
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, n := range r.runs {
		if n != 1 {
			t.Errorf("job %s ran %d times", id, n)
		}
	}
}

// TestADatabaseThatIsTooSlowIsTroubleUntilItAnswersAgain goes on where the runs have ended:
// see TestARunEndsBeforeAClaimThatCannotBeRenewedIsFreeForOthers.
func TestADatabaseThatIsTooSlowIsTroubleUntilItAnswersAgain(t *testing.T) {
	t.Parallel()
	p := server.Proxy(t)
	name := server.Database(t, "postgres")
	d := &daemon{
		store:   open(t, postgres.Options{URL: p.URL("postgres", name)}),
		started: make(chan *progress.Tracker, 10), limits: make(chan int64, 1), hearing: make(chan struct{}),
	}
	d.Manager = jobs.New(d.store, d, jobs.Options{
		Notices: d, Hold: 4 * time.Second, Heartbeat: 500 * time.Millisecond, Poll: 50 * time.Millisecond, DrainTimeout: time.Second,
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	over := make(chan error, 1)
	go func() { over <- d.Manager.Run(ctx) }()
	<-d.hearing
	if _, err := d.Health(t.Context()); err != nil {
		t.Errorf("at first: %v", err)
	}
	p.Delay.Store(int64(5 * time.Second))
	if _, err := d.Health(t.Context()); !errors.As(err, new(*jobs.StoreError)) {
		t.Errorf("while it is slow: %v", err)
	}
	p.Delay.Store(0)
	other := open(t, postgres.Options{URL: server.URL("postgres", name)})
	if err := other.Create(t.Context(), []jobs.NewJob{{Definition: def("a")}}); err != nil {
		t.Fatal(err)
	}
	<-d.started // it claims again by itself
	for {
		if _, err := d.Health(t.Context()); err == nil {
			break
		}
	}
	cancel()
	if err := <-over; err != nil {
		t.Error(err)
	}
}
