package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestACutoverAndTheWayBackFromTheCommandLine(t *testing.T) {
	t.Parallel()
	lab := vspheretest.Start(t, vspheretest.Config{VMs: []vspheretest.VM{{
		Name: "web", PoweredOn: true, Guest: &vspheretest.Guest{HostName: "web"}, Disks: []vspheretest.Disk{{Path: sparse(t, 2<<20, 0)}},
	}}})
	dir := filepath.Join(t.TempDir(), "out")
	code, out, errs := hyper2kvm(t, lab, "export", "-vm", "web", "-output", dir, "-format", "raw", "-shutdown", "-finish", "tag,rename")
	if s := lab.Settings("web"); code != 0 || lab.PowerState("web") != vsphere.PoweredOff || !strings.Contains(s.Name, "-migrated-") || len(s.Attributes) != 1 {
		t.Fatalf("exit code %d, the VM is %+v\n%s%s", code, s, out, errs)
	}
	if code, out, errs := hyper2kvm(t, lab, "rollback", "-output", dir); code != exitUsage || !strings.Contains(out+errs, "-yes") {
		t.Errorf("without a word about the target: exit code %d\n%s%s", code, out, errs)
	}
	if code, out, errs := hyper2kvm(t, lab, "rollback", "-output", dir, "-yes", "-stop-timeout", "soon"); code != exitUsage || !strings.Contains(out+errs, "-stop-timeout: must be a time") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	if lab.PowerState("web") != vsphere.PoweredOff {
		t.Error("both may run")
	}
	for range 2 {
		code, out, errs = hyper2kvm(t, lab, "rollback", "-output", dir, "-yes")
		if s := lab.Settings("web"); code != 0 || lab.PowerState("web") != vsphere.PoweredOn || s.Name != "web" || len(s.Attributes) > 0 {
			t.Errorf("exit code %d, the VM is %+v\n%s%s", code, s, out, errs)
		}
	}
	for _, args := range [][]string{{"-output", t.TempDir()}, {"-output", dir, "-vm", "db"}} {
		if code, out, errs := hyper2kvm(t, lab, append([]string{"rollback", "-yes"}, args...)...); code == 0 || !strings.Contains(out+errs, "no finished export") {
			t.Errorf("%v: exit code %d\n%s%s", args, code, out, errs)
		}
	}
}
