package migrate_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// kept are the ways in which an image is kept: grains are inflated on the way
// into the first two, and stored as they come into the others.
var kept = []struct {
	name     string
	format   job.Format
	compress bool
}{
	{"raw", job.FormatRaw, false},
	{"qcow2", job.FormatQcow2, false},
	{"compressed qcow2", job.FormatQcow2, true},
	{"ovf", job.FormatOVF, false},
}

// verified checks by what each disk of result was verified.
func verified(t *testing.T, result job.Result, want job.Verification) {
	t.Helper()
	for _, d := range result.Disks {
		if d.Verified != want {
			t.Errorf("%s is verified by %q, want %q", filepath.Base(d.File), d.Verified, want)
		}
	}
}

func TestADiskThatTheManifestListsLateIsComparedWithItAllTheSame(t *testing.T) {
	t.Parallel()
	disk := rawDisk(t, 8*mib, extent{0, 4 * mib, false})
	for _, k := range kept {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			// Byte 50 is in the header, in a field that a reader of streams has no use
			// for: nothing but the manifest tells that it is flipped.
			b := newBench(t, vspheretest.Config{Faults: []string{"manifest:late=1s,times=always", "corrupt:at=50"}}, disk)
			b.m.LeasePause = time.Millisecond
			def := b.job(k.format)
			def.Options.Compress = k.compress
			result, tracker, err := b.run(t.Context(), def)
			if err != nil {
				t.Fatalf("%v\n%s", err, events(tracker))
			}
			verified(t, result, "manifest")
			b.identical(result)
			b.clean()
			if n := b.Struck()["corrupt"]; n != 1 {
				t.Fatalf("a byte was flipped %d times", n)
			}
			if !strings.Contains(events(tracker), "the host says it sent") {
				t.Errorf("the flipped byte is not reported:\n%s", events(tracker))
			}
		})
	}
}

// Only a host without the call has no manifest. One that fails to give it is asked
// again, and what it could not give is not taken for a host's habit.
func TestAFaultAtTheManifestIsNoReasonToDoWithoutIt(t *testing.T) {
	t.Parallel()
	disk := rawDisk(t, 8*mib, extent{0, 4 * mib, false})
	for times, want := range map[string]job.Verification{"3": "manifest", "always": "grain-checksums"} {
		t.Run(times, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, vspheretest.Config{Faults: []string{
				"fault:call=HttpNfcLeaseGetManifest,fault=SystemError,times=" + times,
			}}, disk)
			b.m.LeasePause = time.Millisecond
			if want != "manifest" {
				b.m.ManifestPatience = 500 * time.Millisecond
			}
			result := b.export(b.job(job.FormatQcow2))
			verified(t, result, want)
			b.identical(result)
			b.clean()
		})
	}
}

func TestAnNVRAMThatNoManifestListsIsSaidToBeVerifiedByItsSize(t *testing.T) {
	t.Parallel()
	cfg := vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", EFI: true, NVRAM: []byte(strings.Repeat("nvram", 1000))}}}
	b := newBench(t, cfg, rawDisk(t, mib, extent{0, mib, false}))
	b.addFault("fault:call=HttpNfcLeaseGetManifest,fault=NotSupported,times=always")
	result := b.export(b.job(job.FormatOVF))
	if notes := strings.Join(result.Notes, "\n"); !strings.Contains(notes, "nvram was verified by its size alone") {
		t.Errorf("nothing says that the NVRAM has no checksum:\n%s", notes)
	}
}

// An outage while the manifest is to be read costs no byte of the disk.
func TestADiskIsNotFetchedAgainBecauseVCenterWasAwayWhenItsManifestWasToBeRead(t *testing.T) {
	t.Parallel()
	disk := rawDisk(t, 8*mib, extent{0, 4 * mib, false})
	for _, k := range kept {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, vspheretest.Config{}, disk)
			size := b.Stream("guest1", 0).Size
			b.OnByte("guest1", 0, size-1, func() {
				time.AfterFunc(outage, b.Down(vspheretest.Control, vspheretest.Refuse))
			})
			def := b.job(k.format)
			def.Options.Compress = k.compress
			result := b.export(def)
			verified(t, result, "manifest")
			b.identical(result)
			b.clean()
			if served := b.BytesServed("guest1", 0); served != size {
				t.Errorf("%d bytes were served of a stream of %d", served, size)
			}
		})
	}
}

// The lease ends with its session in the moment in which the disk is complete:
// its manifest is gone for good.
func TestADiskWhoseManifestIsLostWithItsLeaseIsKeptForItsGrains(t *testing.T) {
	t.Parallel()
	disk := rawDisk(t, 8*mib, extent{0, 4 * mib, false})
	for _, end := range []string{"expire", "session"} {
		for _, k := range kept {
			t.Run(end+" "+k.name, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, vspheretest.Config{Faults: []string{"manifest:late=1h,times=always"}}, disk)
				b.m.LeasePause = time.Millisecond
				b.loseLeaseAtManifest(end)
				def := b.job(k.format)
				def.Options.Compress = k.compress
				result := b.export(def)
				verified(t, result, "grain-checksums")
				if notes := strings.Join(result.Notes, "\n"); !strings.Contains(notes, "guest1-disk-0") || !strings.Contains(notes, "-verify manifest") {
					t.Errorf("the result does not say by what the disk was verified:\n%s", notes)
				}
				b.identical(result)
				b.clean()
				if served, size := b.BytesServed("guest1", 0), b.Stream("guest1", 0).Size; served != size {
					t.Errorf("%d bytes were served of a stream of %d", served, size)
				}
			})
		}
	}
}

