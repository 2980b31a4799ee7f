package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/tui/cell"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestATableOfVMsIsNoWiderThanTheTerminal(t *testing.T) {
	t.Parallel()
	usual := columns()
	usual = append(usual[:1:1], usual[2:8]...)
	rows := [][]string{headers(usual)}
	for i := range 20 {
		vm := vsphere.VM{
			Path: fmt.Sprintf("/DC0/vm/Production/日本語サーバー-%s-%04d", strings.Repeat("x", i), i), Power: vsphere.PoweredOff,
			GuestFullName: "Microsoft Windows Server 2019 (64-bit)", CPUs: 12, MemoryMiB: 98304, DiskCount: i, CommittedBytes: int64(i) << 36,
		}
		var row []string
		for _, c := range usual {
			row = append(row, c.show(vm))
		}
		rows = append(rows, row)
	}
	shown := 0
	for width := 25; width < 180; width++ {
		fitted, missing := fitTable(rows, usual, width, false)
		widths := make([]int, len(fitted[0]))
		for _, row := range fitted {
			for i, text := range row {
				widths[i] = max(widths[i], cell.Width(text))
			}
		}
		total := 1
		for _, w := range widths {
			total += w + 3
		}
		if total > width {
			t.Errorf("at %d columns the table takes %d", width, total)
		}
		if len(fitted[0])+len(missing) != len(usual) || len(fitted[0]) < shown || fitted[0][0] != "PATH" {
			t.Errorf("at %d columns %q are shown and %q are not", width, fitted[0], missing)
		}
		shown = len(fitted[0])
		if last := fitted[len(fitted)-1][0]; !strings.Contains(last, "/DC0") || !strings.Contains(last, "-0019") {
			t.Errorf("at %d columns the path is %q", width, last)
		}
	}
	if fitted, missing := fitTable(rows, usual, 40, true); len(fitted[0]) != len(usual) || len(missing) > 0 {
		t.Errorf("of columns that were asked for, %q are missing", missing)
	}
}

func TestTmuxAListFitsTheTerminal(t *testing.T) {
	t.Parallel()
	var vms []vspheretest.VM
	for i := range 3 {
		vms = append(vms, vspheretest.VM{Name: fmt.Sprintf("prod-erp-application-server-%04d-clone", 9+i), Folder: "Production", GuestID: "windows2019srv_64Guest"})
	}
	lab := vspheretest.Start(t, vspheretest.Config{VMs: vms})
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "hyper2kvm") // the name by which TestMain knows what to be
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	for width, parts := range map[int][]string{
		50:  {"…erver-0009-clone │ powered", "…erver-0011-clone │ powered", "No room for CPUS"},
		80:  {"…rver-0009-clone │ powered", "…rver-0011-clone │ powered", "No room for GUEST", "DISKS"},
		120: {"/DC0/vm/Production/prod-erp-application-server-0009-clone │", "GUEST", "DISKS"},
	} {
		socket := filepath.Join(dir, fmt.Sprint("tmux", width))
		tmux := func(args ...string) string {
			t.Helper()
			out, err := exec.Command("tmux", append([]string{"-S", socket}, args...)...).CombinedOutput()
			if err != nil {
				t.Fatalf("tmux %v: %v: %s", args, err, out)
			}
			return string(out)
		}
		command := append([]string{"env", "-i", "PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C.UTF-8", "TERM=screen-256color"}, lab.Env()...)
		tmux(append([]string{"-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(width), "-y", "24"}, append(command, "sh", "-c", `"$0" list; exec cat`, program)...)...)
		t.Cleanup(func() { _ = exec.Command("tmux", "-S", socket, "kill-server").Run() })
		screen := ""
		for end := time.Now().Add(10 * time.Minute); !strings.Contains(screen, "Found 3 virtual machine(s)"); screen = tmux("capture-pane", "-p") {
			if time.Now().After(end) {
				t.Fatalf("at %d columns:\n%s", width, screen)
			}
			time.Sleep(20 * time.Millisecond) // between two looks
		}
		for _, part := range parts {
			if !strings.Contains(screen, part) {
				t.Errorf("at %d columns %q is missing:\n%s", width, part, screen)
			}
		}
	}
}
