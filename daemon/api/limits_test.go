package api_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/limits"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/units"
)

func (d *daemon) put(path, body string) answer {
	d.t.Helper()
	return d.do("PUT", path, "application/json", body)
}

func TestTheBandwidthOfAllJobsIsShownAndChangedAtOnce(t *testing.T) {
	t.Parallel()
	bandwidth := transfer.NewLimiter(200_000_000, nil)
	d := start(t, api.Options{Bandwidth: bandwidth})
	if l := decode[models.Limits](t, d.get("/limits")); l.Limit != "200MB/s" || l.BytesPerSecond != 200_000_000 {
		t.Errorf("limits %+v", l)
	}
	for _, c := range []struct {
		limit, shown string
		want         int64
	}{{"25MiB/s", "25MiB/s", 25 << 20}, {"1Gbit/s", "125MB/s", 125_000_000}, {"none", "none", 0}} {
		l := decode[models.Limits](t, d.put("/limits", `{"limit":"`+c.limit+`"}`))
		if l.Limit != c.shown || l.BytesPerSecond != c.want || bandwidth.Limit() != c.want {
			t.Errorf("%s gives %+v, and a limiter of %d", c.limit, l, bandwidth.Limit())
		}
	}
}

func TestALimitThatIsNoRateIsRefusedWithoutAnEcho(t *testing.T) {
	t.Parallel()
	bandwidth := transfer.NewLimiter(1000, nil)
	d := start(t, api.Options{Bandwidth: bandwidth})
	id := d.running("/dc/vm/held")
	for _, path := range []string{"/limits", "/jobs/" + id + "/limit"} {
		for body, status := range map[string]int{
			`{"limit":"hunter2"}`: http.StatusUnprocessableEntity,
			`{"limit":"-5MB/s"}`:  http.StatusUnprocessableEntity,
			`{}`:                  http.StatusUnprocessableEntity,
			`{"rate":"1MB/s"}`:    http.StatusBadRequest,
			`{"limit":5}`:         http.StatusBadRequest,
		} {
			a := d.put(path, body)
			if a.status != status || strings.Contains(a.body, "hunter2") {
				t.Errorf("PUT %s %s: %d, want %d: %s", path, body, a.status, status, a.body)
			}
		}
	}
	if bandwidth.Limit() != 1000 {
		t.Errorf("the limit is %d now", bandwidth.Limit())
	}
}

func TestAJobsBandwidthChangesWhileItRunsAndIsKept(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	id := d.running("/dc/vm/held")
	j := decode[models.Job](t, d.put("/jobs/"+id+"/limit", `{"limit":"50 MB/s"}`))
	if j.Definition.Options.Limit != "50MB/s" || j.Status != models.StatusRunning {
		t.Errorf("answer %+v", j)
	}
	if n, ok := d.Throttle.Of(id); !ok || n != 50_000_000 {
		t.Errorf("the run was told %d, %v", n, ok)
	}
	if j := decode[models.Job](t, d.get("/jobs/"+id)); j.Definition.Options.Limit != "50MB/s" {
		t.Errorf("kept limit %q", j.Definition.Options.Limit)
	}
	d.finish("/dc/vm/held", id, nil)
	if a := d.put("/jobs/"+id+"/limit", `{"limit":"1MB/s"}`); a.status != http.StatusConflict {
		t.Errorf("of a job that has ended: %d", a.status)
	}
	if a := d.put("/jobs/none/limit", `{"limit":"1MB/s"}`); a.status != http.StatusNotFound {
		t.Errorf("of no job: %d", a.status)
	}
}

func TestTheClientChangesLimits(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{Bandwidth: transfer.NewLimiter(0, nil)})
	c, err := client.New(d.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if l, err := c.Limits(t.Context()); err != nil || l.Limit != units.NoLimit {
		t.Errorf("limits %+v, %v", l, err)
	}
	if l, err := c.SetLimit(t.Context(), "3GB/s"); err != nil || l.Limit != "3GB/s" {
		t.Errorf("limits %+v, %v", l, err)
	}
	if _, err := c.SetLimit(t.Context(), "fast"); !errors.Is(err, client.ErrRejected) {
		t.Errorf("no rate: %v", err)
	}
	id := d.running("/dc/vm/held")
	if j, err := c.SetJobLimit(t.Context(), id, "7MB/s"); err != nil || j.Definition.Options.Limit != "7MB/s" {
		t.Errorf("job %+v, %v", j, err)
	}
	if _, err := c.SetJobLimit(t.Context(), "none", "7MB/s"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("no job: %v", err)
	}
}

func TestADaemonWithoutABandwidthSaysSo(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	if a := d.get("/limits"); a.status != http.StatusNotImplemented {
		t.Errorf("status %d", a.status)
	}
}

// sharing is a limit that a daemon shares with others.
type sharing struct {
	limit atomic.Int64
	fails error
}

func (s *sharing) Limit() int64 { return s.limit.Load() }

func (s *sharing) SetLimit(_ context.Context, n int64) error {
	if s.fails == nil {
		s.limit.Store(n)
	}
	return s.fails
}

func (s *sharing) Holdings(context.Context) ([]limits.Holding, error) {
	return []limits.Holding{{Name: "disks of vCenter vc", Owner: "another daemon", Limit: 32, Held: 3, Waiting: 1}}, s.fails
}

func TestTheBandwidthOfSeveralDaemonsIsShownWithWhatEachHas(t *testing.T) {
	t.Parallel()
	shared, own := &sharing{}, transfer.NewLimiter(5, nil)
	d := start(t, api.Options{Shares: shared, Bandwidth: own})
	l := decode[models.Limits](t, d.put("/limits", `{"limit":"2MB/s"}`))
	want := models.Share{Name: "disks of vCenter vc", Limit: 32, Daemon: "another daemon", Held: 3, Waiting: 1}
	if l.Limit != "2MB/s" || !l.Shared || len(l.Shares) != 1 || l.Shares[0] != want {
		t.Errorf("limits %+v", l)
	}
	if shared.limit.Load() != 2_000_000 || own.Limit() != 5 {
		t.Errorf("the shared limit is %d, the daemon's own %d", shared.limit.Load(), own.Limit())
	}
}

func TestALimitThatTheOtherDaemonsCannotBeToldIsNotChanged(t *testing.T) {
	t.Parallel()
	shared := &sharing{fails: &jobs.StoreError{Trouble: jobs.TroubleAway, Err: errors.New("the database is away")}}
	d := start(t, api.Options{Shares: shared})
	for _, a := range []answer{d.put("/limits", `{"limit":"2MB/s"}`), d.get("/limits")} {
		if a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "away") {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if shared.limit.Load() != 0 {
		t.Error("the limit is another")
	}
}
