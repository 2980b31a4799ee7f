package vspheretest_test

import (
	"testing"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func (c *client) changeVersion(name string) string {
	c.t.Helper()
	vm := c.vm(name)
	var o mo.VirtualMachine
	if err := vm.Properties(c.t.Context(), vm.Reference(), []string{"config.changeVersion"}, &o); err != nil {
		c.t.Fatal(err)
	}
	return o.Config.ChangeVersion
}

func TestAVMChangesWithItsLease(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		spec       string
		atOpen, at bool // changed after it was opened, after it ended
	}{
		{"touch", false, true},
		{"touch:on=open", true, false},
	} {
		srv := oneVM(t, func(c *vspheretest.Config) { c.Faults = []string{tt.spec} })
		c := connect(t, srv)
		before := c.changeVersion("guest1")
		lease, _ := c.export("guest1")
		opened := c.changeVersion("guest1")
		if err := lease.Abort(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		ended := c.changeVersion("guest1")
		if (opened != before) != tt.atOpen || (ended != opened) != tt.at {
			t.Errorf("%s: %q, %q, %q", tt.spec, before, opened, ended)
		}
	}
}

func TestAnotherStateOfADiskIsForLeasesFromThenOn(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.ConcurrentLeases = true })
	c := connect(t, srv)
	before := srv.Stream("guest1", 0)
	_, first := c.export("guest1")
	if err := srv.SetDisk("guest1", 0, rawDisk(t, 8*mib, 2*mib, 0)); err != nil {
		t.Fatal(err)
	}
	after := srv.Stream("guest1", 0)
	lease, second := c.export("guest1")
	if got := get(t, diskURLs(first)[0]).sha256(); got != before.SHA256 {
		t.Error("the open lease has other data")
	}
	if got := get(t, diskURLs(second)[0]).sha256(); got != after.SHA256 || after.SHA256 == before.SHA256 {
		t.Error("the new lease has the old data")
	}
	if m, err := lease.GetManifest(t.Context()); err != nil || len(m) != 1 || m[0].Sha1 != after.SHA1 {
		t.Errorf("manifest %+v, %v", m, err)
	}
	if got := srv.BytesServed("guest1", 0); got != before.Size+after.Size {
		t.Errorf("%d bytes served, want %d", got, before.Size+after.Size)
	}
	if err := srv.SetDisk("guest1", 0, rawDisk(t, mib, 0, 0)); err == nil {
		t.Error("a disk of another size was taken")
	}
	if err := srv.SetDisk("guest1", 1, rawDisk(t, mib, 0, 0)); err == nil {
		t.Error("a disk that does not exist was taken")
	}
}

func TestAVMCanBeSwitchedOnAndOff(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, nil)
	if err := srv.PowerOn("guest1"); err != nil {
		t.Fatal(err)
	}
	_, err := connect(t, srv).vm("guest1").Export(t.Context())
	wantFault[*types.InvalidPowerState](t, err, "export of a running VM")
	if err := srv.PowerOn("guest1"); err == nil {
		t.Error("it was switched on twice")
	}
	if err := srv.PowerOff("guest1"); err != nil {
		t.Fatal(err)
	}
	if got := srv.PowerState("guest1"); got != types.VirtualMachinePowerStatePoweredOff {
		t.Errorf("power state %s", got)
	}
}

func TestARenewedCertificateIsInNewLeasesOnly(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.ConcurrentLeases = true })
	c := connect(t, srv)
	old := srv.HostThumbprint(0)
	lease, _ := c.export("guest1")
	if err := srv.RenewHostCertificate(0); err != nil {
		t.Fatal(err)
	}
	renewed := srv.HostThumbprint(0)
	o, err := lease.Properties(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, info := c.export("guest1")
	if got := o.Info.DeviceUrl[0].SslThumbprint; got != old || renewed == old {
		t.Errorf("the open lease carries %s, was %s", got, old)
	}
	if got := info.DeviceUrl[0].SslThumbprint; got != renewed {
		t.Errorf("the new lease carries %s, want %s", got, renewed)
	}
	if a := get(t, diskURLs(info)[0]); a.err != nil || soap.ThumbprintSHA1(a.TLS.PeerCertificates[0]) != renewed {
		t.Errorf("the host shows another certificate, %v", a.err)
	}
}

func TestTheManifestCanBeLate(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.Faults = []string{"manifest:late=1h"} })
	c := connect(t, srv)
	for _, want := range []int{0, 1} { // the second lease comes after the fault
		lease, info := c.export("guest1")
		get(t, diskURLs(info)[0])
		if m, err := lease.GetManifest(t.Context()); err != nil || len(m) != want {
			t.Errorf("%+v, %v; want %d entries", m, err, want)
		}
		if err := lease.Complete(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	add(t, srv, "manifest:late=1ms")
	lease, info := c.export("guest1")
	get(t, diskURLs(info)[0])
	for ; ; pause() {
		m, err := lease.GetManifest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(m) == 1 {
			return
		}
	}
}
