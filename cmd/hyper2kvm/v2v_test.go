package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// converting is a PATH on which virt-v2v-in-place writes to both disks of a guest, and
// qemu-img kills who started it before it commits the second.
func converting(t *testing.T) (path string) {
	t.Helper()
	dir := t.TempDir()
	qemuImg, err := exec.LookPath("qemu-img")
	if err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{
		"nbdkit": "", "qemu-nbd": "", "supermin": "", "qemu-system-x86_64": "", "vmlinuz": "",
		"virt-v2v-in-place": `[ "$1" != --version ] || exec echo "virt-v2v-in-place 2.2.0"
for disk in $(sed -n 's/.*<source file="\([^"]*\)".*/\1/p' "$7"); do
	qemu-io -f qcow2 -c 'write -P 9 64k 64k' "$disk" || exit 1
done
echo "This guest has virtio drivers installed."
echo 'gcaps_block_bus = virtio-blk' >&2`,
		"qemu-img": `case "$*" in commit*overlay-1*) kill -9 $PPID; sleep 60 ;; esac
exec ` + qemuImg + ` "$@"`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAProcessThatIsKilledBetweenTwoCommitsOfAConversionIsFinishedByTheNext(t *testing.T) {
	t.Parallel()
	disks := []string{sparse(t, 4<<20, 0), sparse(t, 3<<20, 1<<20)}
	lab := vspheretest.Start(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "vm", Disks: []vspheretest.Disk{{Path: disks[0]}, {Path: disks[1]}}}}})
	bin, out := converting(t), filepath.Join(t.TempDir(), "out")
	h2k := program(t)
	run := func(args ...string) (string, error) {
		cmd := command(h2k, lab, append([]string{args[0], "-output", out}, args[1:]...)...)
		cmd.Env = append(cmd.Env, "PATH="+bin+":"+os.Getenv("PATH"), "SUPERMIN_KERNEL="+filepath.Join(bin, "vmlinuz"))
		told, err := cmd.CombinedOutput()
		return string(told), err
	}
	export := []string{"export", "-vm", "vm", "-format", "qcow2", "-convert"}
	told, err := run(export...)
	if err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("%v\n%s", err, told)
	}
	if _, err := os.Stat(filepath.Join(out, ".hyper2kvm-vm", "overlay-0.qcow2")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"qemu-img", "virt-v2v-in-place"} { // it is not converted again
		if err := os.Remove(filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	if told, err := run("clean"); err != nil {
		t.Fatalf("%v\n%s", err, told)
	}
	for _, name := range []string{"vm-disk-0.qcow2", "vm-disk-1.qcow2"} {
		path := filepath.Join(out, name)
		text, err := exec.Command("qemu-io", "-r", "-f", "qcow2", "-c", "read -P 9 64k 64k", path).CombinedOutput()
		if err != nil || bytes.Contains(text, []byte("verification failed")) {
			t.Errorf("%s: %v\n%.300s", name, err, text)
		}
	}
	if xml, err := os.ReadFile(filepath.Join(out, "vm.xml")); err != nil || bytes.Count(xml, []byte(`bus="virtio"`)) != 2 {
		t.Errorf("%v\n%s", err, xml)
	}
	told, err = run(export...)
	if err != nil || !strings.Contains(told, "finished earlier") {
		t.Errorf("%v\n%s", err, told)
	}
	if left, err := filepath.Glob(filepath.Join(out, ".hyper2kvm*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
