package vspheretest_test

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

// rawDisk makes a sparse raw disk with n bytes of data at each offset.
func rawDisk(t testing.TB, size int64, n int, offsets ...int64) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "disk-*.raw")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	r := rand.NewChaCha8([32]byte{byte(size), byte(size >> 20)})
	for _, off := range offsets {
		b := make([]byte, min(int64(n), size-off))
		_, _ = r.Read(b)
		if _, err := f.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
	return f.Name()
}

// run runs govc and fails the test when it fails.
func run(t *testing.T, srv *vspheretest.Server, args ...string) string {
	t.Helper()
	out, err := govc.Command(t, srv, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("govc %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// sameDisk fails the test unless qemu-img finds the VMDK to hold the raw disk.
func sameDisk(t *testing.T, raw, vmdk string) {
	t.Helper()
	out, err := exec.Command("qemu-img", "compare", "-f", "raw", "-F", "vmdk", raw, vmdk).CombinedOutput()
	if err != nil {
		t.Errorf("qemu-img compare %s: %v\n%s", filepath.Base(vmdk), err, out)
	}
}

func TestGovcFindsShowsAndExports(t *testing.T) {
	t.Parallel()
	disks := []string{
		rawDisk(t, 30*mib, 2*mib, 0, 17*mib),
		rawDisk(t, 5*mib+3*512, 100*kib, 4*mib),
	}
	srv := vspheretest.Start(t, vspheretest.Config{VMs: []vspheretest.VM{{
		Name: "guest1", Folder: "Prod/Linux", CPUs: 4, CoresPerSocket: 2, MemoryMiB: 2048,
		Disks: []vspheretest.Disk{{Path: disks[0]}, {Path: disks[1], Controller: vspheretest.SATA}},
		NICs:  []vspheretest.NIC{{MAC: "00:50:56:aa:bb:cc"}},
	}}})

	const path = "/DC0/vm/Prod/Linux/guest1"
	if got := strings.TrimSpace(run(t, srv, "find", "/", "-type", "m")); got != path {
		t.Errorf("govc find: %q, want %q", got, path)
	}
	if got := srv.InventoryPath("guest1"); got != path {
		t.Errorf("InventoryPath: %q, want %q", got, path)
	}
	info := run(t, srv, "vm.info", path)
	for _, want := range []string{"guest1", "4 vCPU", "2048MB", "poweredOff"} {
		if !strings.Contains(info, want) {
			t.Errorf("govc vm.info has no %q:\n%s", want, info)
		}
	}

	dir := t.TempDir()
	run(t, srv, "export.ovf", "-vm", path, "-sha", "256", dir)
	sameDisk(t, disks[0], filepath.Join(dir, "guest1", "guest1-disk-0.vmdk"))
	sameDisk(t, disks[1], filepath.Join(dir, "guest1", "guest1-disk-1.vmdk"))
	if open := srv.Leases(); len(open) != 0 {
		t.Errorf("leases left open: %+v", open)
	}
}
