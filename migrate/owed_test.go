package migrate_test

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// runningGuest is a bench whose VM runs and has a CD in its drive, and the export
// of it from a snapshot.
func runningGuest(t *testing.T, faults ...string) (*bench, job.Definition) {
	t.Helper()
	b := newBench(t, vspheretest.Config{
		VMs:    []vspheretest.VM{{Name: "guest1", PoweredOn: true}},
		Faults: faults,
	}, rawDisk(t, 4*mib, extent{0, 4 * mib, false}))
	def := b.job(job.FormatRaw)
	def.Options.Snapshot = true
	return b, def
}

// driveGuest is a bench whose VM is off and has a CD in its drive, and the export
// of it that takes the drive out.
func driveGuest(t *testing.T, faults ...string) (*bench, job.Definition) {
	t.Helper()
	b := newBench(t, vspheretest.Config{
		VMs:    []vspheretest.VM{{Name: "guest1", ISO: []byte("an ISO image")}},
		Faults: faults,
	}, rawDisk(t, 4*mib, extent{0, 4 * mib, false}))
	def := b.job(job.FormatRaw)
	def.Options.RemoveCDROM = true
	return b, def
}

// cancelOn exports and cancels when a call of method arrives.
func (b *bench) cancelOn(method string, def job.Definition, cause error) error {
	b.t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	b.OnCall(method, func() { cancel(cause) })
	_, tracker, err := b.run(ctx, def)
	b.t.Logf("the run says %v\n%s", err, events(tracker))
	return err
}

// owes checks that err names everything in want, and that the ledger is there.
func (b *bench) owes(err error, want ...string) {
	b.t.Helper()
	var owed *migrate.OwedError
	if !errors.As(err, &owed) {
		b.t.Fatalf("nothing is owed according to %v", err)
	}
	for _, w := range want {
		if !strings.Contains(owed.Error(), w) {
			b.t.Errorf("owed: %v; want %q in it", owed, w)
		}
	}
	if !strings.Contains(owed.Hint(), "hyper2kvm clean -output '"+b.out+"'") {
		b.t.Errorf("the hint is %q", owed.Hint())
	}
	if _, err := os.Stat(filepath.Join(owed.Dir, "ledger.json")); err != nil {
		b.t.Errorf("the ledger: %v", err)
	}
}

// gone checks that no work directory is left.
func (b *bench) gone() {
	b.t.Helper()
	if left := b.hidden(); left != nil {
		b.t.Errorf("the work directory is left with %v", left)
	}
}

func TestASnapshotThatIsStillBeingMadeWhenARunIsCancelledIsRemovedLater(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]func(*bench, job.Definition){
		"by the next run": func(b *bench, def job.Definition) { b.identical(b.export(def)) },
		"by cleaning up": func(b *bench, def job.Definition) {
			if err := b.cleanUp(def); err != nil {
				b.t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, def := runningGuest(t, "task:call=CreateSnapshot_Task,takes=1h")
			err := b.cancelOn("CreateSnapshot_Task", def, job.Cancelled{})
			tasks := b.RunningTasks()
			if len(tasks) != 1 {
				t.Fatalf("tasks %+v", tasks)
			}
			b.owes(err, "the snapshot "+vsphere.SnapshotPrefix, tasks[0].Task.Value+" is at work to make", "of "+b.InventoryPath("guest1"))
			b.Release() // the task has its effect now
			later(b, def)
			b.clean()
			b.gone()
		})
	}
}

func TestADriveThatIsStillBeingTakenOutWhenARunIsCancelledComesBackLater(t *testing.T) {
	t.Parallel()
	b, def := driveGuest(t, "task:call=ReconfigVM_Task,takes=1h")
	before := b.CDROM("guest1")
	err := b.cancelOn("ReconfigVM_Task", def, job.Cancelled{})
	b.owes(err, "CD/DVD drive", "is at work to take the CD/DVD drives out")
	b.Release()
	if err := b.cleanUp(def); err != nil {
		t.Error(err)
	}
	if after := b.CDROM("guest1"); after != before {
		t.Errorf("the drive was %+v and is %+v", before, after)
	}
	b.clean()
	b.gone()
}

