package metrics_test

import (
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/limits"
	"github.com/hyper2kvm/hyper2kvm/daemon/metrics"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/storetest"
	"github.com/hyper2kvm/hyper2kvm/daemon/watch"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// fakeJobs answers a scrape.
type fakeJobs struct {
	err  error
	away []jobs.VCenter
}

func (f fakeJobs) Stats(context.Context) (jobs.Counts, error) {
	return jobs.Counts{Pending: 197, Running: 4}, f.err
}

func (f fakeJobs) Running() []jobs.Activity {
	return []jobs.Activity{{Phase: string(progress.Exporting)}, {Phase: string(progress.Exporting)}, {Phase: "a phase of a later version"}}
}

func (f fakeJobs) VCenters(context.Context) ([]jobs.VCenter, error) { return f.away, f.err }

func (f fakeJobs) Daemons(context.Context) ([]jobs.Daemon, string, error) {
	return []jobs.Daemon{
		{Alive: true}, {Alive: true, Drain: jobs.DrainNow}, {Alive: true, Drain: jobs.DrainWait, Jobs: []string{"a"}}, {Jobs: []string{"b"}}, {Alive: true},
	}, "self", f.err
}

func (f fakeJobs) StoreTroubles() (int, time.Time) {
	if f.err != nil {
		return 3, time.Now().Add(-time.Hour)
	}
	return 2, time.Time{}
}

// fakeShares are what this daemon has of limits that several share.
type fakeShares struct{}

func (fakeShares) Uses() []limits.Use {
	return []limits.Use{
		{Name: "disks of host esx1 at vc", Used: 2}, {Name: "disks of host esx2 at vc", Used: 1, Waiting: 4},
		{Name: "disks of vCenter vc", Used: 3, Waiting: 1}, {Name: "of a later version", Used: 9},
	}
}

func (fakeShares) Limit() int64 { return 1000 }

func (fakeShares) Part() int64 { return 250 }

// scrape returns the metrics as text.
func scrape(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	b, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("%d: %s (%v)", w.Code, b, err)
	}
	return string(b)
}

// has checks that lines stand in a scrape.
func has(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, want := range lines {
		if !strings.Contains("\n"+text, "\n"+want+"\n") {
			name, _, _ := strings.Cut(want, " ")
			name, _, _ = strings.Cut(name, "{")
			t.Errorf("want %s; of that there is\n%s", want, strings.Join(regexp.MustCompile("(?m)^"+name+".*$").FindAllString(text, -1), "\n"))
		}
	}
}

// full is Metrics to which everything has happened.
func full(t *testing.T) *metrics.Metrics {
	t.Helper()
	m := metrics.New("1.2.3", nil)
	m.Watch(metrics.Sources{
		Jobs: fakeJobs{away: []jobs.VCenter{
			{Name: "prod", State: jobs.Unreachable, Waiting: 3},
			{Name: "192.0.2.1", State: jobs.LoginRefused, Waiting: 1},
			{Name: "192.0.2.2", State: jobs.LoginRefused, Waiting: 1},
		}},
		VCenters: []string{"prod", "lab", "", "other", "default"}, // the last two are labels, too
		Space:    watch.NewSpace(t.TempDir(), "/"),
		Shares:   fakeShares{},
		ShareKinds: []metrics.ShareKind{
			{Begins: "disks of vCenter ", Label: "vcenter_disks"}, {Begins: "disks of host ", Label: "host_disks"}, {Begins: "logins of ", Label: "logins"},
		},
		Certificates: func() []watch.Certificate {
			return []watch.Certificate{{Name: "api", NotAfter: time.Unix(1_800_000_000, 0)}}
		},
	})
	m.Claimed(jobs.Claimed{}, 90*time.Second)
	m.Claimed(jobs.Claimed{Deaths: 1}, -1)
	m.Counted(progress.Tally{
		Received: map[progress.Route]int64{progress.NFCStream: 1000, progress.Datastore: 5},
		Written:  map[progress.Route]int64{progress.NFCStream: 2000},
		Retries:  map[progress.Retry]int64{{Route: progress.NFCStream, Cause: "cut"}: 2},
		Counts: map[progress.Count]int64{
			progress.LeasesOpened: 3, progress.LeaseRenewals: 7, progress.LeaseRenewalFailures: 1, progress.LeasesLost: 1, progress.Mismatches: 1, "of a later version": 1,
		},
	})
	m.Finished(jobs.Outcome{Status: models.StatusCompleted, Result: &job.Result{TotalSize: 4096, Disks: []job.DiskResult{
		{Verified: job.ByManifest}, {Verified: job.ByManifest}, {Verified: "of a later version"},
	}}}, time.Hour)
	m.Finished(jobs.Outcome{Status: models.StatusPending, Failed: true}, time.Minute)
	m.Finished(jobs.Outcome{Status: models.StatusPending}, time.Minute)
	end := m.Begin()
	end("GET", "/jobs/{id}", 200, 3*time.Millisecond)
	m.Begin()("WHATEVER", "none", 405, time.Millisecond)
	return m
}

