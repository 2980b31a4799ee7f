package vsphere

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/internal/panics"
)

const (
	// cleanup bounds what is still done, and waited for, after the caller's
	// context has ended: a person waits for it, or a shutdown.
	cleanup = 10 * time.Second
	// patience bounds how long a VM that is busy with something else, such as
	// a backup or the end of an aborted export, is waited for.
	patience = 20 * time.Second
)

// Task is something that vSphere does on its own once it was asked for it: it
// goes on when this process dies.
type Task struct {
	Ref  string // managed object id, as task-123
	What string // as "create the snapshot hyper2kvm-…"
	On   string // inventory path of the VM; may be empty
}

// Wait is something that may take vSphere more than a moment.
type Wait struct {
	Task            // Ref is "" when it is no task, or one whose id is not known
	Since time.Time // when it was asked for
	Busy  bool      // it cannot begin yet: the VM is busy with something else
}

// String words it for people.
func (w Wait) String() string {
	s := "waiting for vSphere to "
	if w.Busy {
		s = "the VM is busy with another task (a backup, a migration, another export); waiting for its end to "
	}
	s += w.What
	if w.Ref != "" {
		s += " (" + w.Ref + ")"
	}
	return s + ", since " + w.Since.Format(time.TimeOnly)
}

// PendingError says that vSphere was asked for a change and that its end is not
// known: it may still take effect. It is an [ErrPending], and also what Err is.
type PendingError struct {
	Wait
	Err error // why the end is not known
}

// Error says why the end is not known, and which task is at work.
func (e *PendingError) Error() string {
	if e.Ref == "" {
		return e.Err.Error()
	}
	return fmt.Sprintf("%v; vSphere may still %s (%s, since %s)", e.Err, e.What, e.Ref, e.Since.Format(time.TimeOnly))
}

// Unwrap gives [ErrPending] and the reason.
func (e *PendingError) Unwrap() []error { return []error{ErrPending, e.Err} }

// waiting tells who listens that w is waited for; over, that it is over.
func (c *Client) waiting(w Wait) (over func()) {
	if c.cfg.OnWait == nil {
		return func() {}
	}
	return c.cfg.OnWait(w)
}

// taskError is a task that failed.
type taskError struct{ fault *types.LocalizedMethodFault }

func (e *taskError) Error() string {
	if e.fault == nil {
		return "the task failed without a reason"
	}
	return e.fault.LocalizedMessage
}

func (e *taskError) Fault() types.BaseMethodFault {
	if e.fault == nil {
		return nil
	}
	return e.fault.Fault
}

// runTask starts a task and waits for its end until late ends. When ctx ends,
// the task is asked to stop. Its success is one also after the end of ctx:
// whoever asked for it looks, and undoes it.
//
// A [PendingError] says that the end is not known; after any other error the
// task has had no effect.
func (c *Client) runTask(ctx, late context.Context, t Task, start func(context.Context) (types.ManagedObjectReference, error)) (any, error) {
	w := Wait{Task: t, Since: time.Now()}
	over := c.waiting(w)
	task, err := start(late)
	over()
	if err != nil {
		if errors.Is(err, ErrUncertain) {
			return nil, &PendingError{w, translate(t.What, t.On, err)}
		}
		return nil, err
	}
	w.Ref = task.Value
	c.named(w.Task)
	defer c.stopTask(ctx, late, task)()
	defer c.waiting(w)()
	result, err := c.waitTask(late, task)
	switch {
	case err == nil:
		return result, nil
	case ctx.Err() != nil: // also when it was stopped, for that may have come too late
		return nil, &PendingError{w, ctx.Err()}
	case errors.As(err, new(*taskError)):
		return nil, err
	}
	return nil, &PendingError{w, err}
}

// named tells of a task as soon as it has an id.
func (c *Client) named(t Task) {
	if c.cfg.OnTask != nil {
		c.cfg.OnTask(t)
	}
}

// stopTask asks a task to stop when ctx ends, which many tasks cannot. done ends
// that.
func (c *Client) stopTask(ctx, late context.Context, task types.ManagedObjectReference) (done func()) {
	asked := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(asked)
		call, cancel := context.WithTimeout(late, grace)
		defer cancel()
		_ = panics.Catch(func() error {
			_, err := methods.CancelTask(call, c.vim(), &types.CancelTask{This: task})
			return err
		})
	})
	return func() {
		if !stop() {
			<-asked
		}
	}
}