// A backup holds the VM when the snapshot of a finished export is to go.
func TestASnapshotThatCannotBeRemovedYetIsOwedByAnExportThatSucceeded(t *testing.T) {
	t.Parallel()
	b, def := runningGuest(t, "fault:call=RemoveSnapshot_Task,fault=TaskInProgress,times=always")
	def.ID = "job-1"
	result := b.export(def)
	b.identical(result)
	if len(result.Owed) != 1 || !strings.Contains(result.Owed[0], vsphere.SnapshotPrefix) ||
		!strings.Contains(strings.Join(result.Notes, "\n"), "owed at vSphere: the snapshot "+vsphere.SnapshotPrefix) {
		t.Errorf("owed %q, notes %q", result.Owed, result.Notes)
	}
	if n := len(b.Snapshots("guest1")); n != 1 {
		t.Fatalf("%d snapshots", n)
	}
	b.ClearFaults()
	again := b.export(def) // the job is finished; what it owes is settled
	if len(again.Owed) != 0 {
		t.Errorf("still owed: %q", again.Owed)
	}
	b.clean()
	b.gone()
}

func TestARemovalThatTakesLongIsOwedUntilItHasEnded(t *testing.T) {
	t.Parallel()
	b, def := runningGuest(t, "task:call=RemoveSnapshot_Task,takes=1h")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	b.OnByte("guest1", 0, mib, func() { cancel(job.ErrShutdown) })
	_, _, err := b.run(ctx, def)
	b.owes(err, "is at work to remove the snapshot")
	if err := b.cleanUp(def); err == nil {
		t.Error("the clean-up says that all is well while the removal goes on")
	} else {
		b.owes(err, "is at work to remove the snapshot")
	}
	b.Release()
	if err := b.cleanUp(def); err != nil {
		t.Error(err)
	}
	b.clean()
	b.gone()
}

func TestALeaseThatIsOpenedLateWhenARunIsCancelledIsAborted(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{Faults: []string{"late:call=ExportVm,after=4s"}}, rawDisk(t, mib, extent{0, mib, true}))
	err := b.cancelOn("ExportVm", b.job(job.FormatRaw), job.Cancelled{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	b.clean()
	b.gone()
}

func TestALeaseWhoseAnswerNeverComesIsRememberedByACancelledRun(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{LeaseTimeout: 2 * time.Second, Faults: []string{"hang:call=ExportVm", "fault:call=Logout,fault=SystemError"}}, rawDisk(t, mib, extent{0, mib, true}))
	def := b.job(job.FormatRaw)
	err := b.cancelOn("ExportVm", def, job.Cancelled{})
	b.owes(err, "an export lease that vSphere may have opened", "times out by itself")
	b.identical(b.export(def)) // waits for it
	b.gone()
}

func TestALeaseThatCannotBeAbortedIsAbortedByTheNextRun(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{LeaseTimeout: time.Hour, Faults: []string{
		"fault:call=HttpNfcLeaseAbort,fault=SystemError,times=2", "fault:call=Logout,fault=SystemError",
	}}, rawDisk(t, 4*mib, extent{0, 4 * mib, false}))
	def := b.job(job.FormatRaw)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	b.OnByte("guest1", 0, mib, func() { cancel(job.Cancelled{}) })
	_, _, err := b.run(ctx, def)
	open := b.Leases()
	if len(open) != 1 {
		t.Fatalf("leases %+v after %v", open, err)
	}
	b.owes(err, "the export lease session[")
	b.identical(b.export(def))
	if l := b.Leases(); len(l) > 0 {
		t.Errorf("leases are left open: %+v", l)
	}
	b.gone()
}

// In one run, too: the next lease can be had only when the first is aborted.
func TestALeaseThatCannotBeAbortedIsAbortedBeforeTheNextOneOfTheRun(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{LeaseTimeout: time.Hour, Faults: []string{
		"fault:call=HttpNfcLeaseAbort,fault=SystemError,times=1", "status:code=404,disk=0",
	}}, rawDisk(t, 4*mib, extent{0, 4 * mib, false}))
	b.m.LeasePause = time.Millisecond
	b.identical(b.export(b.job(job.FormatRaw)))
	b.clean()
}

func TestALeaseThatCanNeitherBeCompletedNorAbortedIsOwed(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{LeaseTimeout: time.Hour, Faults: []string{
		"fault:call=HttpNfcLeaseComplete,fault=SystemError", "fault:call=HttpNfcLeaseAbort,fault=SystemError,times=2",
	}}, rawDisk(t, mib, extent{0, mib, true}))
	def := b.job(job.FormatRaw)
	def.ID = "job-1"
	result := b.export(def)
	if len(result.Owed) != 1 || !strings.Contains(result.Owed[0], "the export lease session[") {
		t.Errorf("owed %q", result.Owed)
	}
	if again := b.export(def); len(again.Owed) != 0 {
		t.Errorf("still owed: %q", again.Owed)
	}
	b.clean()
	b.gone()
}

