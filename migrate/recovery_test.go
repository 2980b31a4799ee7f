package migrate_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/volume/volumetest"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// cancelAt exports and cancels with cause when guest1's disk has served n
// bytes.
func (b *bench) cancelAt(def job.Definition, disk int, n int64, cause error) {
	b.t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	b.OnByte("guest1", disk, n, func() { cancel(cause) })
	_, tracker, err := b.run(ctx, def)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
		b.t.Fatalf("cancelled with %v, the run says %v\n%s", cause, err, events(tracker))
	}
}

func TestACancelledRunLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	disks := twoDisks(t)
	for _, format := range everyFormat {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, vspheretest.Config{}, disks...)
			b.cancelAt(b.job(format), 0, 3*mib, job.Cancelled{})
			b.clean()
			if _, err := os.Stat(b.out); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the output directory is left with %v and %v (%v)", b.visible(), b.hidden(), err)
			}
		})
	}
}

func TestAShutDownRunGoesOnWithoutFetchingAFinishedDiskAgain(t *testing.T) {
	t.Parallel()
	disks := twoDisks(t)
	for _, profile := range bothProfiles {
		for _, format := range everyFormat {
			t.Run(string(profile)+" "+string(format), func(t *testing.T) {
				t.Parallel()
				b := newBench(t, vspheretest.Config{Profile: profile}, disks...)
				def := b.job(format)
				def.Options.ParallelDownloads = 1 // disk 0 first
				b.cancelAt(def, 1, mib, job.ErrShutdown)
				b.clean()
				served := b.BytesServed("guest1", 0)
				if len(b.visible()) > 0 || len(b.hidden()) == 0 {
					t.Fatalf("after a shutdown: visible %v, kept %v", b.visible(), b.hidden())
				}
				result := b.export(def)
				b.identical(result)
				if again := b.BytesServed("guest1", 0); again != served || !result.Disks[0].Resumed || result.Disks[1].Resumed && profile == vspheretest.Stream {
					t.Errorf("disk 0 was served %d bytes, then %d more; results %+v", served, again-served, result.Disks)
				}
			})
		}
	}
}

func TestAVMThatChangedMeanwhileStartsClean(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, twoDisks(t)...)
	def := b.job(job.FormatQcow2)
	def.Options.ParallelDownloads = 1
	b.cancelAt(def, 1, mib, job.ErrShutdown)
	b.Touch("guest1")
	served := b.BytesServed("guest1", 0)
	result := b.export(def)
	b.identical(result)
	if result.Disks[0].Resumed || b.BytesServed("guest1", 0) == served {
		t.Error("a disk of the VM as it was before was used again")
	}
}

func TestARunningVMIsExportedFromASnapshotThatIsGoneAfterwards(t *testing.T) {
	t.Parallel()
	disks := twoDisks(t)
	running := vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", PoweredOn: true}}}
	t.Run("refused without -snapshot", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, running, disks...)
		_, _, err := b.run(context.Background(), b.job(job.FormatQcow2))
		var preflight *migrate.PreflightError
		if !errors.As(err, &preflight) || preflight.Obstacles[0].Code != vsphere.CodePower {
			t.Fatalf("error %v", err)
		}
		if len(b.Requests(vspheretest.NFC)) > 0 || exists(b.out) {
			t.Error("something moved, or was written")
		}
	})
	t.Run("success", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", PoweredOn: true}}}, disks...)
		def := b.job(job.FormatQcow2)
		def.Options.Snapshot = true
		b.identical(b.export(def))
		b.clean()
	})
	t.Run("failure", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", PoweredOn: true}}}, disks...)
		def := b.job(job.FormatQcow2)
		def.Options.Snapshot = true
		b.cancelAt(def, 0, mib, job.ErrShutdown)
		b.clean()
		if kept := b.hidden(); kept != nil {
			t.Errorf("disks of a snapshot that is gone are kept: %v", kept)
		}
	})
}

func TestCDDrivesStayOutOnSuccessAndComeBackOnFailure(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", ISO: []byte("an ISO image")}}}, twoDisks(t)...)
	before := b.CDROM("guest1")
	def := b.job(job.FormatRaw)
	def.Options.RemoveCDROM = true
	def.Options.ParallelDownloads = 1
	b.cancelAt(def, 1, mib, job.ErrShutdown)
	if after := b.CDROM("guest1"); !before.Present || after != before {
		t.Fatalf("the drive was %+v and is %+v", before, after)
	}
	served := b.BytesServed("guest1", 0)
	b.identical(b.export(def))
	if b.CDROM("guest1").Present {
		t.Error("the drive is there after a successful export that was to remove it")
	}
	if b.BytesServed("guest1", 0) != served {
		t.Error("our own change of the VM made a finished disk be fetched again")
	}
}

