package vspheretest

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// taskAnswers are the calls whose task the lab can keep running, and the answer
// that names it.
var taskAnswers = map[string]func(types.ManagedObjectReference) soap.HasFault{
	"CreateSnapshot_Task": func(task types.ManagedObjectReference) soap.HasFault {
		return &methods.CreateSnapshot_TaskBody{Res: &types.CreateSnapshot_TaskResponse{Returnval: task}}
	},
	"CreateSnapshotEx_Task": func(task types.ManagedObjectReference) soap.HasFault {
		return &methods.CreateSnapshotEx_TaskBody{Res: &types.CreateSnapshotEx_TaskResponse{Returnval: task}}
	},
	"RemoveSnapshot_Task": func(task types.ManagedObjectReference) soap.HasFault {
		return &methods.RemoveSnapshot_TaskBody{Res: &types.RemoveSnapshot_TaskResponse{Returnval: task}}
	},
	"RemoveAllSnapshots_Task": func(task types.ManagedObjectReference) soap.HasFault {
		return &methods.RemoveAllSnapshots_TaskBody{Res: &types.RemoveAllSnapshots_TaskResponse{Returnval: task}}
	},
	"ReconfigVM_Task": func(task types.ManagedObjectReference) soap.HasFault {
		return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: task}}
	},
	"PowerOnVM_Task": func(task types.ManagedObjectReference) soap.HasFault {
		return &methods.PowerOnVM_TaskBody{Res: &types.PowerOnVM_TaskResponse{Returnval: task}}
	},
	"PowerOffVM_Task": func(task types.ManagedObjectReference) soap.HasFault {
		return &methods.PowerOffVM_TaskBody{Res: &types.PowerOffVM_TaskResponse{Returnval: task}}
	},
}

// busyMethods are refused on a VM while a slow task of it runs, beside lockedMethods.
var busyMethods = []string{
	"CreateSnapshot_Task", "CreateSnapshotEx_Task", "RevertToSnapshot_Task", "ReconfigVM_Task", "CloneVM_Task",
	"PowerOffVM_Task", "SuspendVM_Task", "ResetVM_Task", "ExportVm", "ExportSnapshot",
}

// slowTask is a task that a fault keeps running.
type slowTask struct {
	srv    *Server
	rule   *fault
	guest  *guest
	method string
	this   types.ManagedObjectReference // what the call was made on
	ctx    *simulator.Context
	body   types.AnyType // the request
	task   *simulator.Task

	cancel    func() // closes cancelled
	cancelled chan struct{}
}

// taskTable holds the slow tasks that run.
type taskTable struct {
	mu      sync.Mutex
	running map[types.ManagedObjectReference]*slowTask // by VM
	made    int
	wait    sync.WaitGroup
}

// on returns the slow task of a VM, or nil.
func (t *taskTable) on(vm types.ManagedObjectReference) *slowTask {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running[vm]
}

// named returns the slow task that a client knows by ref, or nil.
func (t *taskTable) named(ref types.ManagedObjectReference) *slowTask {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.running {
		if s.task.Self == ref {
			return s
		}
	}
	return nil
}

// add registers s under a name of its own; false when its VM is busy.
func (t *taskTable) add(s *slowTask) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running[s.guest.ref] != nil {
		return false
	}
	if t.running == nil {
		t.running = make(map[types.ManagedObjectReference]*slowTask)
	}
	t.made++
	s.task.Self = types.ManagedObjectReference{Type: "Task", Value: fmt.Sprintf("task-slow-%d", t.made)}
	t.running[s.guest.ref] = s
	return true
}

func (t *taskTable) remove(s *slowTask) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.running, s.guest.ref)
}

// TaskState is a task that a fault keeps running.
type TaskState struct {
	VM     string // inventory path
	Method string // such as CreateSnapshot_Task
	Task   types.ManagedObjectReference
}

// RunningTasks returns the slow tasks that have not ended.
func (s *Server) RunningTasks() []TaskState {
	s.tasks.mu.Lock()
	defer s.tasks.mu.Unlock()
	var states []TaskState
	for t := range maps.Values(s.tasks.running) {
		states = append(states, TaskState{t.guest.path, t.method, t.task.Self})
	}
	slices.SortFunc(states, func(a, b TaskState) int { return strings.Compare(a.Task.Value, b.Task.Value) })
	return states
}

// slowTask returns a handler that starts the slow task of a call, if a fault
// wants one; nil otherwise.
func (g *gateway) slowTask(method *simulator.Method, guest *guest) *taskStart {
	if guest == nil || taskAnswers[method.Name] == nil {
		return nil
	}
	f := g.srv.faults.strikeCall(method.Name, guest, faultTask)
	if f == nil {
		return nil
	}
	t := &slowTask{
		srv: g.srv, rule: f, guest: guest, method: method.Name, this: method.This, cancelled: make(chan struct{}),
	}
	t.cancel = sync.OnceFunc(func() { close(t.cancelled) })
	method.This, method.Name = gatewayRef, "Start"
	return &taskStart{slow: t}
}

// taskStart answers the call that starts a slow task.
type taskStart struct {
	unlocked
	slow *slowTask
}

