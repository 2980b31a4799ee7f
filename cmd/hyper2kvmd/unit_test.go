package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheUnitIsValidAndConfined asks systemd itself.
func TestTheUnitIsValidAndConfined(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Fatalf("%v: run scripts/setup.sh test", err)
	}
	unit, err := os.ReadFile("../../packaging/hyper2kvmd.service")
	if err != nil {
		t.Fatal(err)
	}
	// The program need not be installed for the check.
	path := filepath.Join(t.TempDir(), "hyper2kvmd.service")
	if err := os.WriteFile(path, []byte(strings.Replace(string(unit), "/usr/bin/hyper2kvmd", "/bin/true", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", path).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("verify: %v\n%s", err, out)
	}
	// The threshold is ten times the exposure level that counts as OK.
	if out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--threshold=20", path).CombinedOutput(); err != nil {
		t.Errorf("security: %v\n%s", err, out)
	}
	for _, want := range []string{"Type=notify", "WatchdogSec=", "StateDirectory=", "LoadCredential=", "ReadWritePaths=", "\nMemoryMax=", "\nTasksMax="} {
		if !strings.Contains(string(unit), want) {
			t.Errorf("the unit says nothing about %s", want)
		}
	}
}