func ended(t types.TaskInfo) bool {
	return t.State == types.TaskInfoStateSuccess || t.State == types.TaskInfoStateError
}

// waitTask waits for a task's end. An error other than a [taskError] leaves open
// what comes of the task.
func (c *Client) waitTask(ctx context.Context, task types.ManagedObjectReference) (any, error) {
	var info types.TaskInfo
	err := poll(ctx, func() (bool, error) {
		var t mo.Task
		if err := c.properties(ctx, task, []string{"info"}, &t); err != nil {
			return false, err
		}
		info = t.Info
		return ended(info), nil
	})
	if err != nil {
		return nil, err
	}
	if info.State == types.TaskInfoStateError {
		return nil, &taskError{info.Error}
	}
	return info.Result, nil
}

// Settled waits for the end of something that was asked of a VM, by this
// process or by one that died: of its task, or of every task that the VM has
// when the id of that is not known. The error says that it has not ended by the
// end of ctx; it is a [PendingError] then. A task that vSphere has forgotten has
// ended, and so have those of a VM that is gone (F-TASK-1).
func (c *Client) Settled(ctx context.Context, vm VM, w Wait) error {
	defer c.waiting(w)()
	if w.Ref == "" {
		return c.tasksEnded(ctx, vm, w, func(types.TaskInfo) bool { return true })
	}
	return c.taskEnded(ctx, vm, w)
}

// AwaitSnapshots waits until no snapshot of a VM is being made, whoever asked for
// it. Its errors are those of Settled.
func (c *Client) AwaitSnapshots(ctx context.Context, vm VM) error {
	w := Wait{Task: Task{What: "make a snapshot", On: vm.Path}, Since: time.Now()}
	defer c.waiting(w)()
	return c.tasksEnded(ctx, vm, w, func(t types.TaskInfo) bool { return strings.Contains(t.DescriptionId, "createSnapshot") })
}

// tasksEnded waits for the end of the VM's tasks that count.
func (c *Client) tasksEnded(ctx context.Context, vm VM, w Wait, counts func(types.TaskInfo) bool) error {
	var m mo.VirtualMachine
	err := c.everyProperty(ctx, vmRef(vm.Ref), []string{"recentTask"}, &m)
	if isFault(err, "ManagedObjectNotFound") {
		return nil
	}
	if err != nil {
		return &PendingError{w, translate("read the tasks", vm.Path, err)}
	}
	for _, ref := range m.RecentTask {
		w.Ref = ref.Value
		var t mo.Task
		err := c.everyProperty(ctx, ref, []string{"info"}, &t)
		switch {
		case isFault(err, "ManagedObjectNotFound"), err == nil && (ended(t.Info) || !counts(t.Info)):
			continue
		case err != nil:
			return &PendingError{w, translate("read the task "+w.Ref, vm.Path, err)}
		}
		if err := c.taskEnded(ctx, vm, w); err != nil {
			return err
		}
	}
	return nil
}

// taskEnded waits for the end of one task.
func (c *Client) taskEnded(ctx context.Context, vm VM, w Wait) error {
	_, err := c.waitTask(ctx, types.ManagedObjectReference{Type: "Task", Value: w.Ref})
	if err == nil || errors.As(err, new(*taskError)) || isFault(err, "ManagedObjectNotFound") {
		return nil
	}
	return &PendingError{w, translate("wait for "+w.Ref, vm.Path, err)}
}

// undoing returns a context for undoing something: ctx with a moment for the
// last call to be answered or, when ctx has ended already, one of its own.
func undoing(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() != nil {
		return context.WithTimeout(context.WithoutCancel(ctx), cleanup)
	}
	return bounded(ctx, grace)
}

// patient runs step again while the VM is busy with something else.
func (c *Client) patient(ctx context.Context, t Task, step func() error) error {
	var busy error
	over, began := func() {}, time.Now()
	defer func() { over() }()
	err := poll(ctx, func() (bool, error) {
		err := step()
		if !isFault(err, "TaskInProgress", "ConcurrentAccess") || time.Since(began) > patience {
			return true, err
		}
		if busy == nil {
			over = c.waiting(Wait{Task: t, Since: began, Busy: true})
		}
		busy = err
		return false, nil
	})
	if busy != nil && err != nil && errors.Is(err, ctx.Err()) {
		return busy // which says more
	}
	return err
}

var errNoRef = errors.New("the answer names no object")