func TestAnExportNeverReplacesWhatIsThereUnlessAsked(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, twoDisks(t)...)
	def := b.job(job.FormatRaw)
	first := b.export(def)
	before, err := os.Stat(first.Disks[0].File)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = b.run(context.Background(), def)
	var preflight *migrate.PreflightError
	if !errors.As(err, &preflight) || preflight.Obstacles[0].Code != migrate.CodeOutputExists {
		t.Fatalf("error %v", err)
	}
	if after, err := os.Stat(first.Disks[0].File); err != nil || !os.SameFile(before, after) {
		t.Errorf("the first export was touched (%v)", err)
	}
	def.Options.Overwrite = true
	b.identical(b.export(def))
}

func TestAJobThatWasFinishedIsNotDoneAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, twoDisks(t)...)
	def := b.job(job.FormatRaw)
	def.ID = "job-1"
	first := b.export(def)
	served := b.BytesServed("guest1", 0)
	again := b.export(def)
	if !slices.Equal(first.Files, again.Files) || b.BytesServed("guest1", 0) != served {
		t.Errorf("the second run served %d bytes and says %v", b.BytesServed("guest1", 0)-served, again.Files)
	}
}

func TestTwoRunsOfOneVMInOneDirectoryExcludeEachOther(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, twoDisks(t)...)
	def := b.job(job.FormatRaw)
	second := make(chan error, 1)
	b.OnByte("guest1", 0, mib, func() {
		_, _, err := b.run(context.Background(), def)
		second <- err
	})
	b.identical(b.export(def))
	if err := <-second; !errors.Is(err, migrate.ErrLocked) {
		t.Errorf("the second run says %v", err)
	}
}

func TestAVMThatCannotFitIsRefusedBeforeAByteMoves(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, twoDisks(t)...)
	b.out = filepath.Join(volumetest.Tiny(t, 4*mib), "out")
	_, _, err := b.run(context.Background(), b.job(job.FormatRaw))
	var preflight *migrate.PreflightError
	if !errors.As(err, &preflight) || preflight.Obstacles[0].Code != migrate.CodeSpace {
		t.Fatalf("error %v", err)
	}
	if len(b.Requests(vspheretest.NFC)) > 0 || exists(b.out) {
		t.Error("something moved, or was written")
	}
}

func TestAFullFileSystemIsToldAndLeavesNoFinalName(t *testing.T) {
	t.Parallel()
	for _, format := range everyFormat {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, vspheretest.Config{}, twoDisks(t)...)
			tiny := volumetest.Tiny(t, 32*mib)
			b.out = filepath.Join(tiny, "out")
			b.OnByte("guest1", 0, mib, func() { // somebody else takes the space
				if err := os.WriteFile(filepath.Join(tiny, "filler"), make([]byte, 33*mib), 0o600); err == nil {
					t.Error("the file system is not full")
				}
			})
			_, _, err := b.run(context.Background(), b.job(format))
			if !errors.Is(err, migrate.ErrNoSpace) || !migrate.Permanent(err) || migrate.Hint(err) == "" {
				t.Fatalf("error %v, hint %q", err, migrate.Hint(err))
			}
			if names := b.visible(); len(names) > 0 {
				t.Errorf("files with final names: %v", names)
			}
			b.clean()
		})
	}
}

func TestALeaseAndASnapshotOfADeadRunAreRemovedByCancelling(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", PoweredOn: true}}}, twoDisks(t)...)
	def := b.job(job.FormatRaw)
	def.Options.Snapshot = true
	b.cancelAt(def, 0, mib, job.ErrClaimLost) // leaves as a crash does
	if len(b.Snapshots("guest1")) != 1 {
		t.Fatalf("snapshots %v", b.Snapshots("guest1"))
	}
	if err := b.cleanUp(def); err != nil {
		t.Error(err)
	}
	b.clean()
	if left := append(b.visible(), b.hidden()...); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
}

