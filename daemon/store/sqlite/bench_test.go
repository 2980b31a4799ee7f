package sqlite_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/sqlite"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// What the benchmarks' store holds.
const (
	benchFinished = 10_000
	benchQueued   = 2_000
	benchVCenters = 5
)

// benchDefinition is the definition of job i.
func benchDefinition(prefix string, i int) job.Definition {
	d := def(fmt.Sprintf("%s-%06d", prefix, i))
	d.VCenter = fmt.Sprint("vcenter", i%benchVCenters)
	d.Priority = i % 3
	return d
}

// fill makes a store with many jobs, and returns its path and a connection of
// its own to the same file, for what would take long through the store.
func fill(b *testing.B) (string, *sql.DB) {
	b.Helper()
	path := filepath.Join(b.TempDir(), "state.db")
	s, err := sqlite.Open(b.Context(), path)
	if err != nil {
		b.Fatal(err)
	}
	add := func(prefix string, n int) {
		batch := make([]jobs.NewJob, n)
		for i := range batch {
			batch[i] = jobs.NewJob{Definition: benchDefinition(prefix, i)}
		}
		if err := s.Create(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	add("finished", benchFinished)
	result, err := json.Marshal(job.Result{VMName: "vm", OutputDir: "/out", Files: []string{"/out/a.qcow2", "/out/b.qcow2"}, TotalSize: 1 << 40, Success: true})
	if err != nil {
		b.Fatal(err)
	}
	for _, statement := range []string{
		`UPDATE jobs SET claimable_at = NULL, epoch = 1, last_event = 10, result = '` + string(result) + `',
			status = CASE seq % 4 WHEN 0 THEN 'failed' WHEN 1 THEN 'cancelled' ELSE 'completed' END`,
		`INSERT INTO events (job, id, data) SELECT jobs.seq, n.value, events.data
			FROM jobs JOIN events ON events.job = jobs.seq JOIN json_each('[2, 3, 4, 5, 6, 7, 8, 9, 10]') n`,
	} {
		if _, err := db.ExecContext(b.Context(), statement); err != nil {
			b.Fatal(err)
		}
	}
	add("queued", benchQueued)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	return path, db
}

// measure times each call of op, and not of the clean-up that it returns, and
// reports the median and the 99th percentile in milliseconds.
func measure(b *testing.B, op func() (cleanup func())) {
	b.Helper()
	var times []time.Duration
	for b.Loop() {
		began := time.Now()
		cleanup := op()
		times = append(times, time.Since(began))
		if cleanup != nil {
			cleanup()
		}
	}
	slices.Sort(times)
	ms := func(p float64) float64 {
		return times[int(p*float64(len(times)-1))].Seconds() * 1000
	}
	b.ReportMetric(0, "ns/op") // it holds the clean-up
	b.ReportMetric(ms(0.50), "p50-ms")
	b.ReportMetric(ms(0.99), "p99-ms")
}

// BenchmarkStore measures what a daemon does with 10,000 jobs that have ended
// and 2,000 that wait.
func BenchmarkStore(b *testing.B) {
	path, db := fill(b)
	check := func(b *testing.B, err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	b.Run("start", func(b *testing.B) {
		measure(b, func() func() {
			s, err := sqlite.Open(b.Context(), path)
			check(b, err)
			return func() { check(b, s.Close()) }
		})
	})
	s := open(b, path)
	b.Run("counts", func(b *testing.B) {
		measure(b, func() func() {
			_, err := s.Counts(b.Context())
			check(b, err)
			return nil
		})
	})
	for _, test := range []struct {
		name string
		jobs.Query
	}{
		{"all", jobs.Query{Limit: 50}},
		{"completed", jobs.Query{Limit: 50, Statuses: []models.Status{models.StatusCompleted}}},
		{"two-statuses", jobs.Query{Limit: 50, Statuses: []models.Status{models.StatusFailed, models.StatusPending}}},
		{"one-id", jobs.Query{IDs: []string{"queued-000777"}}},
	} {
		b.Run("query-"+test.name, func(b *testing.B) {
			measure(b, func() func() {
				page, err := s.List(b.Context(), test.Query)
				check(b, err)
				if len(page.Jobs) == 0 {
					b.Fatal("nothing found")
				}
				return nil
			})
		})
	}
	for _, n := range []int{1, 201} {
		b.Run(fmt.Sprint("submit-", n), func(b *testing.B) {
			measure(b, func() func() {
				prefix := fmt.Sprint("new-", time.Now().UnixNano())
				batch := make([]jobs.NewJob, n)
				for i := range batch {
					batch[i] = jobs.NewJob{Definition: benchDefinition(prefix, i)}
				}
				check(b, s.Create(b.Context(), batch))
				return func() { // keep the queue as long as it was
					_, err := db.ExecContext(b.Context(), `DELETE FROM jobs WHERE id >= 'new-' AND id < 'new.'`)
					check(b, err)
				}
			})
		})
	}
	b.Run("claim", func(b *testing.B) {
		measure(b, func() func() {
			c := claim(b, s, "bench")
			return func() {
				check(b, s.Finish(b.Context(), c.Claim, jobs.Outcome{Status: models.StatusPending}))
			}
		})
	})
	b.Run("claim-nothing", func(b *testing.B) {
		full := []string{"vcenter0", "vcenter1", "vcenter2", "vcenter3", "vcenter4"}
		measure(b, func() func() {
			_, err := s.Claim(b.Context(), jobs.ClaimRequest{Owner: "bench", Hold: time.Hour, Full: full})
			if !errors.Is(err, jobs.ErrNoJob) {
				b.Fatal(err)
			}
			return nil
		})
	})
	b.Run("heartbeat", func(b *testing.B) {
		c := claim(b, s, "bench")
		p := models.Progress{Phase: "exporting", PercentComplete: 42}
		measure(b, func() func() {
			_, err := s.Heartbeat(b.Context(), c.Claim, jobs.Beat{Hold: time.Hour, Progress: &p})
			check(b, err)
			return nil
		})
		check(b, s.Finish(b.Context(), c.Claim, jobs.Outcome{Status: models.StatusPending}))
	})
}
