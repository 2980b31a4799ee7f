package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// left is a lab at which the export of the running VM web into dir has left its
// temporary snapshot, because the VM was busy.
func left(t *testing.T) (lab *vspheretest.Server, dir string) {
	t.Helper()
	lab = vspheretest.Start(t, vspheretest.Config{VMs: []vspheretest.VM{
		{Name: "web", PoweredOn: true, Disks: []vspheretest.Disk{{Path: sparse(t, 2<<20, 0)}}},
	}})
	dir = filepath.Join(t.TempDir(), "exports")
	if err := lab.AddFault("fault:call=RemoveSnapshot_Task,fault=NoPermission,times=always"); err != nil {
		t.Fatal(err)
	}
	code, out, errs := hyper2kvm(t, lab, "export", "-vm", "web", "-output", filepath.Join(dir, "web"), "-format", "raw", "-snapshot")
	if code != 0 || !strings.Contains(out+errs, "owed at vSphere: the snapshot "+vsphere.SnapshotPrefix) {
		t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	if n := len(lab.Snapshots("web")); n != 1 {
		t.Fatalf("%d snapshots", n)
	}
	return lab, dir
}

// hyper2kvm runs the program in this process.
func hyper2kvm(t *testing.T, lab *vspheretest.Server, args ...string) (code int, out, errs string) {
	t.Helper()
	env := map[string]string{}
	if lab != nil {
		for _, line := range lab.Env() {
			k, v, _ := strings.Cut(line, "=")
			env[k] = v
		}
	}
	var o, e bytes.Buffer
	code = run(t.Context(), append([]string{"hyper2kvm"}, args...), &o, &e, func(k string) string { return env[k] })
	return code, o.String(), e.String()
}

func TestCleanSettlesWhatIsOwedAndSaysWhatRemains(t *testing.T) {
	t.Parallel()
	lab, dir := left(t)
	for _, args := range [][]string{{"clean", "-output", dir}, {"clean", "-output", dir, "-dry-run"}} {
		code, out, errs := hyper2kvm(t, lab, args...)
		if code != exitFailed || !strings.Contains(errs, "owed: the snapshot "+vsphere.SnapshotPrefix) || !strings.Contains(errs, "Something remains") {
			t.Errorf("%v: exit code %d\n%s%s", args, code, out, errs)
		}
	}
	lab.ClearFaults()
	code, out, errs := hyper2kvm(t, lab, "clean", "-output", dir)
	if code != 0 || !strings.Contains(out, "put back: the snapshot "+vsphere.SnapshotPrefix) || !strings.Contains(out, "Nothing is owed") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	if s := lab.Snapshots("web"); len(s) > 0 {
		t.Errorf("snapshots are left: %v", s)
	}
	if hidden, err := filepath.Glob(filepath.Join(dir, "web", ".*")); err != nil || len(hidden) > 0 {
		t.Errorf("left behind: %v, %v", hidden, err)
	}
	if images, err := filepath.Glob(filepath.Join(dir, "web", "*.raw")); err != nil || len(images) != 1 {
		t.Errorf("images: %v, %v", images, err)
	}
	if n := lab.Sessions(); n > 0 {
		t.Errorf("%d session(s) are left", n)
	}
}

func TestCleanNeedsNoVCenterWhereNothingIsOwed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	work := filepath.Join(dir, "a", ".hyper2kvm-a")
	if err := os.MkdirAll(work, 0o755); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"ledger.json":   `{"version":1,"vm_path":"/DC0/vm/a","disks":{"2000":{"part":"a-disk-0.part","done":true}}}`,
		"a-disk-0.part": "verified",
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(work, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code, out, errs := hyper2kvm(t, nil, "clean", "-output", dir)
	if code != 0 || !strings.Contains(out, "kept for the next run: 1 disk(s) complete") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	if _, err := os.Stat(filepath.Join(work, "a-disk-0.part")); err != nil {
		t.Error(err)
	}
	if code, out, errs := hyper2kvm(t, nil, "clean", "-output", dir, "-parts"); code != 0 {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	if _, err := os.Stat(work); !os.IsNotExist(err) {
		t.Errorf("the work directory is left: %v", err)
	}
}

func TestCleanLeavesADirectoryAloneWhoseLedgerCannotBeRead(t *testing.T) {
	t.Parallel()
	work := filepath.Join(t.TempDir(), ".hyper2kvm-a")
	if err := os.MkdirAll(work, 0o755); err != nil {
		t.Fatal(err)
	}
	ledger := filepath.Join(work, "ledger.json")
	if err := os.WriteFile(ledger, []byte("\x00\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := hyper2kvm(t, nil, "clean", "-output", filepath.Dir(work), "-parts")
	if code != exitFailed || !strings.Contains(errs, "the ledger cannot be read") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	if _, err := os.Stat(ledger); err != nil {
		t.Error(err)
	}
}

func TestCleanRemovesStraySnapshotsOnlyWhenAskedToAndOldEnough(t *testing.T) {
	t.Parallel()
	lab, dir := left(t)
	lab.ClearFaults()
	empty := t.TempDir()
	for name, tt := range map[string]struct {
		args []string
		code int
		says string
		left int
	}{
		"one that a record knows of is no stray": {[]string{"-output", dir, "-all", "-dry-run"}, exitFailed, "owed: the snapshot", 1},
		"listed":                                 {[]string{"-output", empty, "-all"}, exitFailed, "no export at or below DIR knows of it", 1},
		"too young":                              {[]string{"-output", empty, "-vm", "web", "-snapshots"}, exitFailed, "not removed: it is only", 1},
		"no VMs are named":                       {[]string{"-output", empty, "-snapshots"}, exitUsage, "give -vm, or -all", 1},
	} {
		code, out, errs := hyper2kvm(t, lab, append([]string{"clean"}, tt.args...)...)
		if code != tt.code || !strings.Contains(out+errs, tt.says) || len(lab.Snapshots("web")) != tt.left {
			t.Errorf("%s: exit code %d, snapshots %v\n%s%s", name, code, lab.Snapshots("web"), out, errs)
		}
	}
	code, out, errs := hyper2kvm(t, lab, "clean", "-output", empty, "-all", "-snapshots", "-older-than", "0s", "-json")
	var told struct {
		Clean     bool
		Exports   []any
		Snapshots []struct {
			VM       string
			Snapshot struct{ Name string }
			Removed  bool
		}
	}
	if err := json.Unmarshal([]byte(out), &told); err != nil || code != 0 || !told.Clean || told.Exports == nil ||
		len(told.Snapshots) != 1 || !told.Snapshots[0].Removed || told.Snapshots[0].VM != lab.InventoryPath("web") {
		t.Errorf("exit code %d, %v\n%s%s", code, err, out, errs)
	}
	if s := lab.Snapshots("web"); len(s) > 0 {
		t.Errorf("snapshots are left: %v", s)
	}
	if code, out, errs := hyper2kvm(t, lab, "clean", "-output", dir); code != 0 { // its record finds nothing left to do
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}
