package vspheretest_test

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"testing"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// add adds a fault or ends the test.
func add(t *testing.T, srv *vspheretest.Server, spec string) {
	t.Helper()
	if err := srv.AddFault(spec); err != nil {
		t.Fatal(err)
	}
}

func TestACallIsRefusedWithTheFaultThatIsNamed(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, nil)
	c := connect(t, srv)
	lease, _ := c.export("guest1")
	add(t, srv, "fault:call=HttpNfcLeaseAbort,fault=SystemError,vm=guest1")
	wantFault[*types.SystemError](t, lease.Abort(t.Context(), nil), "Abort")
	if len(srv.Leases()) != 1 {
		t.Error("the refused Abort ended the lease")
	}
	if err := lease.Abort(t.Context(), nil); err != nil {
		t.Errorf("the second Abort: %v", err)
	}
	add(t, srv, "fault:call=ExportVm,fault=TaskInProgress,vm=another")
	add(t, srv, "fault:call=*,fault=NotAuthenticated")
	_, err := methods.GetCurrentTime(t.Context(), c.Client.Client)
	wantFault[*types.NotAuthenticated](t, err, "any call")
	if got := srv.Struck(); got["fault"] != 2 {
		t.Errorf("faults struck: %v", got)
	}
}

func TestLoginsAreCounted(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, nil)
	connect(t, srv)
	wrong := srv.URL()
	wrong.User = url.UserPassword("user", "wrong")
	_, err := govmomi.NewClient(t.Context(), wrong, true)
	wantFault[*types.InvalidLogin](t, err, "a wrong password")
	add(t, srv, "fault:call=Login,fault=InvalidLogin")
	_, err = govmomi.NewClient(t.Context(), srv.URL(), true)
	wantFault[*types.InvalidLogin](t, err, "a refused login")
	if got, want := srv.Logins(), (vspheretest.LoginCount{Succeeded: 1, Failed: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestACallThatHangsHasItsEffectAndIsAnsweredOnRelease(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.Faults = []string{"hang:call=ExportVm"} })
	opened := events(srv, vspheretest.LeaseOpened)
	c := connect(t, srv)
	vm := c.vm("guest1")
	answered := make(chan error, 1)
	go func() {
		_, err := vm.Export(t.Context())
		answered <- err
	}()
	<-opened
	select {
	case err := <-answered:
		t.Fatalf("it was answered: %v", err)
	default:
	}
	srv.Release()
	if err := <-answered; err != nil {
		t.Errorf("after Release: %v", err)
	}
}

func TestACallThatHangsMayHaveNoEffectAndEndsWithItsClient(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.Faults = []string{"hang:call=ExportVm,effect=false"} })
	c := connect(t, srv)
	vm := c.vm("guest1")
	ctx, cancel := context.WithCancel(t.Context())
	srv.OnCall("ExportVm", cancel)
	if _, err := vm.Export(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if len(srv.Leases()) != 0 {
		t.Error("the lease was opened")
	}
	if _, err := vm.Export(t.Context()); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

func TestALateAnswerComesAfterItsEffect(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.Faults = []string{"late:call=ExportVm,after=1h"} })
	opened := events(srv, vspheretest.LeaseOpened)
	vm := connect(t, srv).vm("guest1")
	answered := make(chan error, 1)
	go func() {
		_, err := vm.Export(t.Context())
		answered <- err
	}()
	<-opened
	if len(answered) > 0 {
		t.Error("the answer was not late")
	}
	srv.Release()
	if err := <-answered; err != nil {
		t.Error(err)
	}
	add(t, srv, "late:call=CurrentTime,after=1ms")
	if _, err := methods.GetCurrentTime(t.Context(), vm.Client()); err != nil {
		t.Errorf("late by a millisecond: %v", err)
	}
}

func TestAnAnswerCanBeLostOnItsWay(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"reset", "503", "html"} {
		srv := oneVM(t, func(c *vspheretest.Config) { c.Faults = []string{"lose:call=ExportVm,how=" + how} })
		vm := connect(t, srv).vm("guest1")
		if _, err := vm.Export(t.Context()); err == nil || fault.Is(err, &types.TaskInProgress{}) {
			t.Errorf("%s: got %v", how, err)
		}
		if len(srv.Leases()) != 1 {
			t.Errorf("%s: the lease was not opened", how)
		}
	}
}

func TestCloseDoesNotWaitForCallsThatHang(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.Faults = []string{"hang:call=ExportVm"} })
	opened := events(srv, vspheretest.LeaseOpened)
	vm := connect(t, srv).vm("guest1")
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		_, _ = vm.Export(t.Context())
	}()
	<-opened
	srv.Close()
	<-answered
}

func TestCallsOnALeaseAreLoggedWithTheirVM(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, nil)
	lease, _ := connect(t, srv).export("guest1")
	if _, err := lease.GetManifest(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(srv.Requests(vspheretest.SOAP), func(r vspheretest.Request) bool {
		return r.Method == "HttpNfcLeaseGetManifest" && r.VM == srv.InventoryPath("guest1")
	}) {
		t.Errorf("%+v", srv.Requests(vspheretest.SOAP))
	}
}
