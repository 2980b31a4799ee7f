package vsphere_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// written is a change as a process finds it that has only what the one before
// it wrote down.
func written(t *testing.T, c *vsphere.Client, vm vsphere.VM, change *vsphere.CDROMChange) *vsphere.CDROMChange {
	t.Helper()
	record, err := json.Marshal(change)
	if err != nil {
		t.Fatal(err)
	}
	if change, err = c.LoadCDROM(vm, record); err != nil {
		t.Fatal(err)
	}
	return change
}

// plan plans a change of one drive.
func plan(t *testing.T, c *vsphere.Client, vm vsphere.VM, earlier *vsphere.CDROMChange) *vsphere.CDROMChange {
	t.Helper()
	change, err := c.PlanCDROM(t.Context(), vm, earlier)
	if err != nil || len(change.Drives) != 1 {
		t.Fatalf("planned %+v, %v", change, err)
	}
	return change
}

// apply makes a change.
func apply(t *testing.T, change *vsphere.CDROMChange) {
	t.Helper()
	if err := change.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// hands does to a VM what people do behind the product's back.
func hands(t *testing.T, lab *vspheretest.Server, ref string) *object.VirtualMachine {
	t.Helper()
	people, err := govmomi.NewClient(t.Context(), lab.URL(), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := people.Logout(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		people.CloseIdleConnections()
	})
	return object.NewVirtualMachine(people.Client, types.ManagedObjectReference{Type: "VirtualMachine", Value: ref})
}

func powerOn(t *testing.T, vm *object.VirtualMachine) {
	t.Helper()
	task, err := vm.PowerOn(t.Context())
	await(t, task, err)
}

func powerOff(t *testing.T, vm *object.VirtualMachine) {
	t.Helper()
	task, err := vm.PowerOff(t.Context())
	await(t, task, err)
}

// await waits for a task that was started unless err is not nil.
func await(t *testing.T, task *object.Task, err error) {
	t.Helper()
	if err == nil {
		err = task.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestADriveOfAnEarlierChangeIsPutBackOnceAndAsItWasFirst(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		on      bool
		applied bool                                     // the earlier change
		between func(*testing.T, *object.VirtualMachine) // nil for nothing
		killed  bool                                     // before the later change took effect
	}{
		"removed":                                    {applied: true},
		"about to be removed":                        {},
		"about to be removed twice":                  {killed: true},
		"about to be removed, then running":          {between: powerOn},
		"disconnected":                               {on: true, applied: true},
		"about to be disconnected":                   {on: true},
		"disconnected, then powered off":             {on: true, applied: true, between: powerOff},
		"about to be disconnected, then powered off": {on: true, between: powerOff},
		"disconnected, then about to be removed":     {on: true, applied: true, between: powerOff, killed: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{{
				Name: "web", PoweredOn: tt.on, ISO: []byte("iso"), Disks: []vspheretest.Disk{{Path: rawDisk(t, "d", 1<<20)}},
			}}})
			c := dial(t, labConfig(t, lab))
			vm := find(t, c, "web")
			people := hands(t, lab, vm.Ref)
			before := lab.CDROM("web")

			change := plan(t, c, vm, nil)
			if tt.applied {
				apply(t, change)
			}
			change = written(t, c, vm, change)
			if tt.between != nil {
				tt.between(t, people)
			}
			change = plan(t, c, vm, change)
			if !tt.killed {
				apply(t, change)
				if now := lab.CDROM("web"); now.Image != "" {
					t.Errorf("after the change: %+v", now)
				}
			}
			change = written(t, c, vm, change)
			for range 2 {
				if err := change.Restore(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if after := lab.CDROM("web"); after != before {
				t.Errorf("drive %+v, was %+v", after, before)
			}
			devices, err := people.Device(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if n := len(devices.SelectByType((*types.VirtualCdrom)(nil))); n != 1 {
				t.Errorf("%d drives", n)
			}
		})
	}
}
