package migrate_test

import (
	"context"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// finishing is a bench whose VM runs and has two cards, and the export of it that stops
// and marks it in every way.
func finishing(t *testing.T, faults ...string) (*bench, job.Definition) {
	t.Helper()
	b := newBench(t, vspheretest.Config{
		VMs:    []vspheretest.VM{{Name: "guest1", PoweredOn: true, Guest: tools(), NICs: []vspheretest.NIC{{}, {Type: "e1000e"}}}},
		Faults: faults,
	}, rawDisk(t, mib, extent{0, mib, true}))
	def := b.stopping()
	def.Options.Finish = "tag,rename,disconnect"
	return b, def
}

// marked checks that the VM is marked in every way.
func (b *bench) marked() {
	b.t.Helper()
	s := b.Settings("guest1")
	day := time.Now().Format(time.DateOnly)
	if s.Name != "guest1-migrated-"+day || s.Attributes[vsphere.MarkAttribute] != "migrated "+day || !reflect.DeepEqual(s.Cards, []bool{false, false}) {
		b.t.Errorf("the VM is %+v", s)
	}
}

// back goes back to the source and returns what was left.
func (b *bench) back() []string {
	b.t.Helper()
	found, err := b.m.Exports(b.out, "")
	if err != nil || len(found) != 1 {
		b.t.Fatalf("%+v, %v", found, err)
	}
	tr := progress.New()
	def := b.job(job.FormatRaw)
	def.Options = job.Options{Rollback: job.Rollback{Back: true, TargetIsStopped: true}}
	left, err := b.m.Rollback(context.Background(), def, found[0], tr)
	if err != nil {
		b.t.Errorf("rollback: %v\n%s", err, events(tr))
	}
	return left
}

func TestTheSourceIsMarkedAfterSuccessAndRollbackUndoesIt(t *testing.T) {
	t.Parallel()
	b, def := finishing(t)
	before := b.Settings("guest1")
	b.identical(b.export(def))
	b.marked()
	served := b.BytesServed("guest1", 0)
	b.m.AcceptFinished = true
	for _, ref := range []string{"guest1", b.InventoryPath("guest1"), b.Settings("guest1").Name} { // it is found by every name
		def.VMPath = ref
		if result := b.export(def); !result.Earlier || b.BytesServed("guest1", 0) != served {
			t.Errorf("%s: exported again: %+v", ref, result)
		}
	}
	b.marked()
	def.VMPath = "guest1"
	for range 2 {
		if left := b.back(); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
		if after := b.Settings("guest1"); !reflect.DeepEqual(after, before) {
			t.Errorf("the VM was %+v and is %+v", before, after)
		}
		b.runs()
	}
	if b.asked("PowerOnVM_Task") != 1 {
		t.Error("it was powered on twice")
	}
	if _, _, err := b.run(t.Context(), def); !errors.Is(err, migrate.ErrExists) {
		t.Errorf("an export that is older than the VM counts: %v", err)
	}
	b.gone()
}

func TestMarkingGoesOnWhenAnAnswerIsLost(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{
		"lose:call=ReconfigVM_Task", "lose:call=ReconfigVM_Task,effect=false", "lose:call=SetField", "lose:call=AddCustomFieldDef",
		"lose:call=AddCustomFieldDef,how=503", "task:call=ReconfigVM_Task,takes=1s", "lose:call=ReconfigVM_Task,how=html",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			b, def := finishing(t, fault)
			before := b.Settings("guest1")
			b.identical(b.export(def))
			b.marked()
			if err := b.AddFault(strings.Replace(fault, "AddCustomFieldDef", "SetField", 1)); err != nil {
				t.Fatal(err)
			}
			if left := b.back(); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
			if after := b.Settings("guest1"); !reflect.DeepEqual(after, before) {
				t.Errorf("the VM was %+v and is %+v", before, after)
			}
			b.runs()
			b.gone()
		})
	}
}

func TestASourceThatCannotBeMarkedIsLeftAsItWas(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{
		"task:call=ReconfigVM_Task,fault=SystemError,takes=1ms,times=always", "fault:call=SetField,fault=NoPermission,times=always",
		"fault:call=AddCustomFieldDef,fault=NoPermission,times=always", "fault:call=ReconfigVM_Task,fault=NoPermission,times=always",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			b, def := finishing(t, fault)
			before := b.Settings("guest1")
			_, _, err := b.run(t.Context(), def)
			if err == nil || !strings.Contains(err.Error(), "finishing") {
				t.Errorf("error %v", err)
			}
			b.ClearFaults()
			if err := b.cleanUp(def); err != nil {
				t.Error(err)
			}
			if after := b.Settings("guest1"); !reflect.DeepEqual(after, before) {
				t.Errorf("the VM was %+v and is %+v", before, after)
			}
			b.runs()
			b.gone()
		})
	}
}

func TestARunThatIsKilledWhileItMarksIsFinishedByTheNextOrUndone(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"AddCustomFieldDef", "SetField", "ReconfigVM_Task"} {
		for name, next := range map[string]bool{"the next run": true, "cleaning up": false} {
			t.Run(method+", "+name, func(t *testing.T) {
				t.Parallel()
				b, def := finishing(t)
				before := b.Settings("guest1")
				_ = b.cancelOn(method, def, job.ErrClaimLost)
				b.m.AcceptFinished = true
				if next {
					if result := b.export(def); !result.Earlier {
						t.Error("it was exported again")
					}
					b.marked()
					b.back()
				} else if err := b.cleanUp(def); err != nil {
					t.Error(err)
				}
				if after := b.Settings("guest1"); !reflect.DeepEqual(after, before) {
					t.Errorf("the VM was %+v and is %+v", before, after)
				}
				b.runs()
				b.gone()
			})
		}
	}
}

func TestWhatOthersHaveChangedSinceIsNamedAndStays(t *testing.T) {
	t.Parallel()
	b, def := finishing(t)
	b.export(def)
	b.hands(func(ctx context.Context, vm *object.VirtualMachine) (*object.Task, error) {
		return vm.Reconfigure(ctx, types.VirtualMachineConfigSpec{Name: "kept-as-archive"})
	})
	left := b.back()
	if len(left) != 1 || !strings.Contains(left[0], "kept-as-archive") || b.Settings("guest1").Name != "kept-as-archive" {
		t.Errorf("left: %q, the VM is %+v", left, b.Settings("guest1"))
	}
	if s := b.Settings("guest1"); len(s.Attributes) > 0 || !reflect.DeepEqual(s.Cards, []bool{true, true}) {
		t.Errorf("the rest is not undone: %+v", s)
	}
	b.runs()
}

func TestASourceThatTheExportDidNotStopIsNotPoweredOn(t *testing.T) {
	t.Parallel()
	b, def := finishing(t)
	if err := b.PowerOff("guest1"); err != nil {
		t.Fatal(err)
	}
	b.export(def)
	b.marked()
	b.back()
	if b.PowerState("guest1") != vsphere.PoweredOff {
		t.Error("it was off, and runs")
	}
}

func TestOnlyAFinishedExportIsGoneBackFrom(t *testing.T) {
	t.Parallel()
	b, def := finishing(t)
	if found, err := b.m.Exports(filepath.Dir(b.out), ""); err != nil || len(found) > 0 {
		t.Errorf("%+v, %v", found, err)
	}
	b.export(def)
	for vm, n := range map[string]int{"": 1, "guest1": 1, b.InventoryPath("guest1"): 1, "another": 0} {
		if found, err := b.m.Exports(b.out, vm); err != nil || len(found) != n {
			t.Errorf("%q: %+v, %v", vm, found, err)
		}
	}
}