func TestEveryPhaseIsShown(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, rawDisk(t, mib, extent{0, mib, true}))
	tracker := progress.New()
	seen := make(chan []progress.Phase)
	go func() {
		var phases []progress.Phase
		for {
			changed := tracker.Changed()
			p := tracker.Phase()
			if len(phases) == 0 || phases[len(phases)-1] != p {
				phases = append(phases, p)
			}
			if p == progress.Done {
				seen <- phases
				return
			}
			<-changed
		}
	}()
	if _, err := b.m.Run(context.Background(), b.job(job.FormatRaw), tracker); err != nil {
		t.Fatal(err)
	}
	got := <-seen
	if got[len(got)-1] != progress.Done || !slices.Contains(got, progress.Exporting) {
		t.Errorf("phases %v", got)
	}
	if s := tracker.Snapshot(); s.Percent() != 100 || s.Finished() != 1 {
		t.Errorf("at the end: %+v", s)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// No secret may be in what a run says.
func TestNoEventOrErrorHoldsTheTicketOrThePassword(t *testing.T) {
	t.Parallel()
	var tickets []string
	b := newBench(t, vspheretest.Config{Password: "s3cr3t-word", Faults: []string{"cut:at=1MB,times=100"}}, twoDisks(t)...)
	b.OnLease(func(e vspheretest.LeaseEvent) {
		if e.Kind == vspheretest.LeaseReady {
			tickets = append(tickets, e.Ticket)
		}
	})
	b.m.LeasePause = time.Millisecond
	_, tracker, err := b.run(context.Background(), b.job(job.FormatRaw))
	if err == nil || len(tickets) == 0 {
		t.Fatalf("error %v with %d leases", err, len(tickets))
	}
	said := err.Error() + events(tracker)
	for _, secret := range append(tickets, "s3cr3t-word") {
		if strings.Contains(said, secret) {
			t.Errorf("%q is in:\n%s", secret, said)
		}
	}
}

func TestWhoAcceptsAFinishedExportIsToldThatItWasThere(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, twoDisks(t)...)
	b.m.AcceptFinished = true
	def := b.job(job.FormatRaw)
	first := b.export(def)
	served := b.BytesServed("guest1", 0)
	again := b.export(def)
	if first.Earlier || !again.Earlier || !slices.Equal(first.Files, again.Files) || b.BytesServed("guest1", 0) != served {
		t.Errorf("first %+v, again %+v; %d bytes were fetched", first, again, b.BytesServed("guest1", 0)-served)
	}
	if _, obstacles, err := b.m.Check(t.Context(), def); err != nil || len(obstacles) > 0 {
		t.Errorf("the check says %v, %v", obstacles, err)
	}
	other := def
	other.Options.Virtio = true
	for name, refused := range map[string]job.Definition{"another export": other, "files that are gone": def} {
		if name == "files that are gone" {
			if err := os.Remove(first.Disks[0].File); err != nil {
				t.Fatal(err)
			}
		}
		_, _, err := b.run(context.Background(), refused)
		_, obstacles, cerr := b.m.Check(t.Context(), refused)
		if !errors.As(err, new(*migrate.PreflightError)) || cerr != nil || len(obstacles) != 1 || obstacles[0].Code != migrate.CodeOutputExists {
			t.Errorf("%s: the run says %v, the check %v, %v", name, err, obstacles, cerr)
		}
	}
	def.Options.Overwrite = true
	if result := b.export(def); result.Earlier || b.BytesServed("guest1", 0) == served {
		t.Error("with overwrite nothing was fetched")
	}
}

func TestAnExportThatAnEarlierVersionFinishedTellsOfTheLandingKitThatItDidNotWrite(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, rawDisk(t, 1<<20))
	b.m.AcceptFinished = true
	def := b.job(job.FormatRaw)
	def.Options.For = "libvirt,proxmox"
	first := b.export(def)
	if again := b.export(def); !again.Earlier || !slices.Equal(again.Notes, first.Notes) {
		t.Errorf("with all that is asked for, it says %v", again.Notes)
	}
	script, receipt := filepath.Join(b.out, "guest1.libvirt.sh"), filepath.Join(b.out, "guest1.export.json")
	text, err := os.ReadFile(receipt)
	if err != nil {
		t.Fatal(err)
	}
	var r workdir.Receipt
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	r.Files = slices.DeleteFunc(r.Files, func(f workdir.ReceiptFile) bool { return f.Name == "guest1.libvirt.sh" })
	if text, err = json.Marshal(r); err == nil {
		err = errors.Join(os.WriteFile(receipt, text, 0o600), os.Remove(script))
	}
	if err != nil {
		t.Fatal(err)
	}
	served := b.BytesServed("guest1", 0)
	again := b.export(def)
	if want := append(slices.Clone(first.Notes), migrate.NoKit(script)); !again.Earlier || !slices.Equal(again.Notes, want) || b.BytesServed("guest1", 0) != served {
		t.Errorf("it says %v, want %v", again.Notes, want)
	}
}