// hands is the VM in the hands of people. They wait for the task, if act has one.
func (b *bench) hands(act func(ctx context.Context, vm *object.VirtualMachine) (*object.Task, error)) {
	b.t.Helper()
	ctx := context.Background()
	people, err := govmomi.NewClient(ctx, b.URL(), true)
	if err != nil {
		b.t.Fatal(err)
	}
	defer people.CloseIdleConnections()
	vm, err := find.NewFinder(people.Client).VirtualMachine(ctx, path.Join(path.Dir(b.InventoryPath("guest1")), b.Settings("guest1").Name))
	if err != nil {
		b.t.Fatal(err)
	}
	task, err := act(ctx, vm)
	if err == nil && task != nil {
		err = task.Wait(ctx)
	}
	if err := errors.Join(err, people.Logout(ctx)); err != nil {
		b.t.Fatal(err)
	}
}

func TestNothingIsOwedOfAVMThatIsGone(t *testing.T) {
	t.Parallel()
	b, def := runningGuest(t)
	b.cancelAt(def, 0, mib, job.ErrClaimLost) // leaves as a crash does
	b.ExpireLeases()
	if err := b.PowerOff("guest1"); err != nil {
		t.Fatal(err)
	}
	b.hands(func(ctx context.Context, vm *object.VirtualMachine) (*object.Task, error) { return vm.Destroy(ctx) })
	if err := b.cleanUp(def); err != nil {
		t.Error(err)
	}
	b.gone()
}

func TestWhatIsOwedOfAVMThatWasRenamedIsPutBack(t *testing.T) {
	t.Parallel()
	b, def := runningGuest(t)
	b.cancelAt(def, 0, mib, job.ErrClaimLost)
	b.hands(func(ctx context.Context, vm *object.VirtualMachine) (*object.Task, error) {
		return vm.Rename(ctx, "renamed")
	})
	if err := b.cleanUp(def); err != nil {
		t.Error(err)
	}
	if s := b.Snapshots("guest1"); len(s) > 0 {
		t.Errorf("snapshots are left: %v", s)
	}
	b.gone()
}

func TestASnapshotThatSomebodyElseHasRemovedIsNotOwed(t *testing.T) {
	t.Parallel()
	b, def := runningGuest(t)
	b.cancelAt(def, 0, mib, job.ErrClaimLost)
	ctx := t.Context()
	c, err := vsphere.Dial(ctx, b.config())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	vm, err := c.Find(ctx, "guest1")
	if err != nil {
		t.Fatal(err)
	}
	found, err := c.FindSnapshots(ctx, vm, vsphere.SnapshotPrefix)
	if err != nil || len(found) != 1 {
		t.Fatalf("found %+v, %v", found, err)
	}
	if _, err := c.CreateSnapshot(ctx, vm, "of-another-run"); err != nil {
		t.Fatal(err)
	}
	if err := c.RemoveSnapshot(ctx, found[0]); err != nil {
		t.Fatal(err)
	}
	if err := b.cleanUp(def); err != nil {
		t.Error(err)
	}
	if s := b.Snapshots("guest1"); len(s) != 1 || s[0] != vsphere.SnapshotPrefix+"of-another-run" {
		t.Errorf("snapshots %v; want the other run's alone", s)
	}
	b.gone()
}

func TestACancelWhileVCenterIsAwayRemembersEverything(t *testing.T) {
	t.Parallel()
	b, def := runningGuest(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	up := func() {}
	b.OnByte("guest1", 0, mib, func() {
		up = b.Down(vspheretest.Control, vspheretest.Refuse)
		cancel(job.Cancelled{})
	})
	_, _, err := b.run(ctx, def)
	b.owes(err, "the export lease", "the snapshot "+vsphere.SnapshotPrefix)
	up()
	if err := b.cleanUp(def); err != nil {
		t.Error(err)
	}
	if s, l := b.Snapshots("guest1"), b.Leases(); len(s)+len(l) > 0 {
		t.Errorf("left: snapshots %v, leases %+v", s, l)
	}
	b.gone()
}

func TestCleaningUpAsksVSphereOnlyWhenSomethingIsOwed(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, twoDisks(t)...)
	def := b.job(job.FormatRaw)
	def.ID = "job-1"
	def.Options.ParallelDownloads = 1
	b.cancelAt(def, 1, mib, job.ErrShutdown)
	b.m.Endpoint = func(job.Definition) (vsphere.Config, error) {
		t.Error("vSphere is asked")
		return vsphere.Config{}, errors.New("no vCenter")
	}
	if err := b.cleanUp(def); err != nil {
		t.Error(err)
	}
	b.gone()
}