func TestAScrapeTellsWhatHasHappenedAndWhatIs(t *testing.T) {
	t.Parallel()
	text := scrape(t, full(t))
	has(t, text,
		`hyper2kvm_jobs{status="pending"} 197`,
		`hyper2kvm_jobs{status="failed"} 0`,
		`hyper2kvm_running_jobs{phase="exporting"} 2`,
		`hyper2kvm_claims_total{after="death"} 1`,
		`hyper2kvm_queue_wait_seconds_sum 90`,
		`hyper2kvm_queue_wait_seconds_count 1`,
		`hyper2kvm_received_bytes_total{route="stream"} 1000`,
		`hyper2kvm_received_bytes_total{route="datastore"} 5`,
		`hyper2kvm_received_bytes_total{route="ranges"} 0`,
		`hyper2kvm_written_bytes_total{route="stream"} 2000`,
		`hyper2kvm_transfer_retries_total{cause="cut",route="stream"} 2`,
		`hyper2kvm_leases_opened_total 3`,
		`hyper2kvm_lease_renewals_total{result="ok"} 7`,
		`hyper2kvm_lease_renewals_total{result="failed"} 1`,
		`hyper2kvm_leases_lost_total 1`,
		`hyper2kvm_disk_mismatches_total 1`,
		`hyper2kvm_disks_verified_total{by="manifest"} 2`,
		`hyper2kvm_disks_verified_total{by="other"} 1`,
		`hyper2kvm_output_bytes_total 4096`,
		`hyper2kvm_runs_total{outcome="completed"} 1`,
		`hyper2kvm_runs_total{outcome="retried"} 1`,
		`hyper2kvm_runs_total{outcome="handed_back"} 1`,
		`hyper2kvm_run_duration_seconds_sum{outcome="completed"} 3600`,
		`hyper2kvm_vcenter_state{state="unreachable",vcenter="prod"} 1`,
		`hyper2kvm_vcenter_state{state="usable",vcenter="prod"} 0`,
		`hyper2kvm_vcenter_state{state="usable",vcenter="lab"} 1`,
		`hyper2kvm_vcenter_state{state="usable",vcenter="default"} 1`,
		`hyper2kvm_vcenter_state{state="login_refused",vcenter="other"} 1`,
		`hyper2kvm_vcenter_waiting_jobs{vcenter="other"} 2`,
		`hyper2kvm_http_request_duration_seconds_count{code="200",method="GET",route="/jobs/{id}"} 1`,
		`hyper2kvm_http_request_duration_seconds_count{code="405",method="other",route="none"} 1`,
		`hyper2kvm_http_requests_in_flight 0`,
		`hyper2kvm_filesystem_up{path="/"} 1`,
		`hyper2kvm_certificate_not_after_timestamp_seconds{name="api"} 1.8e+09`,
		`hyper2kvm_store_up 1`,
		`hyper2kvm_store_outages_total 2`,
		`hyper2kvm_store_outage_seconds 0`,
		`hyper2kvm_vcenters_unusable 3`,
		`hyper2kvm_daemons{state="active"} 2`,
		`hyper2kvm_daemons{state="draining"} 1`,
		`hyper2kvm_daemons{state="drained"} 1`,
		`hyper2kvm_daemons{state="dead"} 1`,
		`hyper2kvm_shared_limit_used{limit="host_disks"} 3`,
		`hyper2kvm_shared_limit_waiting{limit="host_disks"} 4`,
		`hyper2kvm_shared_limit_used{limit="vcenter_disks"} 3`,
		`hyper2kvm_shared_limit_waiting{limit="vcenter_disks"} 1`,
		`hyper2kvm_shared_limit_used{limit="logins"} 0`,
		`hyper2kvm_shared_bandwidth_limit_bytes_per_second 1000`,
		`hyper2kvm_shared_bandwidth_part_bytes_per_second 250`,
	)
	for _, want := range []string{`hyper2kvm_build_info{goversion="go`, `version="1.2.3"} 1`, "\ngo_goroutines ", "\nhyper2kvm_start_time_seconds 1.", `hyper2kvm_filesystem_free_bytes{path="/"} `} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s", want)
		}
	}
	if strings.Contains(text, "192.0.2.") {
		t.Error("a vCenter that is not configured is a label")
	}
}

