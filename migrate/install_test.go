package migrate_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// finalNames is what an export of guest1's one disk leaves, by format.
var finalNames = map[job.Format][]string{
	job.FormatOVF:   {"guest1-disk-0.vmdk", "guest1.ovf", "guest1.mf", "guest1.nvram", "guest1.export.json"},
	job.FormatRaw:   {"guest1-disk-0.raw", "guest1.xml", "guest1.export.json"},
	job.FormatQcow2: {"guest1-disk-0.qcow2", "guest1.xml", "guest1.export.json"},
}

// obstruct makes somebody else's file appear under a final name while the disk
// moves, and returns its path.
func (b *bench) obstruct(name string) string {
	path := filepath.Join(b.out, name)
	b.OnByte("guest1", 0, 1, func() {
		if err := os.WriteFile(path, []byte("theirs"), 0o600); err != nil {
			b.t.Error(err)
		}
	})
	return path
}

// refused runs def, which must not replace the file at path.
func (b *bench) refused(def job.Definition, path string) {
	b.t.Helper()
	_, tracker, err := b.run(context.Background(), def)
	if !errors.Is(err, migrate.ErrExists) || !migrate.Permanent(err) || !strings.Contains(err.Error(), path) || migrate.Hint(err) == "" {
		b.t.Fatalf("error %v, hint %q\n%s", err, migrate.Hint(err), events(tracker))
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "theirs" {
		b.t.Errorf("%s is now %q, %v", path, got, err)
	}
	if names := b.visible(); len(names) != 1 {
		b.t.Errorf("beside the file of others there are %v", names)
	}
	b.clean()
}

func TestAFileThatAppearsUnderAFinalNameIsNotReplacedAndNothingIsFetchedAgain(t *testing.T) {
	t.Parallel()
	disk := rawDisk(t, 2*mib, extent{0, mib, true})
	for format, names := range finalNames {
		for i, name := range names {
			t.Run(string(format)+" "+name, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", EFI: true, NVRAM: []byte("nvram")}}}, disk)
				def := b.job(format)
				path := b.obstruct(name)
				b.refused(def, path)
				served := b.BytesServed("guest1", 0)
				b.refused(def, path)
				if i%2 == 0 {
					def.Options.Overwrite = true
				} else if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				b.identical(b.export(def))
				if again := b.BytesServed("guest1", 0) - served; again != 0 {
					t.Errorf("%d bytes were fetched again", again)
				}
				if got := b.visible(); len(got) != len(names) || b.hidden() != nil {
					t.Errorf("left: %v, hidden %v", got, b.hidden())
				}
			})
		}
	}
}

func TestAFileThatAppearsIsReplacedWhereThatWasAskedFor(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, rawDisk(t, 2*mib, extent{0, mib, true}))
	def := b.job(job.FormatQcow2)
	def.Options.Overwrite = true
	b.obstruct("guest1-disk-0.qcow2")
	b.identical(b.export(def))
}

func TestWhatATemporarySnapshotGaveIsNotFetchedAgainWhenANameWasTaken(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", PoweredOn: true, ISO: []byte("an ISO image")}}}, rawDisk(t, 2*mib, extent{0, mib, true}))
	def := b.job(job.FormatRaw)
	def.Options.Snapshot, def.Options.RemoveCDROM = true, true
	b.refused(def, b.obstruct("guest1.xml"))
	b.Touch("guest1") // as the snapshot does when it goes
	served := b.BytesServed("guest1", 0)
	def.Options.Overwrite = true
	b.identical(b.export(def))
	b.clean()
	if again := b.BytesServed("guest1", 0) - served; again != 0 {
		t.Errorf("%d bytes were fetched again", again)
	}
}

// stopped is a bench where the job "job-1", which def is, has verified every
// file and ended before it gave them their names.
func stopped(t *testing.T, change func(*job.Definition)) (b *bench, def job.Definition) {
	t.Helper()
	b = newBench(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", ISO: []byte("an ISO image")}}}, rawDisk(t, 2*mib, extent{0, mib, true}))
	def = b.job(job.FormatRaw)
	def.ID = "job-1"
	if change != nil {
		change(&def)
	}
	path := b.obstruct("guest1.xml")
	b.refused(def, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	return b, def
}

func TestAnotherExportDoesNotGetTheSuccessOfOneThatEndedBeforeNamingItsFiles(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(*bench, *job.Definition){
		"format": func(_ *bench, d *job.Definition) { d.Options.Format = job.FormatQcow2 },
		"compressed": func(_ *bench, d *job.Definition) {
			d.Options.Format, d.Options.Compress = job.FormatQcow2, true
		},
		"virtio":       func(_ *bench, d *job.Definition) { d.Options.Virtio = true },
		"verified":     func(_ *bench, d *job.Definition) { d.Options.Verify = "full" },
		"transport":    func(_ *bench, d *job.Definition) { d.Options.Transport = job.TransportAuto },
		"without CD":   func(_ *bench, d *job.Definition) { d.Options.RemoveCDROM = true },
		"of a new VM":  func(b *bench, _ *job.Definition) { b.Touch("guest1") },
		"ovf, same id": func(_ *bench, d *job.Definition) { d.ID, d.Options.Format = "job-1", job.FormatOVF },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, first := stopped(t, nil)
			second := first
			second.ID = "job-2"
			ask(b, &second)
			served := b.BytesServed("guest1", 0)
			if _, _, err := b.run(context.Background(), second); err == nil {
				t.Fatal("it has the success of the first, or has replaced it without being asked")
			}
			if b.BytesServed("guest1", 0) != served {
				t.Error("it was fetched, to no end")
			}
			b.identical(b.export(first)) // is complete, and not fetched again
			if b.BytesServed("guest1", 0) != served {
				t.Error("the first one was fetched again")
			}
			second.Options.Overwrite = true
			b.identical(b.export(second))
			if b.BytesServed("guest1", 0) == served {
				t.Error("the second one was not fetched")
			}
			b.clean()
		})
	}
}

