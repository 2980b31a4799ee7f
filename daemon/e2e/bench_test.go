package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/sqlite"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// What the benchmark's database holds.
const (
	benchFinished = 10_000
	benchQueued   = 2_000
	benchVCenters = 5
)

// fill makes a database with many jobs that have ended, and some that wait.
func fill(b *testing.B, path string, queued int) {
	b.Helper()
	store, err := sqlite.Open(b.Context(), path)
	if err != nil {
		b.Fatal(err)
	}
	add := func(prefix string, n int) {
		batch := make([]jobs.NewJob, n)
		for i := range batch {
			batch[i].Definition = job.Definition{
				ID: fmt.Sprintf("%s-%06d", prefix, i), Name: "bench", VMPath: "/DC0/vm/bench", OutputPath: "/out",
				VCenter: fmt.Sprint("vcenter", i%benchVCenters), CreatedAt: time.Now().UTC(),
			}
		}
		if err := store.Create(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	add("finished", benchFinished)
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	_, err = db.ExecContext(b.Context(), `UPDATE jobs SET claimable_at = NULL, epoch = 1, started_at = updated_at, completed_at = updated_at,
		status = CASE seq % 4 WHEN 0 THEN 'failed' WHEN 1 THEN 'cancelled' ELSE 'completed' END`)
	if err != nil {
		b.Fatal(err)
	}
	add("queued", queued)
	if err := store.Close(); err != nil {
		b.Fatal(err)
	}
}

// halfFull is a jobs.Runner: what is for the vCenter "free" ends at once, all
// else runs on.
type halfFull struct{ began chan time.Time }

func (r halfFull) Run(ctx context.Context, def job.Definition, _ *progress.Tracker) (job.Result, error) {
	if def.VCenter == "free" {
		r.began <- time.Now()
		return job.Result{Success: true}, nil
	}
	<-ctx.Done()
	return job.Result{}, ctx.Err()
}

func (halfFull) CleanUp(context.Context, job.Definition, bool, *progress.Tracker) (job.Result, error) {
	return job.Result{}, nil
}

// quantiles reports the median and the 99th percentile of times.
func quantiles(b *testing.B, times []time.Duration) {
	slices.Sort(times)
	ms := func(p int) float64 { return times[(len(times)-1)*p/100].Seconds() * 1000 }
	b.ReportMetric(0, "ns/op") // it holds what is not measured
	b.ReportMetric(ms(50), "p50-ms")
	b.ReportMetric(ms(99), "p99-ms")
}

// BenchmarkDaemon measures calls through HTTP, as a client sees them, of a
// daemon whose database holds 10,000 jobs that have ended and 2,000 that wait.
func BenchmarkDaemon(b *testing.B) {
	path := filepath.Join(b.TempDir(), "jobs.db")
	fill(b, path, benchQueued)
	began := time.Now()
	store, err := sqlite.Open(b.Context(), path)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("opened in %v", time.Since(began).Round(time.Microsecond))
	limits := map[string]int{"free": 4}
	for i := range benchVCenters {
		limits[fmt.Sprint("vcenter", i)] = 1
	}
	runner := halfFull{began: make(chan time.Time, 1)}
	manager := jobs.New(store, runner, jobs.Options{MaxJobs: 16, PerVCenter: limits})
	handler := api.New(manager, api.Options{})
	srv := httptest.NewServer(handler)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- manager.Run(ctx) }()
	b.Cleanup(func() {
		handler.StopStreams()
		srv.Close()
		stop()
		if err := <-ended; err != nil {
			b.Error(err)
		}
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	c, err := client.New(srv.URL, client.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)

	timed := func(name string, call func() error) {
		b.Run(name, func(b *testing.B) {
			var times []time.Duration
			for b.Loop() {
				began := time.Now()
				err := call()
				times = append(times, time.Since(began))
				if err != nil {
					b.Fatal(err)
				}
			}
			quantiles(b, times)
		})
	}
	timed("status", func() error {
		_, err := c.Status(ctx)
		return err
	})
	for name, q := range map[string]models.Query{
		"query-all-limit-50":    {All: true, Limit: 50},
		"query-failed-limit-50": {Status: []models.Status{models.StatusFailed}, Limit: 50},
		"query-one-id":          {JobIDs: []string{"queued-000777"}},
	} {
		timed(name, func() error {
			r, err := c.Query(ctx, q)
			if err == nil && len(r.Jobs) == 0 {
				err = fmt.Errorf("nothing found")
			}
			return err
		})
	}
	for _, n := range []int{1, 201} {
		defs := make([]job.Definition, n)
		for i := range defs {
			defs[i] = job.Definition{VMPath: "/DC0/vm/x", OutputPath: "/out", VCenter: "vcenter0", Priority: -100}
		}
		timed(fmt.Sprint("submit-", n), func() error {
			_, err := c.Submit(ctx, defs, true)
			return err
		})
	}
	b.Run("submit-to-claimed", func(b *testing.B) {
		var times []time.Duration
		for b.Loop() {
			began := time.Now()
			r, err := c.Submit(ctx, []job.Definition{{VMPath: "/DC0/vm/x", OutputPath: "/out", VCenter: "free"}}, true)
			if err != nil {
				b.Fatal(err)
			}
			times = append(times, (<-runner.began).Sub(began))
			for _, err := range c.Watch(ctx, r.JobIDs[0]) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
		quantiles(b, times)
	})
}
