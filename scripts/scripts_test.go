// Package scripts_test runs the scripts that make what the demo shows.
package scripts_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const line = "hyper2kvm demo guest: disk is intact"

// script runs one of this directory's scripts and returns what it prints.
func script(t *testing.T, env []string, name string, args ...string) (string, error) {
	t.Helper()
	path, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// demoGuest makes a demo guest.
func demoGuest(t *testing.T, args ...string) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "demo, guest.raw") // a name with a blank and QEMU's separator
	if _, err := script(t, nil, "demo-guest.sh", append([]string{disk}, args...)...); err != nil {
		t.Fatal(err)
	}
	return disk
}

func TestTheDemoGuestBootsFromEveryController(t *testing.T) {
	t.Parallel()
	disk := demoGuest(t)
	for _, device := range []string{"", "ich9-ahci", "pvscsi", "lsi53c895a", "mptsas1068", "virtio-scsi-pci"} {
		t.Run(device, func(t *testing.T) {
			t.Parallel()
			out, err := script(t, []string{"BOOT_DEVICE=" + device}, "boot.sh", disk, "raw")
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out, line+"\n") {
				t.Errorf("the serial line says %q", out)
			}
		})
	}
}

func TestTheDemoGuestBootsFromQcow2(t *testing.T) {
	t.Parallel()
	disk := demoGuest(t)
	image := filepath.Join(t.TempDir(), "disk.qcow2")
	if out, err := exec.CommandContext(t.Context(), "qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, image).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := script(t, nil, "boot.sh", image, "qcow2"); err != nil {
		t.Fatal(err)
	}
}

func TestTheDemoGuestSaysWhatItIsToldTo(t *testing.T) {
	t.Parallel()
	const text = `it's "all" there: $HOME & more`
	disk := demoGuest(t, text)
	if _, err := script(t, nil, "boot.sh", disk, "raw", "120", text); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedDemoGuestIsFoundOut(t *testing.T) {
	t.Parallel()
	disk := demoGuest(t)
	text, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(text, []byte("150000\n150001\n"))
	if at < 0 {
		t.Fatal("the file with the numbers is not on the disk")
	}
	text[at] = 'X'
	if err := os.WriteFile(disk, text, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := script(t, nil, "boot.sh", disk, "raw")
	if err == nil || !strings.Contains(out, "damaged") {
		t.Errorf("error %v, and the serial line says %q", err, out)
	}
}

func TestADiskWithoutBootCodeIsGivenUpInTime(t *testing.T) {
	t.Parallel()
	disk := filepath.Join(t.TempDir(), "empty.raw")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := script(t, nil, "boot.sh", disk, "raw", "2")
	if err == nil || !strings.Contains(out, "did not print") {
		t.Errorf("error %v, output %q", err, out)
	}
}

func TestSetupAsksForNothingWhereEverythingIs(t *testing.T) {
	t.Parallel()
	for _, set := range []string{"demo", "test", "bench", "package"} {
		if out, err := script(t, nil, "setup.sh", set); err != nil || out != "" {
			t.Errorf("setup.sh %s: %v, %q", set, err, out)
		}
	}
}

func TestSetupSaysWhatToInstallWhereItCannot(t *testing.T) {
	t.Parallel()
	// A machine with a shell, some basic commands, and no package manager.
	bin := t.TempDir()
	for _, name := range []string{"sh", "cat", "sort", "tr"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	out, err := script(t, []string{"PATH=" + bin, "SETUP_SBIN=" + bin}, "setup.sh", "demo")
	if err == nil || !strings.Contains(out, "not Debian") || !strings.Contains(out, "qemu-img (qemu-utils)") {
		t.Errorf("without apt-get: error %v, output %q", err, out)
	}
	// The same with apt-get, and not root.
	for name, text := range map[string]string{"apt-get": "exit 99", "id": "echo 1000"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out, err = script(t, []string{"PATH=" + bin, "SETUP_SBIN=" + bin}, "setup.sh", "demo")
	if err == nil || !strings.Contains(out, "apt-get install --no-install-recommends e2fsprogs fdisk") {
		t.Errorf("not root: error %v, output %q", err, out)
	}
}

func TestAVulnerabilityDatabaseThatCannotBeReachedIsNoFinding(t *testing.T) {
	t.Parallel()
	out, err := script(t, []string{"GOVULNDB=http://127.0.0.1:1"}, "vuln.sh")
	if err != nil || !strings.Contains(out, "http://127.0.0.1:1 cannot be reached") {
		t.Errorf("error %v, output %q", err, out)
	}
}

func TestScriptsAreShellcheckClean(t *testing.T) {
	t.Parallel()
	var files []string
	for _, pattern := range []string{"*.sh", "../deploy/*/*.sh"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %d scripts", pattern, err, len(found))
		}
		files = append(files, found...)
	}
	if out, err := exec.CommandContext(t.Context(), "shellcheck", files...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
