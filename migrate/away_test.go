package migrate_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// outage is how long vCenter is away in these tests: long enough to be met,
// and nothing waits for its end but the run.
const outage = 500 * time.Millisecond

// In whatever a run is about to do, vCenter may go away for a while. It costs
// time, and not a byte.
func TestAnOutageOfVCenterCostsNoByteWhateverTheRunIsAboutToDo(t *testing.T) {
	t.Parallel()
	disks := twoDisks(t)
	for _, method := range []string{
		"RetrievePropertiesEx",
		"HttpNfcLeaseSetManifestChecksumType",
		"HttpNfcLeaseProgress",
		"HttpNfcLeaseGetManifest",
		"HttpNfcLeaseComplete",
		"CreateDescriptor",
	} {
		for _, how := range []vspheretest.Outage{vspheretest.Refuse, vspheretest.Unavailable} {
			t.Run(fmt.Sprint(method, " ", how), func(t *testing.T) {
				t.Parallel()
				b := newBench(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", EFI: true, NVRAM: []byte("nvram")}}}, disks...)
				var once sync.Once
				b.OnCall(method, func() {
					once.Do(func() { time.AfterFunc(outage, b.Down(vspheretest.Control, how)) })
				})
				result, tracker, err := b.run(t.Context(), b.job(job.FormatOVF))
				if err != nil {
					t.Fatalf("%v\n%s", err, events(tracker))
				}
				verified(t, result, "manifest")
				b.identical(result)
				b.clean()
				for i := range disks {
					if served, size := b.BytesServed("guest1", i), b.Stream("guest1", i).Size; served != size {
						t.Errorf("%d bytes were served of the stream of %d of disk %d\n%s", served, size, i, events(tracker))
					}
				}
			})
		}
	}
}

// An outage in the midst of the streams, of vCenter, of the hosts, or of both.
func TestAnOutageInTheMidstOfTheStreamsEndsInIdenticalDisks(t *testing.T) {
	t.Parallel()
	disks := twoDisks(t)
	for _, plane := range []vspheretest.Plane{vspheretest.Control, vspheretest.Hosts, vspheretest.Everything} {
		for _, profile := range bothProfiles {
			t.Run(fmt.Sprint(plane, " ", profile), func(t *testing.T) {
				t.Parallel()
				b := newBench(t, vspheretest.Config{Profile: profile}, disks...)
				b.m.Budget.Retries = 1000 // of a few milliseconds each
				b.addFault(fmt.Sprintf("down:at=2MB,disk=0,for=%s,plane=%s", outage, plane))
				result, tracker, err := b.run(t.Context(), b.job(job.FormatQcow2))
				if err != nil {
					t.Fatalf("%v\n%s", err, events(tracker))
				}
				verified(t, result, "manifest")
				b.identical(result)
				b.clean()
			})
		}
	}
}

// A VM whose disks were all here when vCenter went away for good is completed by
// the next run without a byte of them.
func TestARunThatGivesUpOnVCenterKeepsEveryDiskThatIsHere(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{LeaseTimeout: 4 * time.Second}, rawDisk(t, 8*mib, extent{0, 4 * mib, false}))
	b.m.LeasePause = time.Millisecond
	size := b.Stream("guest1", 0).Size
	var up func()
	b.OnByte("guest1", 0, size-1, func() { up = b.Down(vspheretest.Control, vspheretest.Refuse) })
	b.impatient()
	_, tracker, err := b.run(t.Context(), b.job(job.FormatRaw))
	if err == nil {
		t.Fatal("the run succeeded without vCenter")
	}
	if text := events(tracker); !strings.Contains(text, "kept for the next run: 1 disk(s) complete") {
		t.Fatalf("nothing says that the disk is kept:\n%s", text)
	}
	up()
	result := b.export(b.job(job.FormatRaw))
	verified(t, result, "grain-checksums")
	b.identical(result)
	if served := b.BytesServed("guest1", 0); served != size {
		t.Errorf("%d bytes were served of a stream of %d", served, size)
	}
}
