//go:build amd64 && !purego

package inflate

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestTheSwitchTurnsTheAssemblyOff(t *testing.T) {
	t.Parallel()
	for value, off := range map[string]bool{"": false, "auto": false, "portable": true, "off": true} {
		if switchedOff(value) != off {
			t.Errorf("%s=%s: the assembly is off: %v, want %v", Switch, value, !off, off)
		}
	}
	if os.Getenv(Switch) == "portable" { // the process below
		if used := inUse(); used.loop || used.adler {
			t.Errorf("with %s=portable these are in use: %+v", Switch, used)
		}
		return
	}
	// A process decides once: another one does it with the variable set, and runs
	// the tests of the results too.
	cmd := exec.Command(os.Args[0], "-test.run", "Switch|Adler|Returns", "-test.v")
	cmd.Env = append(os.Environ(), Switch+"=portable")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestTheSwitchTurnsTheAssemblyOff") {
		t.Errorf("with %s=portable: %v\n%s", Switch, err, out)
	}
}
