package migrate_test

import (
	"context"
	"errors"
	"fmt"
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

// Each time the new lease tells the new one, and bytes come under it.
func TestAHostCertificateMayBeRenewedOftenInOneJob(t *testing.T) {
	t.Parallel()
	for _, profile := range []vspheretest.Profile{vspheretest.Stream, vspheretest.Ranged} {
		t.Run(string(profile), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, vspheretest.Config{Profile: profile}, rawDisk(t, 8*mib, extent{0, 6 * mib, false}))
			b.m.LeasePause = time.Millisecond
			for n := range int64(4) {
				b.OnByte("guest1", 0, (n+1)*mib, func() {
					if err := b.RenewHostCertificate(0); err != nil {
						t.Error(err)
					}
				})
				if err := b.AddFault(fmt.Sprintf("cut:at=%d", (n+1)*mib+mib/2)); err != nil {
					t.Fatal(err)
				}
			}
			def := b.job(job.FormatRaw)
			def.Options.ParallelDownloads = 1
			b.identical(b.export(def))
			b.clean()
		})
	}
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