// loseLeaseAtManifest ends the lease once its manifest was asked for.
func (b *bench) loseLeaseAtManifest(how string) {
	var asked atomic.Int64
	b.OnCall("HttpNfcLeaseGetManifest", func() {
		if asked.Add(1) != 2 {
			return
		}
		if how == "session" {
			go b.EndSessions()
			return
		}
		go b.ExpireLeases()
	})
}

// With -verify manifest such a disk is fetched again, under a lease whose manifest
// can be read.
func TestWithVerifyManifestADiskWhoseManifestIsLostIsFetchedAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, rawDisk(t, 8*mib, extent{0, 4 * mib, false}))
	b.m.LeasePause = time.Millisecond
	b.addFault("manifest:late=1h")
	b.loseLeaseAtManifest("expire")
	def := b.job(job.FormatRaw)
	def.Options.Verify = job.VerifyManifest
	result := b.export(def)
	verified(t, result, "manifest")
	b.identical(result)
	b.clean()
}

func TestWithVerifyManifestAHostWithoutOneIsRefusedBeforeAByteMoves(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{Faults: []string{"fault:call=HttpNfcLeaseGetManifest,fault=NotSupported,times=always"}},
		rawDisk(t, 8*mib, extent{0, 4 * mib, false}))
	def := b.job(job.FormatRaw)
	def.Options.Verify = job.VerifyManifest
	_, _, err := b.run(t.Context(), def)
	if !migrate.Permanent(err) || !strings.Contains(migrate.Hint(err), "-verify manifest") {
		t.Errorf("error %v, hint %q", err, migrate.Hint(err))
	}
	if n := b.BytesServed("guest1", 0); n != 0 {
		t.Errorf("%d bytes were served", n)
	}
	b.clean()
}

// Where no manifest vouches for a stream, what is stored without being inflated
// is inflated afterwards, so that a damaged grain does not become a disk.
func TestADamagedGrainThatNoManifestTellsOfIsNoticed(t *testing.T) {
	t.Parallel()
	disk := rawDisk(t, 8*mib, extent{0, 4 * mib, false})
	for _, k := range kept {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, vspheretest.Config{Faults: []string{
				"fault:call=HttpNfcLeaseGetManifest,fault=NotSupported,times=always", "corrupt:at=2MB",
			}}, disk)
			b.m.LeasePause = time.Millisecond
			def := b.job(k.format)
			def.Options.Compress = k.compress
			result := b.export(def)
			verified(t, result, "end-of-stream")
			b.identical(result)
			b.clean()
			if n := b.Struck()["corrupt"]; n != 1 {
				t.Errorf("a byte was flipped %d times", n)
			}
		})
	}
}

// A process that dies while it waits for the manifest leaves a disk that the next
// one need not fetch.
func TestADiskThatWaitsForItsManifestSurvivesTheProcess(t *testing.T) {
	t.Parallel()
	disk := rawDisk(t, 8*mib, extent{0, 4 * mib, false})
	for _, k := range kept {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, vspheretest.Config{Faults: []string{"manifest:late=1h,times=always"}}, disk)
			def := b.job(k.format)
			def.Options.Compress = k.compress
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			var asked atomic.Int64
			b.OnCall("HttpNfcLeaseGetManifest", func() {
				if asked.Add(1) == 2 {
					cancel(job.Cancelled{KeepParts: true})
				}
			})
			if _, tracker, err := b.run(ctx, def); err == nil {
				t.Fatalf("the run succeeded\n%s", events(tracker))
			}
			b.ClearFaults()
			result := b.export(def)
			verified(t, result, "grain-checksums")
			if !result.Disks[0].Resumed || result.Disks[0].Transferred != 0 {
				t.Errorf("the disk was fetched again: %+v", result.Disks[0])
			}
			b.identical(result)
			b.clean()
		})
	}
}

func TestOneDiskOfThreeThatIsNeverListedDoesNotSpoilTheOthers(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{Faults: []string{"manifest:late=1h,disk=1,times=always"}},
		rawDisk(t, mib, extent{0, mib, false}), rawDisk(t, 2*mib, extent{0, mib, false}), rawDisk(t, 3*mib, extent{0, mib, false}))
	b.m.ManifestPatience = 10 * time.Millisecond
	result := b.export(b.job(job.FormatQcow2))
	for i, want := range []job.Verification{"manifest", "end-of-stream", "manifest"} {
		if got := result.Disks[i].Verified; got != want {
			t.Errorf("disk %d is verified by %q, want %q", i, got, want)
		}
	}
	b.identical(result)
	b.clean()
}

