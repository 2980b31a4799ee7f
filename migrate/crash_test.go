package migrate_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// busyVM is a bench whose VM is held by a lease that nobody renews, and the
// export of it.
func busyVM(t *testing.T) (*bench, models.JobDefinition) {
	t.Helper()
	b := newBench(t, vspheretest.Config{LeaseTimeout: time.Second}, rawDisk(t, mib, extent{0, mib, true}))
	b.m.LeasePause = time.Millisecond
	ctx := context.Background()
	c, err := vsphere.Dial(ctx, b.config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(ctx) })
	vm, err := c.Find(ctx, "guest1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.OpenLease(ctx, vsphere.Target{VM: vm}); err != nil {
		t.Fatal(err)
	}
	return b, b.job(models.FormatRaw)
}

// A process that dies while it opens a lease has written down that it was about
// to, and nothing else.
func TestALeaseThatADeadRunNeverHeardOfIsWaitedFor(t *testing.T) {
	t.Parallel()
	b, def := busyVM(t)
	work := filepath.Join(b.out, ".hyper2kvm-guest1")
	if err := os.MkdirAll(work, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(work, "ledger.json"), []byte(`{"version":1,"opening":true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	b.identical(b.export(def))
	if l := b.Leases(); len(l) > 0 {
		t.Errorf("leases are left open: %+v", l)
	}
}

func TestAVMThatSomebodyElseExportsIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	b, def := busyVM(t)
	if _, _, err := b.run(context.Background(), def); !errors.Is(err, vsphere.ErrBusy) {
		t.Errorf("error %v", err)
	}
}
