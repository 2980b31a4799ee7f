package vspheretest_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestAnIdleSessionIsGone(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.SessionIdle = time.Nanosecond })
	c := connect(t, srv)
	_, err := methods.GetCurrentTime(t.Context(), c.Client.Client)
	wantFault[*types.NotAuthenticated](t, err, "a call after the idle time")
}

// A client that gives up waiting for the inventory logs out while its read of the
// view goes on: neither may wait for the other.
func TestALogoutDuringAReadOfAViewIsAnswered(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.BulkVMs = 2000 })
	for range 20 {
		c := connect(t, srv)
		v, err := view.NewManager(c.Client.Client).CreateContainerView(t.Context(), c.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
		if err != nil {
			t.Fatal(err)
		}
		var reads sync.WaitGroup
		for range 3 {
			reads.Go(func() {
				var vms []mo.VirtualMachine
				// What comes of it depends on who is first.
				_ = v.Retrieve(t.Context(), []string{"VirtualMachine"}, []string{"name", "config.hardware"}, &vms)
			})
		}
		if err := c.Logout(t.Context()); err != nil {
			t.Errorf("log out: %v", err)
		}
		reads.Wait()
	}
	if n := srv.Sessions(); n > 0 {
		t.Errorf("%d session(s) are left", n)
	}
}

func TestServersInOneProcessDoNotMeetEachOther(t *testing.T) {
	t.Parallel()
	const servers = 4
	all := make([]*vspheretest.Server, servers)
	for i := range all {
		all[i] = oneVM(t, func(c *vspheretest.Config) {
			c.VMs[0].Disks[0].Path = rawDisk(t, int64(4+i)*mib, mib, 0)
		})
	}
	var wg sync.WaitGroup
	for i, srv := range all {
		wg.Go(func() {
			_, info := connect(t, srv).export("guest1")
			if a := get(t, diskURLs(info)[0]); a.sha256() != srv.Stream("guest1", 0).SHA256 {
				t.Errorf("server %d: the stream differs", i)
			}
			if got := srv.Stream("guest1", 0).Capacity; got != int64(4+i)*mib {
				t.Errorf("server %d: capacity %d", i, got)
			}
		})
	}
	wg.Wait()
	all[0].EndSessions()
	if all[0].Sessions() != 0 || all[1].Sessions() != 1 {
		t.Errorf("sessions: %d and %d", all[0].Sessions(), all[1].Sessions())
	}
}

func TestCloseDoesNotWaitForClientsThatWait(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, nil)
	c := connect(t, srv)
	lease, _ := c.export("guest1")
	waits := make(chan struct{}, 100)
	srv.OnRequest(func(r vspheretest.Request) {
		if r.Method == "WaitForUpdatesEx" {
			waits <- struct{}{}
		}
	})
	waited := make(chan error, 1)
	go func() { // waits for a change that never comes
		waited <- waitForever(t.Context(), c, lease.Reference())
	}()
	<-waits // the first answers at once
	<-waits
	srv.Close()
	if err := <-waited; err == nil {
		t.Error("the wait ended without an error")
	}
}

func waitForever(ctx context.Context, c *client, ref types.ManagedObjectReference) error {
	pc, err := c.PropertyCollector().Create(ctx)
	if err != nil {
		return err
	}
	if _, err := pc.CreateFilter(ctx, types.CreateFilter{Spec: types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{{Obj: ref}},
		PropSet:   []types.PropertySpec{{Type: ref.Type, PathSet: []string{"mode"}}},
	}}); err != nil {
		return err
	}
	version := ""
	for {
		res, err := methods.WaitForUpdatesEx(ctx, c.Client.Client, &types.WaitForUpdatesEx{This: pc.Reference(), Version: version})
		if err != nil {
			return err
		}
		version = res.Returnval.Version
	}
}
