package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// batch is how many VMs are exported in one call.
const batch = 201

func TestABatchOf201VMsInOneCallIsExported(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	source := rawDisk(t, mib, 64<<10, 6)
	var cfg vspheretest.Config
	for i := range batch {
		cfg.VMs = append(cfg.VMs, vspheretest.VM{Name: fmt.Sprintf("vm%03d", i), Disks: []vspheretest.Disk{{Path: source}}})
	}
	lab := startLab(t, cfg)
	h := newHome(t, lab, "-jobs", "16")
	d := h.start()
	jobs := func(out string) []job.Definition {
		var defs []job.Definition
		for _, vm := range cfg.VMs {
			defs = append(defs, job.Definition{
				ID: out + "-" + vm.Name, VMPath: lab.InventoryPath(vm.Name), OutputPath: filepath.Join(h.out(out), vm.Name),
				Options: job.Options{Format: job.FormatRaw},
			})
		}
		return defs
	}
	bad := job.Definition{VMPath: "/a", OutputPath: "relative"}

	r, err := d.Submit(t.Context(), append(jobs("all"), bad), true)
	if !errors.Is(err, client.ErrRejected) || r.Accepted != 0 || r.Rejected != batch+1 {
		t.Fatalf("all or none, with one that is bad: %d accepted, %d rejected, %v", r.Accepted, r.Rejected, err)
	}
	if s, err := d.Status(t.Context()); err != nil || s.TotalJobs != 0 {
		t.Fatalf("after a batch that was refused: %+v, %v", s, err)
	}
	for _, tt := range []struct {
		name   string
		defs   []job.Definition
		atomic bool
	}{
		{"all", jobs("all"), true},
		{"each", append(jobs("each"), bad), false},
	} {
		began := time.Now()
		r, err := d.Submit(t.Context(), tt.defs, tt.atomic)
		if err != nil || r.Accepted != batch || r.Rejected != len(tt.defs)-batch {
			t.Fatalf("%s: %d accepted, %d rejected, %v", tt.name, r.Accepted, r.Rejected, err)
		}
		submitted := time.Since(began)
		d.released(t, batch, models.StatusCompleted)
		t.Logf("%s: submitted in %v, all completed after %v", tt.name, submitted.Round(time.Millisecond), time.Since(began).Round(10*time.Millisecond))
		for _, def := range tt.defs[:batch] {
			if _, err := os.Stat(filepath.Join(def.OutputPath, filepath.Base(def.VMPath)+"-disk-0.raw")); err != nil {
				t.Error(err)
			}
		}
		j, err := d.Job(t.Context(), tt.defs[batch/2].ID)
		if err != nil {
			t.Fatal(err)
		}
		identical(t, j, source)
	}
	s, err := d.Status(t.Context())
	if err != nil || s.CompletedJobs != 2*batch || s.TotalJobs != 2*batch {
		t.Errorf("at the end: %+v, %v", s, err)
	}
	nothingIsLeft(t, lab)
}
