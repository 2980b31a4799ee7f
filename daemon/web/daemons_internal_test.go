package web

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

func TestSharesNameTheHostsOfDaemonsAndTheirUnits(t *testing.T) {
	t.Parallel()
	got := shareRows([]models.Share{
		{Name: "bandwidth", Limit: 0, Daemon: "1", Held: 0},
		{Name: "bandwidth of site dc1", Limit: 1_000_000, Daemon: "2", Held: 1 << 19},
		{Name: "disks of vCenter vc", Limit: 32, Daemon: "1", Held: 3, Waiting: 1},
	}, []models.Daemon{{ID: "1", Host: "mover-1"}})
	want := []shareRow{
		{Limit: "bandwidth", Of: "no limit", Daemon: "1", Host: "mover-1", Held: "any"},
		{Limit: "bandwidth of site dc1", Of: "1MB/s", Daemon: "2", Held: "512.0 KiB/s"},
		{Limit: "disks of vCenter vc", Of: "32", Daemon: "1", Host: "mover-1", Held: "3", Waiting: 1},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestAJobsPageSaysHowManyFilesAreNotShown(t *testing.T) {
	t.Parallel()
	d := jobDataOf(models.Job{Status: models.StatusRunning}, nil, []models.FileProgress{{Name: "disk-0.qcow2", State: "active", Total: 100, Bytes: 42, PercentComplete: 42}}, time.Now())
	d.Unlisted = 7
	parts, err := loadViews(loadAssets()).parts("job.html", d, "job-disks")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"disk-0.qcow2", "42.0 %", "and 7 more"} {
		if page := string(parts[0].HTML); !strings.Contains(page, want) {
			t.Errorf("the page lacks %q: %s", want, page)
		}
	}
}
