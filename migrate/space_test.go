package migrate_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/volume/volumetest"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestTheSpaceOfAnExportIsKnownAsFarAsItCanBe(t *testing.T) {
	t.Parallel()
	disks := func(thin bool, capacities ...int64) []vsphere.Disk {
		var out []vsphere.Disk
		for _, c := range capacities {
			out = append(out, vsphere.Disk{Capacity: c * gib, Thin: thin})
		}
		return out
	}
	off := vsphere.PoweredOff
	for name, tt := range map[string]struct {
		vm            vsphere.VM
		o             job.Options
		most, atLeast int64 // GiB
	}{
		"thin":                      {vsphere.VM{Power: off, CommittedBytes: 5 * gib, Disks: disks(true, 9, 1)}, job.Options{Format: job.FormatRaw}, 5, 5},
		"thick":                     {vsphere.VM{Power: off, CommittedBytes: 10 * gib, Disks: disks(false, 9, 1)}, job.Options{Format: job.FormatRaw}, 10, 0},
		"thin, compressed":          {vsphere.VM{Power: off, CommittedBytes: 5 * gib, Disks: disks(true, 9)}, job.Options{Format: job.FormatQcow2, Compress: true}, 5, 0},
		"thin, as it is sent":       {vsphere.VM{Power: off, CommittedBytes: 5 * gib, Disks: disks(true, 9)}, job.Options{Format: job.FormatOVF}, 5, 0},
		"thin, format by default":   {vsphere.VM{Power: off, CommittedBytes: 5 * gib, Disks: disks(true, 9)}, job.Options{}, 5, 0},
		"thin, with snapshots":      {vsphere.VM{Power: off, CommittedBytes: 5 * gib, Disks: disks(true, 9), Snapshots: 1}, job.Options{Format: job.FormatRaw}, 5, 0},
		"more than the disks hold":  {vsphere.VM{Power: off, CommittedBytes: 50 * gib, Disks: disks(true, 9)}, job.Options{Format: job.FormatRaw}, 9, 9},
		"running, with a swap file": {vsphere.VM{Power: vsphere.PoweredOn, MemoryMiB: 4 << 10, CommittedBytes: 7 * gib, Disks: disks(true, 9)}, job.Options{Format: job.FormatRaw}, 7, 3},
		"disks not known":           {vsphere.VM{Power: off, CommittedBytes: 5 * gib, DiskCount: 1}, job.Options{Format: job.FormatRaw}, 5, 0},
		"nothing told":              {vsphere.VM{Power: off, Disks: disks(true, 9)}, job.Options{Format: job.FormatRaw}, 9, 0},
	} {
		if got, want := migrate.SpaceOf(tt.vm, tt.o), (migrate.Space{AtMost: tt.most * gib, AtLeast: tt.atLeast * gib}); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

func TestAResumedExportNeedsOnlyRoomForWhatIsNotHere(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, twoDisks(t)...) // 5 MiB of data, and 4
	tiny := volumetest.Tiny(t, 16*mib)
	b.out = filepath.Join(tiny, "out")
	def := b.job(job.FormatRaw)
	def.Options.ParallelDownloads = 1
	b.cancelAt(def, 1, mib, job.ErrShutdown)
	free, err := migrate.FreeSpace(tiny)
	if err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(tiny, "filler")
	if err := os.WriteFile(filler, make([]byte, free-5*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	_, obstacles, err := b.m.Check(t.Context(), def)
	if err != nil || len(obstacles) > 0 {
		t.Errorf("what is left is said not to fit: %+v, %v", obstacles, err)
	}
	if result := b.export(def); !result.Disks[0].Resumed {
		t.Error("nothing was resumed")
	} else {
		b.identical(result)
	}
}

// twoVMs is a bench with a second VM, guest2, of one disk, and with reservations.
func twoVMs(t *testing.T, size, space int64) *bench {
	t.Helper()
	data := rawDisk(t, size, extent{0, size, false})
	b := newBench(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1"}, {Name: "guest2", Disks: []vspheretest.Disk{{Path: stream(t, data)}}}}}, data)
	b.m.Reservations = &migrate.Reservations{}
	b.out = filepath.Join(volumetest.Tiny(t, space), "out")
	return b
}

// second is the export of guest2, which ends with the error that it sends.
func (b *bench) second(format job.Format) (tracker *progress.Tracker, ended <-chan error) {
	tracker = progress.New()
	def := b.job(format)
	def.VMPath = "guest2"
	done := make(chan error, 1)
	go func() {
		_, err := b.m.Run(context.Background(), def, tracker)
		done <- err
	}()
	return tracker, done
}

// waits returns when the run of tracker waits for space, or has ended.
func waits(t *testing.T, tracker *progress.Tracker, ended <-chan error) {
	t.Helper()
	for {
		changed := tracker.Changed()
		if strings.Contains(tracker.Snapshot().Activity, "waiting for space") {
			return
		}
		select {
		case <-changed:
		case err := <-ended:
			t.Errorf("it did not wait for space: %v", err)
			return
		}
	}
}

func TestAnExportThatHasItsSpaceIsNotRunOutOfItByAnother(t *testing.T) {
	t.Parallel()
	for _, format := range []job.Format{job.FormatRaw, job.FormatQcow2, job.FormatOVF} {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			b := twoVMs(t, 8*mib, 14*mib)
			var ended <-chan error
			b.OnByte("guest1", 0, mib, func() {
				var tracker *progress.Tracker
				tracker, ended = b.second(format)
				waits(t, tracker, ended)
			})
			b.identical(b.export(b.job(format)))
			err := <-ended
			var obstacles *migrate.PreflightError
			refused := errors.As(err, &obstacles) && obstacles.Obstacles[0].Code == migrate.CodeSpace
			if !refused && !errors.Is(err, migrate.ErrNoSpace) || !migrate.Permanent(err) {
				t.Errorf("the second export says %v", err)
			}
			b.clean()
			for _, name := range append(b.visible(), b.hidden()...) {
				if strings.Contains(name, "guest2") {
					t.Errorf("left of the second export: %s", name)
				}
			}
		})
	}
}

func TestExportsThatFitBesideEachOtherDoNotWait(t *testing.T) {
	t.Parallel()
	b := twoVMs(t, 4*mib, 14*mib)
	b.OnByte("guest1", 0, mib, func() { // goes on when the second has ended
		if _, ended := b.second(job.FormatRaw); <-ended != nil {
			t.Error("the second export failed")
		}
	})
	b.identical(b.export(b.job(job.FormatRaw)))
}

func TestAnExportThatWaitsForSpaceTakesWhatAnotherLeaves(t *testing.T) {
	t.Parallel()
	b := twoVMs(t, 8*mib, 14*mib)
	var ended <-chan error
	ctx, cancel := context.WithCancelCause(context.Background())
	b.OnByte("guest1", 0, mib, func() {
		var tracker *progress.Tracker
		tracker, ended = b.second(job.FormatRaw)
		waits(t, tracker, ended)
		cancel(job.Cancelled{})
	})
	if _, _, err := b.run(ctx, b.job(job.FormatRaw)); !errors.Is(err, context.Canceled) {
		t.Errorf("the first export says %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the second export says %v", err)
	}
}

func TestAnExportThatWaitsForSpaceCanBeCancelled(t *testing.T) {
	t.Parallel()
	b := twoVMs(t, 8*mib, 14*mib)
	b.OnByte("guest1", 0, mib, func() {
		ctx, cancel := context.WithCancelCause(context.Background())
		tracker, def, ended := progress.New(), b.job(job.FormatRaw), make(chan error, 1)
		def.VMPath = "guest2"
		go func() {
			_, err := b.m.Run(ctx, def, tracker)
			ended <- err
		}()
		waits(t, tracker, ended)
		cancel(job.Cancelled{})
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the second export says %v", err)
		}
	})
	b.identical(b.export(b.job(job.FormatRaw)))
}
