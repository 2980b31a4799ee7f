package migrate_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/migrate/outdir"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// busyVM is a bench whose VM is held, for that long, by a lease that nobody renews,
// and the export of it.
func busyVM(t *testing.T, held time.Duration) (*bench, job.Definition) {
	t.Helper()
	b := newBench(t, vspheretest.Config{LeaseTimeout: held}, rawDisk(t, mib, extent{0, mib, true}))
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
	return b, b.job(job.FormatRaw)
}

// A process that dies while it opens a lease has written down that it was about
// to, and nothing else.
func TestALeaseThatADeadRunNeverHeardOfIsWaitedFor(t *testing.T) {
	t.Parallel()
	b, def := busyVM(t, 4*time.Second)
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
	b, def := busyVM(t, time.Hour)
	if _, _, err := b.run(context.Background(), def); !errors.Is(err, vsphere.ErrBusy) {
		t.Errorf("error %v", err)
	}
}

// A process that dies with the CD/DVD drives out has written down what they were.
func TestDrivesThatADeadRunTookOutComeBackUnlessTheyAreToBeOut(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		remove, fails, cleans, present bool
	}{
		"nothing is run any more but the clean-up":  {cleans: true, present: true},
		"the next run is to leave them in":          {present: true},
		"the next run is to take them out, and has": {remove: true},
		"the next run is to take them out and ends": {remove: true, fails: true, present: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", ISO: []byte("an ISO image")}}}
			b := newBench(t, cfg, rawDisk(t, 4*mib, extent{0, 4 * mib, false}))
			before := b.CDROM("guest1")
			b.dieWithoutDrives()
			def := b.job(job.FormatRaw)
			def.Options.RemoveCDROM = tt.remove
			switch {
			case tt.cleans:
				if err := b.cleanUp(def); err != nil {
					t.Error(err)
				}
			case tt.fails:
				b.cancelAt(def, 0, mib, context.Canceled)
			default:
				b.identical(b.export(def))
			}
			after := b.CDROM("guest1")
			if after.Present != tt.present || tt.present && after != before {
				t.Errorf("the drive was %+v and is %+v", before, after)
			}
		})
	}
}

// dieWithoutDrives does what a run does up to the moment at which it is killed:
// it writes down the drives and takes them out.
func (b *bench) dieWithoutDrives() {
	b.t.Helper()
	ctx := context.Background()
	c, err := vsphere.Dial(ctx, b.config())
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close(ctx)
	vm, err := c.Find(ctx, "guest1")
	if err != nil {
		b.t.Fatal(err)
	}
	change, err := c.PlanCDROM(ctx, vm, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	ledger, err := json.Marshal(map[string]any{"version": 1, "cdrom": change})
	if err != nil {
		b.t.Fatal(err)
	}
	work := filepath.Join(b.out, ".hyper2kvm-guest1")
	if err := os.MkdirAll(work, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(work, "ledger.json"), ledger, 0o600); err != nil {
		b.t.Fatal(err)
	}
	if err := change.Apply(ctx); err != nil {
		b.t.Fatal(err)
	}
	if b.CDROM("guest1").Present {
		b.t.Fatal("the drive is still there")
	}
}

// Two VMs in two folders may have one name, and with one output directory one
// work directory.
func TestAnUnfinishedExportOfAnotherVMOfTheSameNameIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, rawDisk(t, mib, extent{0, mib, true}))
	work := filepath.Join(b.out, ".hyper2kvm-guest1")
	if err := os.MkdirAll(work, 0o755); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"ledger.json":            `{"version":1,"vm":{"instance_uuid":"of another"},"snapshot":"its","disks":{"2000":{"part":"guest1-disk-0.raw.part","done":true}}}`,
		"guest1-disk-0.raw.part": "its disk",
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(work, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := b.run(t.Context(), b.job(job.FormatRaw))
	for name, err := range map[string]error{"a run": err, "a clean-up": b.cleanUp(b.job(job.FormatRaw))} {
		if !errors.Is(err, migrate.ErrExists) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, content := range files {
		if got, err := os.ReadFile(filepath.Join(work, name)); err != nil || string(got) != content {
			t.Errorf("%s is now %q, %v", name, got, err)
		}
	}
}

func TestAnNVRAMFileThatIsThereIsNotOverwritten(t *testing.T) {
	t.Parallel()
	cfg := vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", EFI: true, NVRAM: []byte("new")}}}
	b := newBench(t, cfg, rawDisk(t, mib, extent{0, mib, true}))
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(b.out, "guest1.nvram")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	var obstacles *migrate.PreflightError
	if _, _, err := b.run(t.Context(), b.job(job.FormatOVF)); !errors.As(err, &obstacles) {
		t.Errorf("error %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "old" {
		t.Errorf("the file is now %q, %v", got, err)
	}
}

// A run that died may have left vSphere at the removal of its snapshot. The next one, with
// nothing to do but give the files their names, is quicker than that.
func TestARunThatFindsItsExportWaitsForTheSnapshotThatIsBeingRemoved(t *testing.T) {
	t.Parallel()
	b, def := runningGuest(t)
	def.ID = "job-1"
	path := b.obstruct("guest1-disk-0.raw")
	if _, _, err := b.run(t.Context(), def); !errors.Is(err, migrate.ErrExists) { // all is verified, and has no name
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	const name = vsphere.SnapshotPrefix + "of-the-dead"
	b.byHand(name)
	b.addFault("task:call=RemoveSnapshot_Task,takes=3s")
	var asked vsphere.Wait
	b.hands(func(ctx context.Context, vm *object.VirtualMachine) (*object.Task, error) {
		task, err := vm.RemoveSnapshot(ctx, name, false, nil)
		if err != nil {
			return nil, err
		}
		asked = vsphere.Wait{Task: vsphere.Task{Ref: task.Reference().Value, What: "remove the snapshot " + name}, Since: time.Now()}
		return nil, nil // nobody waits for it
	})
	w, err := workdir.Open(outdir.Roots{}, b.out, "guest1")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.NoteSnapshot(name, asked), w.NoteUndoing(workdir.DebtSnapshot, asked), w.NoteTask(asked.Task), w.Unlock()); err != nil {
		t.Fatal(err)
	}
	result := b.export(def)
	if b.identical(result); len(result.Owed) > 0 {
		t.Errorf("owed: %q", result.Owed)
	}
	if left := b.Snapshots("guest1"); len(left) > 0 {
		t.Errorf("snapshots %q are left", left)
	}
	b.clean()
	b.gone()
}
