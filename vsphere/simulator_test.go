package vsphere_test

import (
	"context"
	"fmt"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// simulate starts the stock simulator, for what needs an inventory and no data.
func simulate(t testing.TB, change func(*simulator.Model)) (*simulator.Model, vsphere.Config) {
	t.Helper()
	model := simulator.VPX()
	if change != nil {
		change(model)
	}
	building.Lock()
	err := model.Create()
	building.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	model.Service.TLS = nil
	server := model.Service.NewServer()
	t.Cleanup(func() { server.Close(); model.Remove() })
	pass, _ := server.URL.User.Password()
	return model, vsphere.Config{
		URL:      &url.URL{Scheme: server.URL.Scheme, Host: server.URL.Host, Path: "/sdk"},
		Username: server.URL.User.Username(), Password: pass,
	}
}

// dial logs in, and out again at the end of the test.
func dial(t testing.TB, cfg vsphere.Config) *vsphere.Client {
	t.Helper()
	c, err := vsphere.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.WithoutCancel(t.Context())); err != nil { // the test's has ended, which leaves little time
			t.Error("log out:", err)
		}
	})
	return c
}

// crowd adds n cheap copies of the model's first VM.
func crowd(model *simulator.Model, n int) {
	ctx := model.Service.Context
	registry := ctx.Map
	vms := registry.All("VirtualMachine")
	first := registry.Get(vms[0].Reference()).(*simulator.VirtualMachine)
	folder := registry.Get(*first.Parent).(*simulator.Folder)
	for i := range n {
		vm := *first
		vm.Name = fmt.Sprintf("crowd-%05d", i)
		vm.Self = types.ManagedObjectReference{Type: "VirtualMachine", Value: fmt.Sprintf("vm-c%d", i)}
		vm.Summary.Config.Name = vm.Name
		registry.PutEntity(folder, &vm)
		folder.ChildEntity = append(folder.ChildEntity, vm.Self)
	}
}

// watch calls f when the simulator is about to run a method, and says whether
// it did.
func watch(model *simulator.Model, method string, f func()) *atomic.Bool {
	called := new(atomic.Bool)
	intercept(model, func(_ *simulator.Context, m *simulator.Method) types.BaseMethodFault {
		if m.Name == method {
			called.Store(true)
			f()
		}
		return nil
	})
	return called
}

// intercept calls f when the simulator is about to run any method, which it
// does not if f has a fault for it.
func intercept(model *simulator.Model, f func(*simulator.Context, *simulator.Method) types.BaseMethodFault) {
	registry := model.Service.Context.Map
	before := registry.Handler
	registry.Handler = func(ctx *simulator.Context, m *simulator.Method) (mo.Reference, types.BaseMethodFault) {
		if fault := f(ctx, m); fault != nil {
			return nil, fault
		}
		if before != nil {
			return before(ctx, m)
		}
		return nil, nil
	}
}

// readsTask says whether a method reads the state of a task.
func readsTask(m *simulator.Method) bool {
	req, ok := m.Body.(*types.RetrievePropertiesEx)
	return ok && req.SpecSet[0].ObjectSet[0].Obj.Type == "Task"
}
