package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// judged is what systemd says of the unit with drop-ins, which must be valid and confined:
// by the name of what it looks at, whether it is as strict as can be.
func judged(t *testing.T, dropIns ...string) map[string]bool {
	t.Helper()
	// The program need not be installed for the check.
	path := filepath.Join(t.TempDir(), "hyper2kvmd.service")
	text := strings.Replace(packaged(t, "hyper2kvmd.service"), "/usr/bin/hyper2kvmd", "/bin/true", 1)
	err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Mkdir(path+".d", 0o700))
	for _, name := range dropIns {
		err = errors.Join(err, os.WriteFile(filepath.Join(path+".d", name), []byte(packaged(t, name)), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	analyze := func(args ...string) []byte {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", append(args, path)...).CombinedOutput()
		if err != nil {
			t.Fatalf("systemd-analyze %v (scripts/setup.sh test installs it): %v\n%s", args, err, out)
		}
		return out
	}
	if out := analyze("verify"); len(out) > 0 {
		t.Errorf("verify: %s", out)
	}
	analyze("security", "--offline=true", "--threshold=20") // ten times the exposure level that counts as OK
	var list []struct {
		Name string `json:"name"`
		Set  *bool  `json:"set"` // null where it does not apply
	}
	if err := json.Unmarshal(analyze("security", "--offline=true", "--json=short"), &list); err != nil || len(list) == 0 {
		t.Fatal(err)
	}
	strict := map[string]bool{}
	for _, j := range list {
		strict[j.Name] = j.Set == nil || *j.Set
	}
	return strict
}

// packaged is a file of the package.
func packaged(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../packaging", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheDropInForConversionsIsTakenAndAllowsNoMoreThanItSays(t *testing.T) {
	t.Parallel()
	before, after := judged(t), judged(t, "conversion.conf")
	var loosened []string
	for name, strict := range before {
		if strict && !after[name] {
			loosened = append(loosened, name)
		}
	}
	slices.Sort(loosened)
	want := []string{"MemoryDenyWriteExecute=", "PrivateDevices=", "ProtectKernelModules=", "SupplementaryGroups="}
	if !slices.Equal(loosened, want) {
		t.Errorf("it loosens %q, want %q", loosened, want)
	}
}

// TestTheUnitIsValidAndConfined asks systemd itself.
func TestTheUnitIsValidAndConfined(t *testing.T) {
	t.Parallel()
	judged(t)
	unit := packaged(t, "hyper2kvmd.service")
	for _, want := range []string{"Type=notify", "WatchdogSec=", "StateDirectory=", "LoadCredential=", "ReadWritePaths=", "\nMemoryMax=", "\nTasksMax="} {
		if !strings.Contains(unit, want) {
			t.Errorf("the unit says nothing about %s", want)
		}
	}
}