// The ledger is replaced when the VM has changed, and what is owed moves over.
func TestDrivesThatCannotBePutBackStayOwed(t *testing.T) {
	t.Parallel()
	b, def := driveGuest(t)
	def.Options.RemoveCDROM = false
	b.dieWithoutDrives()
	if err := b.AddFault("fault:call=ReconfigVM_Task,fault=InvalidPowerState,times=always"); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{b.cancelOn("ReconfigVM_Task", def, job.Cancelled{}), b.cleanUp(def)} {
		b.owes(err, "CD/DVD drive 1: removed", "fault InvalidPowerState")
	}
	b.ClearFaults()
	if err := b.cleanUp(def); err != nil {
		t.Error(err)
	}
	if !b.CDROM("guest1").Present {
		t.Error("the drive is not back")
	}
	b.gone()
}

func TestAJobThatHasEndedIsSettledWithoutTouchingItsParts(t *testing.T) {
	t.Parallel()
	b, def := driveGuest(t)
	def.ID = "job-1"
	b.cancelAt(def, 0, mib, job.ErrClaimLost) // leaves as a crash does
	if b.CDROM("guest1").Present {
		t.Fatal("the drive is there")
	}
	other := def
	other.ID = "job-2"
	owes := func(d job.Definition, want bool) {
		t.Helper()
		if got, err := b.m.Owes(d); got != want || err != nil {
			t.Errorf("%s owes something: %t, %v; want %t", d.ID, got, err, want)
		}
	}
	resumes := func(d job.Definition, want bool) {
		t.Helper()
		if got, err := b.m.Resumes(d); got != want || err != nil {
			t.Errorf("%s goes on from what is here: %t, %v; want %t", d.ID, got, err, want)
		}
	}
	owes(other, false)
	owes(def, true)
	resumes(other, false)
	resumes(def, true)
	for _, d := range []job.Definition{other, def} {
		if err := b.m.Settle(t.Context(), d, progress.New()); err != nil {
			t.Errorf("%s: %v", d.ID, err)
		}
		if back := b.CDROM("guest1").Present; back != (d.ID == def.ID) {
			t.Errorf("after %s the drive is there: %t", d.ID, back)
		}
	}
	owes(def, false)
	resumes(def, false)
	b.clean()
}

func TestAFinishedExportIsOneThatAnotherRunOfItsJobGoesOnFrom(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, rawDisk(t, mib, extent{0, mib, true}))
	def := b.job(job.FormatRaw)
	def.ID = "job-1"
	resumes := func(d job.Definition, want bool) {
		t.Helper()
		if got, err := b.m.Resumes(d); got != want || err != nil {
			t.Errorf("%s goes on from what is here: %t, %v; want %t", d.ID, got, err, want)
		}
	}
	resumes(def, false)
	if _, err := b.m.Run(t.Context(), def, progress.New()); err != nil {
		t.Fatal(err)
	}
	resumes(def, true)
	def.ID = "job-2"
	resumes(def, false)
	if err := os.WriteFile(filepath.Join(b.out, "guest1.export.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	def.ID = "job-1"
	resumes(def, false)
}

func TestARunSaysThatALedgerCannotBeRead(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, rawDisk(t, mib, extent{0, mib, true}))
	work := filepath.Join(b.out, ".hyper2kvm-guest1")
	if err := os.MkdirAll(work, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(work, "ledger.json"), []byte{0, 0}, 0o600); err != nil {
		t.Fatal(err)
	}
	result := b.export(b.job(job.FormatRaw))
	b.identical(result)
	if notes := strings.Join(result.Notes, "\n"); !strings.Contains(notes, "nobody knows what that run left at vSphere") {
		t.Errorf("notes %q", notes)
	}
}

func TestAVMThatIsBusyForAMomentIsWaitedForBeforeItIsChanged(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{
		VMs:    []vspheretest.VM{{Name: "guest1", PoweredOn: true, ISO: []byte("an ISO image")}},
		Faults: []string{"fault:call=CreateSnapshot_Task,fault=TaskInProgress,times=3", "fault:call=ReconfigVM_Task,fault=TaskInProgress,times=3"},
	}, rawDisk(t, mib, extent{0, mib, true}))
	def := b.job(job.FormatRaw)
	def.Options.Snapshot, def.Options.RemoveCDROM = true, true
	b.identical(b.export(def))
	b.clean()
}