// Start has the shape of a method that the simulator calls.
func (o *taskStart) Start(ctx *simulator.Context, body types.AnyType) soap.HasFault {
	t := o.slow
	own := *t.srv.simContext() // the task outlives the call, and needs locks of its own
	own.Session = ctx.Session
	t.ctx, t.body = &own, body

	short := strings.TrimSuffix(t.method, "_Task")
	t.task = simulator.CreateTask(t.guest.ref, short, nil)
	info := &t.task.Info
	info.Name, info.DescriptionId = t.method, "VirtualMachine."+strings.ToLower(short[:1])+short[1:]
	info.EntityName = t.guest.escaped
	info.Cancelable = t.rule.cancel == "true" || t.rule.cancel == "ignore"
	info.State, info.StartTime = types.TaskInfoStateRunning, new(time.Now())
	if !t.srv.tasks.add(t) {
		return &refusedBody{simulator.Fault("Another task is already in progress.", &types.TaskInProgress{})}
	}
	info.Key, info.Task = t.task.Self.Value, t.task.Self
	vm := ctx.Map.Get(t.guest.ref)
	ctx.WithLock(vm, func() { ctx.Map.Put(t.task) }) // and into the VM's recentTask
	released := t.srv.released.opened()
	effect := t.effect
	if t.rule.early {
		result, failed := t.effect()
		effect = func() (types.AnyType, *types.LocalizedMethodFault) { return result, failed }
	}
	t.srv.tasks.wait.Go(func() { t.run(released, effect) })
	return taskAnswers[t.method](t.task.Self)
}

// run waits, has the effect, and ends the task, in this order.
func (t *slowTask) run(released <-chan struct{}, effect func() (types.AnyType, *types.LocalizedMethodFault)) {
	timer := time.NewTimer(t.rule.lasts)
	defer timer.Stop()
	var result types.AnyType
	var failed *types.LocalizedMethodFault
	select {
	case <-t.srv.closed:
		t.srv.tasks.remove(t)
		return
	case <-t.cancelled:
		failed = &types.LocalizedMethodFault{Fault: &types.RequestCanceled{}, LocalizedMessage: "The task was canceled by a user."}
	case <-timer.C:
		result, failed = effect()
	case <-released:
		result, failed = effect()
	}
	t.srv.tasks.remove(t) // first: who sees the task's end finds the VM free
	changes := []types.PropertyChange{
		{Name: "info.completeTime", Val: time.Now()},
		{Name: "info.state", Val: types.TaskInfoStateSuccess},
		{Name: "info.result", Val: result},
	}
	if failed != nil {
		changes[1].Val = types.TaskInfoStateError
		changes = append(changes, types.PropertyChange{Name: "info.error", Val: failed})
	}
	t.ctx.Map.AtomicUpdate(t.ctx, t.task, changes)
}

// effect does what the call asked for, through a task of the simulator's that
// nobody gets to see.
func (t *slowTask) effect() (types.AnyType, *types.LocalizedMethodFault) {
	if t.rule.name != "" {
		return nil, &types.LocalizedMethodFault{Fault: newFault(t.rule.name), LocalizedMessage: "injected fault " + t.rule.name}
	}
	obj := t.ctx.Map.Get(t.this)
	if obj == nil {
		return nil, &types.LocalizedMethodFault{
			Fault: &types.ManagedObjectNotFound{Obj: t.this}, LocalizedMessage: "The object has been deleted.",
		}
	}
	m := reflect.ValueOf(obj).MethodByName(strings.Replace(t.method, "_Task", "Task", 1))
	args := []reflect.Value{reflect.ValueOf(t.ctx), reflect.ValueOf(t.body)}
	var res []reflect.Value
	t.ctx.WithLock(obj, func() { res = m.Call(args[2-m.Type().NumIn():]) })
	body := res[0].Interface().(soap.HasFault)
	if f := body.Fault(); f != nil {
		fault, _ := f.VimFault().(types.BaseMethodFault)
		return nil, &types.LocalizedMethodFault{Fault: fault, LocalizedMessage: f.String}
	}
	ref := reflect.ValueOf(body).Elem().FieldByName("Res").Elem().FieldByName("Returnval").Interface().(types.ManagedObjectReference)
	inner := t.ctx.Map.Get(ref).(*simulator.Task)
	inner.Wait()
	t.hide(ref)
	return inner.Info.Result, inner.Info.Error
}

// hide takes the simulator's task out of what clients see.
func (t *slowTask) hide(ref types.ManagedObjectReference) {
	without := func(refs []types.ManagedObjectReference) []types.PropertyChange {
		kept := slices.DeleteFunc(slices.Clone(refs), func(r types.ManagedObjectReference) bool { return r == ref })
		return []types.PropertyChange{{Name: "recentTask", Val: kept}}
	}
	if vm, ok := t.ctx.Map.Get(t.guest.ref).(*simulator.VirtualMachine); ok {
		t.ctx.WithLock(vm, func() { t.ctx.Update(vm, without(vm.RecentTask)) })
	}
	if m, ok := t.ctx.Map.Get(*t.srv.model.ServiceContent.TaskManager).(*simulator.TaskManager); ok {
		m.Lock()
		t.ctx.Update(m, without(m.RecentTask))
		m.Unlock()
	}
	t.ctx.Map.Remove(t.ctx, ref)
}

// CancelTask ends a slow task if it lets itself be cancelled.
func (g *gateway) CancelTask(ctx *simulator.Context, req *types.CancelTask) soap.HasFault {
	t := g.srv.tasks.named(req.This)
	body := new(methods.CancelTaskBody)
	switch {
	case t == nil:
		body.Fault_ = simulator.Fault("The task has ended.", &types.InvalidState{})
		return body
	case t.rule.cancel == "true":
		t.cancel()
	case t.rule.cancel == "ignore":
		ctx.Map.AtomicUpdate(ctx, t.task, []types.PropertyChange{{Name: "info.cancelled", Val: true}})
	default:
		body.Fault_ = simulator.Fault("The task cannot be cancelled.", &types.NotSupported{})
		return body
	}
	body.Res = new(types.CancelTaskResponse)
	return body
}
