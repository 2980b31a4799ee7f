package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// TestADebianGuestIsLookedIntoWhereItIs has the program look into a Debian at the lab
// vCenter by a real guestfish: while it is off from its datastore, and while it runs over
// port 902. `make test-e2e` runs it.
func TestADebianGuestIsLookedIntoWhereItIs(t *testing.T) {
	if os.Getenv("H2KVM_E2E") == "" {
		t.Skip("make test-e2e runs this")
	}
	disk := filepath.Join(t.TempDir(), "debian.raw")
	if out, err := exec.CommandContext(t.Context(), "../../scripts/debian-guest.sh", disk, "netplan").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	disks := []vspheretest.Disk{{Path: disk}}
	lab := startLab(t, vspheretest.Config{NFC902: true, VMs: []vspheretest.VM{
		{Name: "off", GuestID: "debian12_64Guest", Disks: disks}, {Name: "on", GuestID: "debian12_64Guest", PoweredOn: true, Disks: disks},
	}})
	for _, c := range []struct {
		args []string
		way  string
	}{
		{[]string{"-vm", "off"}, "its datastore"},
		{[]string{"-vm", "on", "-snapshot", "-transport", "auto"}, "port 902 of its host"},
	} {
		cmd := exec.CommandContext(t.Context(), program(t, "hyper2kvm"), append([]string{"check", "-json", "-inspect", "-format", "qcow2"}, c.args...)...)
		cmd.Env = append(os.Environ(), lab.Env()...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v\n%s", c.args, err, out)
		}
		var told struct {
			Obstacles []struct{ Code, Text string }
			Inside    struct {
				Systems []struct {
					Distro, Loader, Initramfs string
					Network                   []string
					Kernel, Mounted           bool
				}
				ReadFrom   []string `json:"read_from"`
				BytesRead  int64    `json:"bytes_read"`
				BytesTotal int64    `json:"bytes_total"`
			}
		}
		if err := json.Unmarshal(out, &told); err != nil {
			t.Fatal(err)
		}
		in := told.Inside
		if len(told.Obstacles) > 0 || len(in.Systems) != 1 || !slices.Equal(in.ReadFrom, []string{c.way}) || in.BytesRead == 0 || in.BytesRead > in.BytesTotal/8 {
			t.Fatalf("%v: %s", c.args, out)
		}
		s := in.Systems[0]
		if s.Distro != "debian" || !s.Mounted || !s.Kernel || s.Loader != "grub2" || s.Initramfs != "update-initramfs" || !slices.Contains(s.Network, "netplan") {
			t.Errorf("%v: %+v", c.args, s)
		}
		t.Logf("%v: %d of %d bytes were read", c.args, in.BytesRead, in.BytesTotal)
	}
	if len(lab.Snapshots("on")) > 0 || lab.Sessions() > 0 {
		t.Errorf("left: snapshots %v, %d sessions", lab.Snapshots("on"), lab.Sessions())
	}
}
