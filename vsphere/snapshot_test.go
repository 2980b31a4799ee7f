package vsphere_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// snapshots lists all snapshots of a VM.
func snapshots(t *testing.T, c *vsphere.Client, vm vsphere.VM) []vsphere.SnapshotRef {
	t.Helper()
	found, err := c.FindSnapshots(t.Context(), vm, "")
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestASnapshotIsWaitedForAlthoughConnectionsAreLostMeanwhile(t *testing.T) {
	t.Parallel()
	model, cfg := simulate(t, nil)
	c := dial(t, cfg)
	vm := find(t, c, "DC0_H0_VM0")
	const losses = 4 // more than a reading call alone bears
	var lost atomic.Int32
	intercept(model, func(_ *simulator.Context, m *simulator.Method) types.BaseMethodFault {
		if readsTask(m) && lost.Add(1) <= losses {
			panic(http.ErrAbortHandler) // closes the connection
		}
		return nil
	})
	snap, err := c.CreateSnapshot(t.Context(), vm, "bumpy")
	if err != nil || lost.Load() <= losses {
		t.Fatalf("error %v after %d losses", err, lost.Load())
	}
	if left := snapshots(t, c, vm); len(left) != 1 || left[0].Ref != snap.Ref {
		t.Errorf("made %+v, there is %+v", snap, left)
	}
}

// losses keep a client from learning that its snapshot was made. then is called
// when that is so.
var losses = map[string]func(then func()) func(*simulator.Context, *simulator.Method) types.BaseMethodFault{
	"the answer to the call is lost": func(then func()) func(*simulator.Context, *simulator.Method) types.BaseMethodFault {
		return func(ctx *simulator.Context, m *simulator.Method) types.BaseMethodFault {
			if req, ok := m.Body.(*types.CreateSnapshot_Task); ok {
				vm := ctx.Map.Get(m.This).(*simulator.VirtualMachine)
				ctx.WithLock(vm, func() { vm.CreateSnapshotTask(ctx, req) })
				then()
				panic(http.ErrAbortHandler)
			}
			return nil
		}
	},
	"the task cannot be read": func(then func()) func(*simulator.Context, *simulator.Method) types.BaseMethodFault {
		var refused atomic.Bool
		return func(_ *simulator.Context, m *simulator.Method) types.BaseMethodFault {
			if readsTask(m) && refused.CompareAndSwap(false, true) {
				then()
				return &types.NoPermission{PrivilegeId: "System.Read"}
			}
			return nil
		}
	},
}

func TestASnapshotThatNobodyLearnsOfIsUsed(t *testing.T) {
	t.Parallel()
	for name, loses := range losses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			model, cfg := simulate(t, nil)
			c := dial(t, cfg)
			vm := find(t, c, "DC0_H0_VM0")
			intercept(model, loses(func() {}))
			snap, err := c.CreateSnapshot(t.Context(), vm, "lost")
			if err != nil {
				t.Fatal(err)
			}
			if left := snapshots(t, c, vm); len(left) != 1 || left[0] != snap || snap.Name != vsphere.SnapshotPrefix+"lost" {
				t.Errorf("made %+v, there is %+v", snap, left)
			}
		})
	}
}

func TestASnapshotThatNobodyLearnsOfIsNotLeftBehindByWhoHasGivenUp(t *testing.T) {
	t.Parallel()
	for name, loses := range losses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			model, cfg := simulate(t, nil)
			c := dial(t, cfg)
			vm := find(t, c, "DC0_H0_VM0")
			removed := watch(model, "RemoveSnapshot_Task", func() {})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			intercept(model, loses(cancel))
			snap, err := c.CreateSnapshot(ctx, vm, "lost")
			if err == nil || snap.Ref != "" || strings.Contains(err.Error(), "left behind") {
				t.Errorf("snapshot %+v, error %v", snap, err)
			}
			if left := snapshots(t, c, vm); len(left) != 0 || !removed.Load() {
				t.Errorf("left behind %+v, removed %t", left, removed.Load())
			}
		})
	}
}

func TestASnapshotThatMayBeLeftBehindIsNamed(t *testing.T) {
	t.Parallel()
	model, cfg := simulate(t, nil)
	c := dial(t, cfg)
	vm := find(t, c, "DC0_H0_VM0")
	var blind atomic.Bool
	intercept(model, func(_ *simulator.Context, m *simulator.Method) types.BaseMethodFault {
		switch {
		case m.Name == "CreateSnapshot_Task":
			blind.Store(true)
		case m.Name == "RetrievePropertiesEx" && blind.Load():
			return &types.NoPermission{PrivilegeId: "System.Read"}
		}
		return nil
	})
	_, err := c.CreateSnapshot(t.Context(), vm, "unseen")
	if !errors.Is(err, vsphere.ErrNoPermission) || !strings.Contains(err.Error(), vsphere.SnapshotPrefix+"unseen may have been left behind") {
		t.Errorf("error %v", err)
	}
}

func TestASnapshotThatIsRefusedIsNotLookedFor(t *testing.T) {
	t.Parallel()
	model, cfg := simulate(t, nil)
	c := dial(t, cfg)
	vm := find(t, c, "DC0_H0_VM0")
	var refused, asked atomic.Bool
	intercept(model, func(_ *simulator.Context, m *simulator.Method) types.BaseMethodFault {
		if m.Name == "CreateSnapshot_Task" {
			refused.Store(true)
			return &types.NoPermission{PrivilegeId: "VirtualMachine.State.CreateSnapshot"}
		}
		asked.Store(refused.Load())
		return nil
	})
	if _, err := c.CreateSnapshot(t.Context(), vm, "refused"); !errors.Is(err, vsphere.ErrNoPermission) || asked.Load() {
		t.Errorf("error %v, asked on %t", err, asked.Load())
	}
}