func TestPromtoolFindsNothingToComplainOf(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(scrape(t, full(t)))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

func TestAStoreThatDoesNotAnswerIsToldAndNoJobsAreInvented(t *testing.T) {
	t.Parallel()
	m := metrics.New("1.2.3", nil)
	m.Watch(metrics.Sources{Jobs: fakeJobs{err: errors.New("the disk is gone")}, VCenters: []string{"prod"}})
	text := scrape(t, m)
	has(t, text, `hyper2kvm_store_up 0`, `hyper2kvm_running_jobs{phase="exporting"} 2`, `hyper2kvm_store_outages_total 3`)
	if !strings.Contains(text, "hyper2kvm_store_outage_seconds 3") || strings.Contains(text, "hyper2kvm_daemons{") || strings.Contains(text, "hyper2kvm_shared_") {
		t.Errorf("an outage of an hour is not told, or what nobody knows is:\n%s", text)
	}
	if strings.Contains(text, "hyper2kvm_jobs{") || strings.Contains(text, "hyper2kvm_vcenter_state{") {
		t.Error("there are numbers that nobody knows")
	}
}

// What else a store is, under names that are none of its methods.
type (
	members = jobs.Daemons
	shares  = limits.Store
	refused = limits.Refusals
)

func TestAnObservedStoreIsTheStoreItself(t *testing.T) {
	t.Parallel()
	m := metrics.New("1.2.3", nil)
	storetest.Suite{Open: func(_ *testing.T, wall func() time.Time) jobs.Store {
		s := memory.NewAt(wall)
		return struct {
			jobs.Store
			jobs.Secrets
			jobs.Pruner
			members
			jobs.Outages
			shares
			refused
		}{m.Store(s), s, s, s, s, s, s}
	}}.Run(t)
}

// broken is a store that cannot be used.
type broken struct{ jobs.Store }

func (broken) Check(context.Context) ([]string, error) {
	return nil, &jobs.StoreError{Trouble: jobs.TroubleFull, Err: errors.New("no space left")}
}

func (broken) Delete(context.Context, string) error { return jobs.ErrNotFound }

func TestFailuresOfTheStoreAreCountedAndAnswersAreNot(t *testing.T) {
	t.Parallel()
	m := metrics.New("1.2.3", nil)
	s := m.Store(broken{})
	_, _ = s.Check(t.Context())
	_ = s.Delete(t.Context(), "x")
	has(t, scrape(t, m),
		`hyper2kvm_store_errors_total{trouble="full"} 1`,
		`hyper2kvm_store_errors_total{trouble="other"} 0`,
		`hyper2kvm_store_operation_duration_seconds_count{operation="check"} 1`,
		`hyper2kvm_store_operation_duration_seconds_count{operation="delete"} 1`,
	)
}
