package migrate_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestAHostCertificateThatIsRenewedInMidJobIsThatOfTheNewLease(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, rawDisk(t, 8*mib, extent{0, 6 * mib, false}))
	b.m.LeasePause = time.Millisecond
	b.OnByte("guest1", 0, mib, func() {
		if err := b.RenewHostCertificate(0); err != nil {
			t.Error(err)
		}
	})
	if err := b.AddFault("cut:at=3MB"); err != nil {
		t.Fatal(err)
	}
	result := b.export(b.job(job.FormatRaw))
	b.identical(result)
	b.clean()
}

func TestAHostThatNeverShowsTheCertificateOfItsLeaseIsNotTrusted(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, rawDisk(t, 8*mib, extent{0, 6 * mib, false}))
	b.m.LeasePause = time.Millisecond
	var leases atomic.Int64
	b.OnLease(func(e vspheretest.LeaseEvent) {
		if e.Kind != vspheretest.LeaseReady {
			return
		}
		leases.Add(1)
		if err := b.RenewHostCertificate(0); err != nil {
			t.Error(err)
		}
	})
	_, _, err := b.run(context.Background(), b.job(job.FormatRaw))
	if !errors.Is(err, vsphere.ErrThumbprint) || !migrate.Permanent(err) || !strings.Contains(err.Error(), "somebody may be listening in") {
		t.Errorf("error %v", err)
	}
	if n := leases.Load(); n != 2 {
		t.Errorf("%d leases, want one and another to be sure", n)
	}
	b.clean()
}
