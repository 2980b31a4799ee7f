package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// twoDisks is what the fault tests export: dense enough that a fault at some
// MB is in the middle of the stream.
func twoDisks(t testing.TB) []string {
	return []string{
		rawDisk(t, 8*mib, extent{0, 4 * mib, false}, extent{7 * mib, mib, false}),
		rawDisk(t, 6*mib+512, extent{mib, 4 * mib, false}),
	}
}

// stalls makes the run notice soon that a transfer stalls, when the fault is
// one. Otherwise a busy machine must not look like a stall.
func (b *bench) stalls(fault string) {
	if strings.HasPrefix(fault, "stall") {
		b.m.StallTimeout = time.Second
	}
}

var everyFormat = []job.Format{job.FormatOVF, job.FormatRaw, job.FormatQcow2}

var bothProfiles = []vspheretest.Profile{vspheretest.Stream, vspheretest.Ranged}

// A fault that passes must end in identical disks, whatever the format and
// however the host serves them.
func TestAfterAPassingFaultTheDisksAreIdentical(t *testing.T) {
	t.Parallel()
	disks := twoDisks(t)
	for _, fault := range []string{
		"cut:at=3MB",
		"cut:at=3MB,times=3",
		"cut:at=0,times=2",
		"cut:at=3MB,disk=1,times=2",
		"status:code=503,times=3",
		"status:code=500,disk=1",
		"status:code=404,disk=0",
		"stall:at=3MB",
		"stall:at=0,disk=1",
		"truncate:at=3MB",
		"truncate:at=3MB,times=2",
		"corrupt:at=3MB,disk=0",
		"corrupt:at=40,disk=0",
		"empty:disk=1",
		"expire:at=3MB",
		"session:at=3MB",
		"session:at=3MB,keep=true",
	} {
		for _, profile := range bothProfiles {
			for _, format := range everyFormat {
				t.Run(fmt.Sprintf("%s %s %s", fault, profile, format), func(t *testing.T) {
					t.Parallel()
					b := newBench(t, vspheretest.Config{Profile: profile, Faults: []string{fault}}, disks...)
					b.stalls(fault)
					b.identical(b.export(b.job(format)))
					b.clean()
					if left := b.hidden(); left != nil {
						t.Errorf("the work directory is left with %v", left)
					}
				})
			}
		}
	}
}

// A fault that stays must end in an error with its reason, and nothing that
// looks finished; and once the fault is gone a second run must succeed.
func TestALastingFaultFailsWithItsReasonAndASecondRunSucceeds(t *testing.T) {
	t.Parallel()
	disks := twoDisks(t)
	for _, c := range []struct {
		fault string // "times" is filled in
		want  error
		text  string
	}{
		{"cut:at=3MB,disk=1", transfer.ErrExhausted, "guest1-disk-1"},
		{"status:code=503,disk=1", transfer.ErrExhausted, "503"},
		{"status:code=403,disk=1", nil, "403"},
		{"stall:at=3MB,disk=1", transfer.ErrStalled, "stalled"},
		{"truncate:at=3MB,disk=1", disk.ErrTruncated, "truncated"},
		{"corrupt:at=3MB,disk=1", nil, ""},
		{"empty:disk=1", migrate.ErrEmptyStream, "empty"},
		{"expire:at=3MB,disk=1", nil, "lease"},
	} {
		for _, profile := range bothProfiles {
			if profile == vspheretest.Ranged && strings.HasPrefix(c.fault, "truncate") {
				continue // a range that is too short is a cut
			}
			for _, format := range everyFormat {
				t.Run(fmt.Sprintf("%s %s %s", c.fault, profile, format), func(t *testing.T) {
					t.Parallel()
					b := newBench(t, vspheretest.Config{Profile: profile}, disks...)
					b.m.LeasePause = time.Millisecond
					b.m.Budget.Retries = 2
					b.stalls(c.fault)
					const strikes = 40
					if err := b.AddFault(fmt.Sprintf("%s,times=%d", c.fault, strikes)); err != nil {
						t.Fatal(err)
					}
					_, tracker, err := b.run(context.Background(), b.job(format))
					if err == nil {
						t.Fatalf("the export succeeded\n%s", events(tracker))
					}
					if c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
						t.Errorf("error %v; want %v with %q", err, c.want, c.text)
					}
					if names := b.visible(); len(names) > 0 {
						t.Errorf("files with final names: %v", names)
					}
					b.clean()
					b.ClearFaults()
					served := b.BytesServed("guest1", 0)
					result := b.export(b.job(format))
					b.identical(result)
					b.clean()
					if !slices.Contains([]string{"expire:at=3MB,disk=1"}, c.fault) && b.BytesServed("guest1", 0) != served && result.Disks[0].Resumed {
						t.Errorf("disk 0 says it was there already, yet %d bytes of it were served again", b.BytesServed("guest1", 0)-served)
					}
				})
			}
		}
	}
}