// Whoever looks sees that it is the manifest that is waited for.
func TestWaitingForTheManifestIsShown(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{Faults: []string{"manifest:late=1h,times=always"}}, rawDisk(t, mib, extent{0, mib, false}))
	tracker := progress.New()
	done := make(chan error, 1)
	go func() {
		_, err := b.m.Run(context.Background(), b.job(job.FormatRaw), tracker)
		done <- err
	}()
	for !strings.Contains(tracker.Snapshot().Activity, "waiting for the host's manifest") {
		select {
		case <-tracker.Changed():
		case err := <-done:
			t.Fatalf("the run ended without a word: %v\n%s", err, events(tracker))
		}
	}
	b.ClearFaults()
	b.ExpireLeases()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if a := tracker.Snapshot().Activity; a != "" {
		t.Errorf("it is still said to do %q", a)
	}
}

func TestAnOutageWhileDescribingCostsNoDisk(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, twoDisks(t)...)
	b.addFault("fault:call=CreateDescriptor,fault=SystemError")
	if _, _, err := b.run(t.Context(), b.job(job.FormatOVF)); err == nil {
		t.Fatal("the run succeeded")
	}
	before := b.BytesServed("guest1", 0) + b.BytesServed("guest1", 1)
	result := b.export(b.job(job.FormatOVF))
	if n := b.BytesServed("guest1", 0) + b.BytesServed("guest1", 1) - before; n != 0 {
		t.Errorf("%d bytes were served again", n)
	}
	b.identical(result)
	b.clean()
	if _, err := os.Stat(result.OVFPath); err != nil {
		t.Error(err)
	}
}

// impatient makes the run give up on a call that is not answered within a second.
func (b *bench) impatient() {
	b.m.Endpoint = func(job.Definition) (vsphere.Config, error) {
		cfg := b.config()
		cfg.Timeouts.Lease, cfg.Outage = 500*time.Millisecond, time.Second
		return cfg, nil
	}
}

// vCenter answers everything but the one call. The lease would be renewed for
// ever meanwhile.
func TestAManifestThatIsNeverAnsweredIsNotWaitedForWithoutEnd(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{LeaseTimeout: 4 * time.Second, Faults: []string{"hang:call=HttpNfcLeaseGetManifest,times=always"}},
		rawDisk(t, 8*mib, extent{0, 4 * mib, false}))
	b.impatient()
	result := b.export(b.job(job.FormatOVF))
	verified(t, result, "grain-checksums")
	b.identical(result)
	b.clean()
}

func TestWithVerifyManifestADiskThatIsNeverListedFailsAfterASecondTry(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{NoManifest: true}, rawDisk(t, mib, extent{0, mib, false}))
	b.m.LeasePause, b.m.ManifestPatience = time.Millisecond, 10*time.Millisecond
	def := b.job(job.FormatQcow2)
	def.Options.Verify = job.VerifyManifest
	_, _, err := b.run(t.Context(), def)
	if !errors.Is(err, migrate.ErrVerify) || !strings.Contains(migrate.Hint(err), "-verify manifest") {
		t.Errorf("error %v, hint %q", err, migrate.Hint(err))
	}
	if served, size := b.BytesServed("guest1", 0), b.Stream("guest1", 0).Size; served != 2*size {
		t.Errorf("%d bytes were served of a stream of %d", served, size)
	}
	b.clean()
	def.Options.Verify = "" // a person follows the hint: the disk is here
	verified(t, b.export(def), "grain-checksums")
	if served, size := b.BytesServed("guest1", 0), b.Stream("guest1", 0).Size; served != 2*size {
		t.Errorf("%d bytes were served of a stream of %d, after a run that needed none", served, size)
	}
}

// What an earlier run took for verified may not be enough for this one.
func TestADiskThatAnEarlierRunVerifiedByItsGrainsIsFetchedAgainWhereAManifestIsWanted(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{Faults: []string{"fault:call=HttpNfcLeaseGetManifest,fault=NotSupported,times=always"}}, twoDisks(t)...)
	def := b.job(job.FormatRaw)
	def.Options.ParallelDownloads = 1
	b.cancelAt(def, 1, 2*mib, job.Cancelled{KeepParts: true})
	b.ClearFaults()
	def.Options.Verify = job.VerifyManifest
	result := b.export(def)
	verified(t, result, "manifest")
	b.identical(result)
}

func TestADiskThatAnEarlierRunVerifiedInAWayUnknownHereIsFetchedAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, twoDisks(t)...)
	def := b.job(job.FormatRaw)
	def.Options.ParallelDownloads = 1
	b.cancelAt(def, 1, 2*mib, job.Cancelled{KeepParts: true})
	path := filepath.Join(b.out, ".hyper2kvm-guest1", "ledger.json")
	ledger, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.ReplaceAll(string(ledger), `"manifest"`, `"oath"`)
	if changed == string(ledger) {
		t.Fatalf("no disk is verified in %s", ledger)
	}
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	result := b.export(def)
	verified(t, result, "manifest")
	if result.Disks[0].Resumed {
		t.Error("the disk of a way unknown here was taken")
	}
	b.identical(result)
}
