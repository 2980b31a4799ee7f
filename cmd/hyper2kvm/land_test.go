package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/landing/libvirttest"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestWhatIsHereIsLandedFromTheCommandLineAndGoneBackFrom(t *testing.T) {
	t.Parallel()
	lv := libvirttest.Start(t)
	lv.Network("default")
	lab := vspheretest.Start(t, vspheretest.Config{VMs: []vspheretest.VM{{
		Name: "web", PoweredOn: true, Guest: &vspheretest.Guest{HostName: "web"}, Disks: []vspheretest.Disk{{Path: sparse(t, 2<<20, 0)}},
	}}})
	dir := filepath.Join(t.TempDir(), "out")
	want := func(want int, text string, args ...string) {
		t.Helper()
		if code, out, errs := hyper2kvm(t, lab, args...); code != want || !strings.Contains(out+errs, text) {
			t.Errorf("%q: exit code %d\n%s%s", args, code, out, errs)
		}
	}
	want(0, "", "export", "-vm", "web", "-output", dir, "-format", "raw", "-shutdown", "-network-map", "*=default")
	want(exitUsage, "-libvirt: say where", "land", "-output", dir)
	want(exitUsage, "needs pool, define or start", "land", "-output", dir, "-libvirt", lv.URI())
	want(0, "web is the domain web at "+lv.URI(), "land", "-output", dir, "-libvirt", lv.URI(), "-define")
	want(0, "start web", "land", "-output", dir, "-libvirt", lv.URI(), "-define")
	lv.Virsh("start", "web")
	want(exitUsage, "the libvirt domain web at "+lv.URI()+" is stopped for it: give -yes", "rollback", "-output", dir)
	want(0, "was switched off", "rollback", "-output", dir, "-yes", "-stop-timeout", "1s")
	if s := lv.Virsh("domstate", "web"); s != "shut off" || lab.PowerState("web") != vsphere.PoweredOn {
		t.Errorf("the target is %s, the source %s", s, lab.PowerState("web"))
	}
	want(4, "older than it is", "land", "-output", dir, "-libvirt", lv.URI(), "-define")

	ova, converted := t.TempDir(), filepath.Join(t.TempDir(), "converted")
	if err := lab.PowerOff("web"); err != nil {
		t.Fatal(err)
	}
	lv.Virsh("undefine", "web")
	want(0, "", "export", "-vm", "web", "-output", ova, "-format", "ova")
	for range 2 {
		want(0, "", "convert", filepath.Join(ova, "web.ova"), "-output", converted, "-network-map", "VM Network=default", "-libvirt", lv.URI(), "-define")
	}
	if xml := lv.Virsh("dumpxml", "--inactive", "web"); !strings.Contains(xml, filepath.Join(converted, "web-disk-0.qcow2")) {
		t.Errorf("the domain is\n%s", xml)
	}
}