func TestTheSameExportFinishesWhatEndedBeforeNamingItsFiles(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(*bench, *job.Definition){
		"the same job, of a VM that has changed": func(b *bench, _ *job.Definition) { b.Touch("guest1") },
		"another job of the same":                func(_ *bench, d *job.Definition) { d.ID = "job-2" },
		"faster": func(_ *bench, d *job.Definition) {
			d.Options.ParallelDownloads, d.Options.Limit, d.Options.Transport = 9, "1GB/s", job.TransportNFC
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, def := stopped(t, nil)
			ask(b, &def)
			served := b.BytesServed("guest1", 0)
			b.identical(b.export(def))
			if b.BytesServed("guest1", 0) != served {
				t.Error("it was fetched again")
			}
		})
	}
}

func TestCancellingCompletesOnlyTheJobWhoseFilesWereVerified(t *testing.T) {
	t.Parallel()
	b, first := stopped(t, nil)
	second := first
	second.ID, second.Options.Format = "job-2", job.FormatOVF
	if result, err := b.cancelled(second); err != nil || result.Success || len(b.visible()) > 0 || len(b.hidden()) == 0 {
		t.Errorf("cancelling another job: %+v, %v; there is %v, hidden %v", result, err, b.visible(), b.hidden())
	}
	if result, err := b.cancelled(first); err != nil || !result.Success || b.hidden() != nil {
		t.Errorf("cancelling the job: %+v, %v; hidden %v", result, err, b.hidden())
	}
}

func TestCancellingAJobWhoseNamesAreTakenRemovesItsFiles(t *testing.T) {
	t.Parallel()
	b, def := stopped(t, nil)
	if err := os.WriteFile(filepath.Join(b.out, "guest1.xml"), []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if result, err := b.cancelled(def); err != nil || result.Success {
		t.Errorf("%+v, %v", result, err)
	}
	if got := b.visible(); len(got) != 1 || b.hidden() != nil {
		t.Errorf("left: %v, hidden %v", got, b.hidden())
	}
}

func TestAFinishedJobWhoseFilesAreNotThereIsDoneAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, rawDisk(t, 2*mib, extent{0, mib, true}))
	def := b.job(job.FormatRaw)
	def.ID = "job-1"
	image := b.export(def).Disks[0].File
	served := b.BytesServed("guest1", 0)

	if err := os.Truncate(image, mib); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.run(context.Background(), def); err == nil {
		t.Fatal("an image that has lost its end is success, or was replaced")
	}
	if b.BytesServed("guest1", 0) != served {
		t.Error("it was fetched, to no end")
	}
	for _, path := range []string{image, filepath.Join(b.out, "guest1.xml")} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	result := b.export(def)
	b.identical(result)
	if b.BytesServed("guest1", 0) == served || len(result.Notes) == 0 {
		t.Errorf("it was not fetched again, or not told: %v", result.Notes)
	}
	served = b.BytesServed("guest1", 0)
	if b.export(def); b.BytesServed("guest1", 0) != served {
		t.Error("the third run fetched it, though all is there")
	}
}

func TestAnExportThatHadAllItsNamesIsDoneAgainWhenItsFilesAreGone(t *testing.T) {
	t.Parallel()
	b, def := stopped(t, nil)
	work := filepath.Join(b.out, ".hyper2kvm-guest1")
	text, err := os.ReadFile(filepath.Join(work, "ledger.json"))
	if err != nil {
		t.Fatal(err)
	}
	var ledger struct {
		Install struct{ Moves []struct{ From, To string } }
	}
	if err := json.Unmarshal(text, &ledger); err != nil || len(ledger.Install.Moves) != 3 {
		t.Fatalf("%v in %s", err, text)
	}
	for i, m := range ledger.Install.Moves { // and then the process died
		if err := os.Rename(filepath.Join(work, m.From), filepath.Join(b.out, m.To)); err != nil {
			t.Fatal(err)
		}
		if i < 2 {
			if err := os.Remove(filepath.Join(b.out, m.To)); err != nil {
				t.Fatal(err)
			}
		}
	}
	served := b.BytesServed("guest1", 0)
	b.identical(b.export(def))
	if b.BytesServed("guest1", 0) == served || b.hidden() != nil {
		t.Errorf("it was not fetched again, or left %v", b.hidden())
	}
}

func TestAnImageInAnotherFormatDoesNotCountAsTheOneThatIsThere(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, rawDisk(t, 2*mib, extent{0, mib, true}))
	raw := b.job(job.FormatRaw)
	raw.ID = "job-1"
	before := b.export(raw).Disks[0].File
	for _, id := range []string{"job-1", "job-2"} {
		def := b.job(job.FormatQcow2)
		def.ID = id
		var obstacles *migrate.PreflightError
		if _, _, err := b.run(context.Background(), def); !errors.As(err, &obstacles) {
			t.Errorf("%s: error %v", id, err)
		}
		def.Options.Overwrite = true
		b.identical(b.export(def))
	}
	if !exists(before) {
		t.Error("the raw image is gone")
	}
}

// cancelled is what cancelling a job does that is not running.
func (b *bench) cancelled(def job.Definition) (job.Result, error) {
	return b.m.CleanUp(context.Background(), def, false, progress.New())
}
