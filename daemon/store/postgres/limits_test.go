package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/limits"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/postgres"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// told is a bandwidth whose changes the test waits for.
type told chan int64

func (c told) SetLimit(n int64) { c <- n }

// wait waits for a bandwidth.
func (c told) wait(want int64) {
	for n := range c {
		if n == want {
			return
		}
	}
}

// keep runs a Keeper that asks by itself so seldom that what it does in a test it was
// told by other daemons. It hears of them until the test ends.
func keep(t *testing.T, database string, o limits.Options) *limits.Keeper {
	t.Helper()
	s := open(t, postgres.Options{URL: server.URL("postgres", database)})
	o.Store, o.Hold, o.Every, o.Again = s, 10*time.Hour, time.Hour, time.Hour
	k := limits.New(o)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var over sync.WaitGroup
	hearing := make(chan struct{})
	once := sync.OnceFunc(func() { close(hearing) })
	over.Go(func() {
		s.Listen(ctx, func(jobs.Notice) {
			once()
			k.Look()
		})
	})
	<-hearing
	over.Go(func() { _ = k.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		over.Wait()
	})
	return k
}

func TestDaemonsOnOneDatabaseNeverHaveMorePlacesThanThereAre(t *testing.T) {
	t.Parallel()
	const most, each = 4, 20
	name := server.Database(t, "postgres")
	var now, worst atomic.Int64
	var wg sync.WaitGroup
	for i := range 3 {
		k := keep(t, name, limits.Options{Owner: fmt.Sprint("daemon-", i)})
		for range each {
			wg.Go(func() {
				release, err := k.Acquire(t.Context(), "disks", most)
				if err != nil {
					t.Error(err)
					return
				}
				n := now.Add(1)
				for w := worst.Load(); n > w && !worst.CompareAndSwap(w, n); w = worst.Load() {
				}
				if held, err := k.Holdings(t.Context()); err != nil || len(held) == 0 {
					t.Errorf("holdings %+v, %v", held, err)
				}
				now.Add(-1)
				release()
			})
		}
	}
	wg.Wait()
	if n := worst.Load(); n < 1 || n > most {
		t.Errorf("%d places were in use at once, want up to %d", n, most)
	}
}

func TestABandwidthThatIsChangedAtOneDaemonIsHeardOfByAll(t *testing.T) {
	t.Parallel()
	name := server.Database(t, "postgres")
	var rates []told
	var all []*limits.Keeper
	for i := range 2 {
		rates = append(rates, make(told, 100))
		all = append(all, keep(t, name, limits.Options{
			Owner: fmt.Sprint("daemon-", i), Bandwidth: "bandwidth", Rate: rates[i], Limit: 1000,
		}))
	}
	defer all[0].Moving()()
	rates[0].wait(1000)
	defer all[1].Moving()()
	rates[0].wait(500)
	rates[1].wait(500)
	if err := all[1].SetLimit(t.Context(), 300); err != nil {
		t.Fatal(err)
	}
	rates[0].wait(150)
	rates[1].wait(150)
	if all[0].Limit() != 300 {
		t.Errorf("the limit is %d", all[0].Limit())
	}
	if err := all[0].SetLimit(t.Context(), limits.Unlimited); err != nil {
		t.Fatal(err)
	}
	rates[1].wait(0)
}

// TestJobsOfAVCenterStayWithinItsLimitAtAllDaemonsTogether counts what is at work.
func TestJobsOfAVCenterStayWithinItsLimitAtAllDaemonsTogether(t *testing.T) {
	t.Parallel()
	const most, all = 3, 24
	name := server.Database(t, "postgres")
	var now, worst, done atomic.Int64
	finished := make(chan struct{})
	run := runFunc(func(ctx context.Context) error {
		n := now.Add(1)
		defer now.Add(-1)
		for w := worst.Load(); n > w && !worst.CompareAndSwap(w, n); w = worst.Load() {
		}
		if done.Add(1) == all {
			close(finished)
		}
		return nil
	})
	var managers []*jobs.Manager
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var over sync.WaitGroup
	for i := range 3 {
		s := open(t, postgres.Options{URL: server.URL("postgres", name)})
		m := jobs.New(s, run, jobs.Options{
			MaxJobs: 8, PerVCenter: map[string]int{"lab": most}, Poll: 50 * time.Millisecond,
			Daemon: jobs.Member{ID: fmt.Sprint("daemon-", i)},
		})
		managers = append(managers, m)
		over.Go(func() { _ = m.Run(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		over.Wait()
	})
	var defs []job.Definition
	for i := range all {
		defs = append(defs, def(fmt.Sprint("job-", i)))
	}
	if _, err := managers[0].Submit(t.Context(), defs, true); err != nil {
		t.Fatal(err)
	}
	<-finished
	if n := worst.Load(); n < 1 || n > most {
		t.Errorf("%d jobs ran at once, want up to %d", n, most)
	}
}

// runFunc is a runner of jobs that leave nothing.
type runFunc func(ctx context.Context) error

func (f runFunc) Run(ctx context.Context, _ job.Definition, _ *progress.Tracker) (job.Result, error) {
	return job.Result{Success: true}, f(ctx)
}

func (runFunc) CleanUp(context.Context, job.Definition, bool, *progress.Tracker) (job.Result, error) {
	return job.Result{}, nil
}
