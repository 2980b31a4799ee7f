package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// linuxGuest makes the disk of scripts/linux-guest.sh. On a developer's machine
// that cannot fetch the kernel the test is skipped.
func linuxGuest(t *testing.T) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "guest.raw")
	out, err := exec.CommandContext(t.Context(), "../../scripts/linux-guest.sh", disk).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 && os.Getenv("CI") == "" {
		t.Skipf("no kernel for the guest: %s", out)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return disk
}

// compressedClusters has qemu-img check the image, which must find nothing, and
// returns how many of its clusters are compressed.
func compressedClusters(t *testing.T, image string) int {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "qemu-img", "check", "-f", "qcow2", "--output=json", image).CombinedOutput()
	if err != nil { // also for leaks
		t.Fatalf("%v\n%s", err, out)
	}
	var found struct {
		Compressed int `json:"compressed-clusters"`
	}
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return found.Compressed
}

// boot runs the image itself, without an overlay, on a PVSCSI controller until
// the guest powers off, and returns its serial line.
func boot(t *testing.T, image string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-m", "256", "-nodefaults", "-display", "none",
		"-no-reboot", "-serial", "stdio", "-drive", "if=none,id=disk,format=qcow2,file="+strings.ReplaceAll(image, ",", ",,"),
		"-device", "pvscsi,id=bus", "-device", "scsi-hd,bus=bus.0,drive=disk").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// partition is the ext4 file system on a raw disk, for the tools of e2fsprogs.
type partition string

// check is a full check of the file system.
func (p partition) check(t *testing.T) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "/usr/sbin/e2fsck", "-fn", string(p)).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// read copies the files named to dir. What is not there is not copied.
func (p partition) read(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		ask := fmt.Sprintf("dump /%s %q", name, to)
		if out, err := exec.CommandContext(t.Context(), "/usr/sbin/debugfs", "-R", ask, string(p)).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
}

// numbers are the lines from first to last.
func numbers(first, last int) []byte {
	var b bytes.Buffer
	for n := first; n <= last; n++ {
		fmt.Fprintln(&b, n)
	}
	return b.Bytes()
}

// rewritten is /data/numbers after the guest wrote 4 KiB into each 52 KiB of it
// and a line to its end.
func rewritten() []byte {
	text := numbers(1, 300000)
	block := strings.Repeat("written by the guest\n", 4096/21+1)[:4096]
	for at := 0; at < 480; at += 13 {
		copy(text[at*4096:], block)
	}
	return append(text, "appended by the guest\n"...)
}

func TestALinuxGuestBootsFromACompressedImageAndWritesToIt(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("boots a guest")
	}
	raw := linuxGuest(t)
	lab := vspheretest.Start(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest", Disks: []vspheretest.Disk{{Path: raw}}}}})
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	if told, err := command(program(t), lab, "export", "-vm", "guest", "-output", out, "-format", "qcow2", "-compress").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, told)
	}
	domain, err := os.ReadFile(filepath.Join(out, "guest.xml"))
	if err != nil || !bytes.Contains(domain, []byte(`model="vmpvscsi"`)) {
		t.Errorf("%v, or the domain has the disk on something else than PVSCSI:\n%s", err, domain)
	}
	image := filepath.Join(out, "guest-disk-0.qcow2")
	if text, err := exec.CommandContext(t.Context(), "qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, image).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	before := compressedClusters(t, image)
	if before == 0 {
		t.Fatal("no cluster of the image is compressed")
	}

	const done = "hyper2kvm linux guest: all written and read back"
	if serial := boot(t, image); !strings.Contains(serial, done) {
		t.Fatalf("the guest did not say %q, but\n%s", done, serial)
	}

	// /data/numbers alone lies in 30 clusters and the guest wrote to all of them.
	after := compressedClusters(t, image)
	t.Logf("compressed clusters: %d before, %d after", before, after)
	if after == 0 || before-after < 30 {
		t.Errorf("%d clusters were compressed before the guest ran, %d are after that", before, after)
	}
	disk := filepath.Join(dir, "after.raw")
	if text, err := exec.CommandContext(t.Context(), "qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, disk).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	part := partition(disk + "?offset=1048576")
	part.check(t)
	files := filepath.Join(dir, "files")
	part.read(t, files, "SHA256SUMS", "data/numbers", "data/message", "written/text", "written/random", "written/kernel", "boot/vmlinuz")
	kernel, err := os.ReadFile(filepath.Join(files, "boot/vmlinuz"))
	if err != nil || len(kernel) == 0 {
		t.Fatalf("%v, a kernel of %d bytes", err, len(kernel))
	}
	for name, want := range map[string][]byte{"data/numbers": rewritten(), "written/text": numbers(400000, 700000), "written/kernel": kernel} {
		if got, err := os.ReadFile(filepath.Join(files, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v, %d bytes that are not the %d expected", name, err, len(got), len(want))
		}
	}
	sums := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "SHA256SUMS")
	sums.Dir = files
	checked, err := sums.CombinedOutput()
	if err != nil || bytes.Count(checked, []byte(": OK\n")) != 5 {
		t.Errorf("%v, want five files OK\n%s", err, checked)
	}
}
