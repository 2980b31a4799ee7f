package vspheretest_test

import (
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func snapshot(t *testing.T, vm *object.VirtualMachine) *object.Task {
	t.Helper()
	task, err := vm.CreateSnapshot(t.Context(), "late", "", false, false)
	if err != nil {
		t.Fatal(err)
	}
	return task
}

func taskInfo(t *testing.T, task *object.Task) types.TaskInfo {
	t.Helper()
	var o mo.Task
	if err := property.DefaultCollector(task.Client()).RetrieveOne(t.Context(), task.Reference(), []string{"info"}, &o); err != nil {
		t.Fatal(err)
	}
	return o.Info
}

func recentTasks(t *testing.T, vm *object.VirtualMachine) []types.ManagedObjectReference {
	t.Helper()
	var o mo.VirtualMachine
	if err := vm.Properties(t.Context(), vm.Reference(), []string{"recentTask"}, &o); err != nil {
		t.Fatal(err)
	}
	return o.RecentTask
}

func TestASlowTaskRunsAndHasItsEffectOnlyAtItsEnd(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.Faults = []string{"task:call=CreateSnapshot_Task,takes=1h"} })
	vm := connect(t, srv).vm("guest1")
	before := len(recentTasks(t, vm))
	task := snapshot(t, vm)

	info := taskInfo(t, task)
	if info.State != types.TaskInfoStateRunning || info.Entity == nil || *info.Entity != vm.Reference() || info.Name != "CreateSnapshot_Task" {
		t.Errorf("while it runs: %+v", info)
	}
	if got := srv.RunningTasks(); len(got) != 1 || got[0].VM != srv.InventoryPath("guest1") || got[0].Task != task.Reference() {
		t.Errorf("running: %+v", got)
	}
	if got := srv.Snapshots("guest1"); len(got) != 0 {
		t.Errorf("snapshots before its end: %q", got)
	}
	_, err := vm.Export(t.Context())
	wantFault[*types.TaskInProgress](t, err, "export meanwhile")
	_, err = vm.Reconfigure(t.Context(), types.VirtualMachineConfigSpec{Annotation: "x"})
	wantFault[*types.TaskInProgress](t, err, "reconfigure meanwhile")
	_, err = vm.PowerOn(t.Context())
	wantFault[*types.TaskInProgress](t, err, "power on meanwhile")
	wantFault[*types.NotSupported](t, task.Cancel(t.Context()), "cancel")

	srv.Release()
	result, err := task.WaitForResult(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := srv.Snapshots("guest1"); len(got) != 1 || len(srv.RunningTasks()) != 0 {
		t.Errorf("after its end: snapshots %q, running %+v", got, srv.RunningTasks())
	}
	if got := recentTasks(t, vm); len(got) != before+1 || got[before] != task.Reference() {
		t.Errorf("recent tasks %v, want one more, %s", got, task.Reference())
	}
	snap := result.Result.(types.ManagedObjectReference)
	if _, err := vm.ExportSnapshot(t.Context(), &snap); err != nil {
		t.Errorf("export of the snapshot: %v", err)
	}
}

func TestASlowTaskOutlivesTheSessionThatStartedIt(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) {
		c.VMs[0].ISO = []byte("image")
		c.Faults = []string{"task:call=ReconfigVM_Task,takes=1h"}
	})
	c := connect(t, srv)
	vm := c.vm("guest1")
	if _, err := vm.Reconfigure(t.Context(), types.VirtualMachineConfigSpec{Annotation: "changed"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	vm = connect(t, srv).vm("guest1")
	task := object.NewTask(vm.Client(), srv.RunningTasks()[0].Task)
	srv.Release()
	if err := task.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	var o mo.VirtualMachine
	if err := vm.Properties(t.Context(), vm.Reference(), []string{"config.annotation"}, &o); err != nil {
		t.Fatal(err)
	}
	if o.Config.Annotation != "changed" {
		t.Error("the task had no effect")
	}
}

func TestASlowTaskEndsByItself(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) {
		c.VMs[0].Snapshots = []string{"old"}
		c.Faults = []string{"task:call=RemoveSnapshot_Task,takes=1ms"}
	})
	removeSnapshot(t, connect(t, srv).vm("guest1"), "old")
	if got := srv.Snapshots("guest1"); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

func TestASlowTaskCanHaveItsEffectFirst(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) {
		c.VMs[0].Snapshots = []string{"old"}
		c.Faults = []string{"task:call=RemoveSnapshot_Task,takes=1h,effect=first"}
	})
	c := connect(t, srv)
	vm := c.vm("guest1")
	task, err := vm.RemoveSnapshot(t.Context(), "old", false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := srv.Snapshots("guest1"); len(got) != 0 {
		t.Errorf("snapshots: %q", got)
	}
	if info := taskInfo(t, task); info.State != types.TaskInfoStateRunning {
		t.Errorf("after its effect: %s", info.State)
	}
	srv.Release()
	if err := task.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestASlowTaskIsCancelledAsTheFaultSays(t *testing.T) {
	t.Parallel()
	for cancel, left := range map[string]int{"true": 0, "ignore": 1} {
		srv := oneVM(t, func(c *vspheretest.Config) {
			c.Faults = []string{"task:call=CreateSnapshot_Task,takes=1h,cancel=" + cancel}
		})
		vm := connect(t, srv).vm("guest1")
		task := snapshot(t, vm)
		if err := task.Cancel(t.Context()); err != nil {
			t.Fatalf("cancel=%s: %v", cancel, err)
		}
		if cancel == "ignore" {
			if info := taskInfo(t, task); !info.Cancelled || info.State != types.TaskInfoStateRunning {
				t.Errorf("cancel=ignore: %+v", info)
			}
			srv.Release()
		}
		err := task.Wait(t.Context())
		if cancel == "true" {
			wantFault[*types.RequestCanceled](t, err, "wait")
		} else if err != nil {
			t.Errorf("cancel=ignore: %v", err)
		}
		if got := len(srv.Snapshots("guest1")); got != left {
			t.Errorf("cancel=%s: %d snapshots, want %d", cancel, got, left)
		}
		wantFault[*types.InvalidState](t, task.Cancel(t.Context()), "cancel again")
	}
}

func TestASlowTaskCanFail(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) {
		c.Faults = []string{"task:call=CreateSnapshot_Task,takes=1ms,fault=SnapshotFault"}
	})
	err := snapshot(t, connect(t, srv).vm("guest1")).Wait(t.Context())
	wantFault[*types.SnapshotFault](t, err, "wait")
	if got := srv.Snapshots("guest1"); len(got) != 0 {
		t.Errorf("snapshots: %q", got)
	}
}

func TestCloseDoesNotWaitForSlowTasks(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.Faults = []string{"task:call=CreateSnapshot_Task,takes=1h"} })
	vm := connect(t, srv).vm("guest1")
	task := snapshot(t, vm)
	srv.Close()
	if _, err := methods.CancelTask(t.Context(), vm.Client(), &types.CancelTask{This: task.Reference()}); err == nil {
		t.Error("the closed server answers")
	}
}
