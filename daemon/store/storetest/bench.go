package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
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
	d := definition(fmt.Sprintf("%s-%06d", prefix, i))
	d.VCenter = fmt.Sprint("vcenter", i%benchVCenters)
	d.Priority = i % 3
	return d
}

// Bench says how to measure an implementation in a SQL database.
type Bench struct {
	// Open opens the store, empty at first. The benchmark closes it.
	Open func(b *testing.B) ClosingStore
	// Exec runs a statement beside the store, for what would take long through it.
	Exec func(ctx context.Context, statement string) error
}

// ClosingStore is a store that can be closed.
type ClosingStore interface {
	jobs.Store
	Close() error
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// fill gives the store many jobs.
func (m Bench) fill(b *testing.B) {
	b.Helper()
	s := m.Open(b)
	add := func(prefix string, n int) {
		batch := make([]jobs.NewJob, n)
		for i := range batch {
			batch[i] = jobs.NewJob{Definition: benchDefinition(prefix, i)}
		}
		check(b, s.Create(b.Context(), batch))
	}
	add("finished", benchFinished)
	result, err := json.Marshal(job.Result{VMName: "vm", OutputDir: "/out", Files: []string{"/out/a.qcow2", "/out/b.qcow2"}, TotalSize: 1 << 40, Success: true})
	check(b, err)
	for _, statement := range []string{
		`UPDATE jobs SET claimable_at = NULL, epoch = 1, last_event = 10, result = '` + string(result) + `',
			status = CASE seq % 4 WHEN 0 THEN 'failed' WHEN 1 THEN 'cancelled' ELSE 'completed' END`,
		`INSERT INTO events (job, id, data) SELECT jobs.seq, n.column1, events.data
			FROM jobs JOIN events ON events.job = jobs.seq JOIN (VALUES (2), (3), (4), (5), (6), (7), (8), (9), (10)) AS n ON true`,
	} {
		check(b, m.Exec(b.Context(), statement))
	}
	add("queued", benchQueued)
	_, err = s.Check(b.Context()) // as a daemon does every few seconds
	check(b, err)
	check(b, s.Close())
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

// Run measures what a daemon does with 10,000 jobs that have ended and 2,000 that
// wait.
func (m Bench) Run(b *testing.B) {
	m.fill(b)
	b.Run("start", func(b *testing.B) {
		measure(b, func() func() {
			s := m.Open(b)
			return func() { check(b, s.Close()) }
		})
	})
	s := m.Open(b)
	defer func() { check(b, s.Close()) }()
	claim := func(b *testing.B) jobs.Claimed {
		b.Helper()
		c, err := s.Claim(b.Context(), jobs.ClaimRequest{Owner: "bench", Hold: time.Hour})
		check(b, err)
		return c
	}
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
					check(b, m.Exec(b.Context(), `DELETE FROM jobs WHERE id >= 'new-' AND id < 'new.'`))
				}
			})
		})
	}
	b.Run("claim", func(b *testing.B) {
		measure(b, func() func() {
			c := claim(b)
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
		c := claim(b)
		p := models.Progress{Phase: "exporting", PercentComplete: 42}
		measure(b, func() func() {
			_, err := s.Heartbeat(b.Context(), c.Claim, jobs.Beat{Hold: time.Hour, Progress: &p})
			check(b, err)
			return nil
		})
		check(b, s.Finish(b.Context(), c.Claim, jobs.Outcome{Status: models.StatusPending}))
	})
}
