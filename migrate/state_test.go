package migrate_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// anotherState gives the VM other disks as soon as a lease on it ends, once, and
// the bench its new state.
func (b *bench) anotherState(disks ...string) {
	var once sync.Once
	b.OnLease(func(e vspheretest.LeaseEvent) {
		switch e.Kind {
		case vspheretest.LeaseCompleted, vspheretest.LeaseAborted, vspheretest.LeaseExpired, vspheretest.LeaseDropped:
			once.Do(func() {
				for i, d := range disks {
					if err := b.SetDisk("guest1", i, d); err != nil {
						b.t.Error(err)
					}
				}
				b.raw = disks
			})
		}
	})
}

// changed tells whether the result says that the VM was changed.
func changed(result job.Result) bool {
	return strings.Contains(strings.Join(result.Notes, "\n"), "so that all are of one state")
}

func TestDisksOfTwoStatesOfAVMAreNeverOneExport(t *testing.T) {
	t.Parallel()
	before := twoDisks(t)
	after := []string{
		rawDisk(t, 8*mib, extent{2 * mib, 5 * mib, false}),
		rawDisk(t, 6*mib+512, extent{0, 5 * mib, false}),
	}
	for name, c := range map[string]struct {
		profile vspheretest.Profile
		faults  []string
	}{
		"a lease is lost":                     {vspheretest.Stream, []string{"expire:at=2MB,disk=1", "touch:"}},
		"a lease is lost, the host has range": {vspheretest.Ranged, []string{"expire:at=2MB,disk=1", "touch:"}},
		"the session is lost":                 {vspheretest.Stream, []string{"session:at=2MB,disk=1", "touch:"}},
		"each disk has its lease":             {vspheretest.VSAN, []string{"touch:"}},
	} {
		for _, format := range everyFormat {
			t.Run(name+", "+string(format), func(t *testing.T) {
				t.Parallel()
				nvram := []byte(strings.Repeat("nvram", 100))
				cfg := vspheretest.Config{Profile: c.profile, Faults: c.faults, VMs: []vspheretest.VM{{Name: "guest1", EFI: true, NVRAM: nvram}}}
				b := newBench(t, cfg, before...)
				b.m.LeasePause = time.Millisecond
				b.anotherState(after...)
				def := b.job(format)
				def.Options.ParallelDownloads = 1 // the first disk is finished when the second begins
				result := b.export(def)
				if b.raw[0] != after[0] {
					t.Fatal("the VM was not changed")
				}
				if !changed(result) {
					t.Errorf("the result does not say that the VM was changed:\n%s", strings.Join(result.Notes, "\n"))
				}
				b.identical(result)
				b.clean()
			})
		}
	}
}

// The lease ends when the disk is here and its manifest was not read: the disk
// may be of a state that is gone.
func TestADiskWhoseLeaseWasLostIsNotKeptWhenTheVMHasChangedSince(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{Faults: []string{"manifest:late=1h", "touch:"}}, rawDisk(t, 8*mib, extent{0, 4 * mib, false}))
	b.m.LeasePause = time.Millisecond
	next := rawDisk(t, 8*mib, extent{3 * mib, 4 * mib, false})
	var once sync.Once
	b.OnCall("HttpNfcLeaseGetManifest", func() { // the disk is here, and waits for its manifest
		once.Do(func() {
			if err := b.SetDisk("guest1", 0, next); err != nil {
				t.Error(err)
			}
			b.raw = []string{next}
			go b.ExpireLeases()
		})
	})
	result := b.export(b.job(job.FormatRaw))
	verified(t, result, "manifest")
	b.identical(result)
	b.clean()
}

func TestAVMThatKeepsChangingFailsWithThatReason(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"touch:times=always", "touch:on=open,times=always"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, vspheretest.Config{Profile: vspheretest.VSAN, Faults: []string{fault}}, twoDisks(t)...)
			b.m.LeasePause = time.Millisecond
			_, tracker, err := b.run(t.Context(), b.job(job.FormatRaw))
			if !errors.Is(err, migrate.ErrChanging) || migrate.Hint(err) == "" {
				t.Errorf("error %v\n%s", err, events(tracker))
			}
			if names := b.visible(); len(names) > 0 {
				t.Errorf("files with final names: %v", names)
			}
			b.clean()
			b.ClearFaults()
			b.identical(b.export(b.job(job.FormatRaw)))
			b.clean()
		})
	}
}

// What is changed before anything was fetched, and while one lease is held, mixes
// nothing.
func TestAVMThatChangesUnderItsOnlyLeaseIsExportedOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{Faults: []string{"touch:on=open,times=always"}}, twoDisks(t)...)
	b.OnByte("guest1", 0, 2*mib, func() { b.Touch("guest1") })
	result := b.export(b.job(job.FormatQcow2))
	if changed(result) {
		t.Errorf("it is said to have been fetched again:\n%s", strings.Join(result.Notes, "\n"))
	}
	b.identical(result)
	b.clean()
	if served, size := b.BytesServed("guest1", 0), b.Stream("guest1", 0).Size; served != size {
		t.Errorf("%d bytes were served of a stream of %d", served, size)
	}
}

// The disks of a running VM come of a snapshot, which does not change with it.
func TestChangesOfARunningVMDoNotTouchTheExportOfItsSnapshot(t *testing.T) {
	t.Parallel()
	cfg := vspheretest.Config{Profile: vspheretest.VSAN, Faults: []string{"touch:times=always"}, VMs: []vspheretest.VM{{Name: "guest1", PoweredOn: true}}}
	b := newBench(t, cfg, twoDisks(t)...)
	def := b.job(job.FormatRaw)
	def.Options.Snapshot = true
	result := b.export(def)
	if changed(result) {
		t.Errorf("it is said to have been fetched again:\n%s", strings.Join(result.Notes, "\n"))
	}
	b.identical(result)
	b.clean()
}

// Taking the drives out is a change of our own.
func TestTakingTheDrivesOutIsNotTakenForAChangeBySomebodyElse(t *testing.T) {
	t.Parallel()
	cfg := vspheretest.Config{Profile: vspheretest.VSAN, VMs: []vspheretest.VM{{Name: "guest1", ISO: []byte("an ISO image")}}}
	b := newBench(t, cfg, twoDisks(t)...)
	def := b.job(job.FormatOVF)
	def.Options.RemoveCDROM = true
	result := b.export(def)
	if changed(result) {
		t.Errorf("the VM is said to have changed:\n%s", strings.Join(result.Notes, "\n"))
	}
	b.identical(result)
	b.clean()
}

// The lease ends when everything was read, and nobody has noticed yet.
func TestALeaseThatHadEndedBeforeItWasCompletedVouchesForNoState(t *testing.T) {
	t.Parallel()
	for _, way := range []job.Transport{job.TransportNFC, job.TransportDatastore} {
		t.Run(string(way), func(t *testing.T) {
			t.Parallel()
			b := newFlatBench(t, vspheretest.Config{Faults: []string{"touch:"}}, twoDisks(t)...)
			b.m.LeasePause = time.Millisecond
			b.anotherState(
				rawDisk(t, 8*mib, extent{2 * mib, 5 * mib, false}),
				rawDisk(t, 6*mib+512, extent{0, 5 * mib, false}),
			)
			var once sync.Once
			b.OnCall("HttpNfcLeaseComplete", func() { once.Do(b.ExpireLeases) })
			result := b.export(b.by(way, job.FormatRaw))
			if !changed(result) {
				t.Errorf("the result does not say that the VM was changed:\n%s", strings.Join(result.Notes, "\n"))
			}
			b.identical(result)
			b.clean()
		})
	}
}
