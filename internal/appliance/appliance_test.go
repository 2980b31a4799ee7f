//go:build unix

package appliance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/internal/appliance"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/process/processtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a machine with the program tool, which does what a script says. It writes what
// it gets to did.
type bench struct {
	t    *testing.T
	dir  string
	m    appliance.Machine
	told []string
}

const (
	late = time.Hour
	hang = "\nsleep 100000 & wait\n"
	// slow is a condition for being run without KVM.
	slow = `[ "${LIBGUESTFS_BACKEND_SETTINGS%%:*}" = force_tcg ]`
)

func newBench(t *testing.T, script string, env ...string) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir()}
	for _, name := range []string{"tool", "guestfish"} {
		processtest.Script(t, filepath.Join(b.dir, name), fmt.Sprintf("echo \"$LIBGUESTFS_BACKEND_SETTINGS\" >>%q/did\n%s", b.dir, script))
	}
	b.m.Env = append([]string{"PATH=" + b.dir + ":/usr/bin:/bin"}, env...)
	return b
}

func (b *bench) teller() appliance.Teller {
	tell := func(text string) { b.told = append(b.told, text) }
	return appliance.Teller{Phase: tell, Info: tell}
}

func (b *bench) run(ctx context.Context, l appliance.Limits) error {
	return b.m.Run(ctx, l, b.teller(), func(a *appliance.Attempt) error {
		cmd := a.Command("tool")
		cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
		return a.Run(ctx, cmd)
	})
}

// did are the settings of the backend that the program was run with, a line for each time.
func (b *bench) did() string {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(b.dir, "did"))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

var patient = appliance.Limits{Launch: late, Emulated: late, Quiet: late, Whole: late}

func TestWhatDoesNotComeUpWithKVMIsRunOnceMoreWithoutAndNotTriedWithItAgain(t *testing.T) {
	t.Parallel()
	hurry := patient
	hurry.Launch = 50 * time.Millisecond
	for name, test := range map[string]struct {
		fails  string
		limits appliance.Limits
	}{
		"an appliance that hangs":             {hang, hurry},
		"a QEMU that dies, with debugging":    {`printf '/usr/bin/qemu-system-x86_64 \\\n' >&2; exit 1`, patient},
		"a QEMU that dies, without debugging": {"echo 'libguestfs: error: appliance closed the connection unexpectedly.' >&2; exit 1", patient},
		"an appliance that is not launched":   {"echo 'libguestfs: error: guestfs_launch failed.' >&2; exit 1", patient},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, slow+" && exit 0\n"+test.fails)
			for range 2 {
				if err := b.run(t.Context(), test.limits); err != nil {
					t.Fatal(err)
				}
			}
			if len(b.told) != 1 || !strings.Contains(b.told[0], "without KVM") {
				t.Errorf("told %q", b.told)
			}
			got := b.did()
			if test.limits == hurry { // it may have been killed before it wrote anything
				got = "\n" + strings.TrimPrefix(got, "\n")
			}
			if got != "\nforce_tcg\nforce_tcg\n" {
				t.Errorf("run with %q", got)
			}
		})
	}
}

func TestWhatFailsOnceItsApplianceIsUpOrByItselfIsNotRunAgain(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"up":        "echo 'libguestfs: appliance is up' >&2; echo 'appliance closed the connection' >&2; exit 1",
		"by itself": "echo 'no such guest' >&2; exit 1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, script)
			if err := b.run(t.Context(), patient); err == nil || b.did() != "\n" || len(b.told) > 0 {
				t.Errorf("%v, run with %q, told %q", err, b.did(), b.told)
			}
		})
	}
}

func TestSettingsOfTheBackendAreKeptAndNoKVMIsWhatSomebodyAskedFor(t *testing.T) {
	t.Parallel()
	const dies = "echo 'libguestfs: error: guestfs_launch failed.' >&2; exit 1"
	for settings, want := range map[string]string{
		"network_bridge=br0":           "network_bridge=br0\nforce_tcg:network_bridge=br0\n",
		"network_bridge=br0:force_tcg": "force_tcg:network_bridge=br0\n",
		"force_tcg":                    "force_tcg\n",
	} {
		t.Run(settings, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, dies, "LIBGUESTFS_BACKEND_SETTINGS="+settings)
			if err := b.run(t.Context(), patient); err == nil || b.did() != want {
				t.Errorf("%v, run with %q", err, b.did())
			}
		})
	}
}

func TestARunIsBoundedInTime(t *testing.T) {
	t.Parallel()
	const soon = 50 * time.Millisecond
	for name, test := range map[string]struct {
		script string
		limits appliance.Limits
		want   error
	}{
		"silent before the appliance is up": {hang, appliance.Limits{Launch: soon, Emulated: soon, Quiet: late, Whole: late}, appliance.ErrHung},
		"silent after that":                 {"echo 'libguestfs: appliance is up' >&2" + hang, appliance.Limits{Launch: late, Emulated: late, Quiet: soon, Whole: late}, appliance.ErrHung},
		"words without an end":              {"while echo word; do sleep 0.1; done", appliance.Limits{Launch: late, Emulated: late, Quiet: late, Whole: soon}, appliance.ErrTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := newBench(t, test.script).run(t.Context(), test.limits); !errors.Is(err, test.want) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestProgramsGetNoPasswordAndATemporaryDirectoryThatGoes(t *testing.T) {
	t.Parallel()
	b := newBench(t, `env; touch "$TMPDIR/left"`, "GOVC_PASSWORD=hunter2", "TMPDIR=/srv/tmp", "SUPERMIN_MODULES=/srv/modules")
	var out bytes.Buffer
	dir := ""
	err := b.m.Run(t.Context(), patient, b.teller(), func(a *appliance.Attempt) error {
		dir = a.Dir
		cmd := a.Command("tool")
		cmd.Stdout = &out
		return a.Run(t.Context(), cmd)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"LIBGUESTFS_BACKEND=direct\n", "LIBGUESTFS_CACHEDIR=/srv/tmp\n", "TMPDIR=" + dir + "\n", "SUPERMIN_MODULES=/srv/modules\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the environment lacks %q:\n%s", want, out.String())
		}
	}
	if _, err := os.Stat(dir); strings.Contains(out.String(), "hunter2") || !os.IsNotExist(err) {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestARunWaitsForOthersAndForThemNoLongerThanItsContext(t *testing.T) {
	t.Parallel()
	var m appliance.Machine
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	waits := appliance.Teller{Phase: func(string) { cancel(enough) }, Info: func(string) {}}
	// Each begins another one, until there is one too many.
	var nested func(*appliance.Attempt) error
	nested = func(*appliance.Attempt) error { return m.Run(ctx, patient, waits, nested) }
	if err := m.Run(ctx, patient, waits, nested); !errors.Is(err, enough) {
		t.Errorf("error %v", err)
	}
}

func (b *bench) fish(use func(*appliance.Fish) error) error {
	return b.m.Fish(b.t.Context(), "", []string{"--ro"}, patient, b.teller(), use)
}

func TestGuestfishIsToldOneCommandAfterTheOther(t *testing.T) {
	t.Parallel()
	b := newBench(t, `echo "$*"; while read -r line; do printf '<%s>\n' "$line"; done; head -c 1000000 /dev/zero`)
	const want = "--keys-from-stdin --ro\n<upload \"a \\\"b\\\" \\\\c\" /x>\n"
	said := make([]byte, len(want))
	err := b.fish(func(f *appliance.Fish) error {
		f.Tell("upload %s /x", appliance.Quote(`a "b" \c`))
		_, err := io.ReadFull(f.Out, said)
		return err // what is not read is no obstacle
	})
	if err != nil || string(said) != want {
		t.Errorf("%v, %q", err, said)
	}
}

func TestAGuestfishThatFailsIsToldWithItsWordsAndAHint(t *testing.T) {
	t.Parallel()
	for said, hint := range map[string]string{
		"guestfish: no operating system was found on this disk":            "encrypted",
		"guestfish: multi-boot operating systems are not supported":        "more than one",
		"libguestfs: error: passphrase is wrong":                           "encrypted",
		"libguestfs: error: /usr/bin/supermin exited with error status 1.": "kernel",
		"libguestfs: error: appliance closed the connection unexpectedly":  "libguestfs-test-tool",
		"libguestfs: error: write: No space left on device":                "free some space",
	} {
		t.Run(said, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, "echo '"+said+"' >&2; exit 1")
			err := b.fish(func(f *appliance.Fish) error {
				_, err := f.Out.Read(make([]byte, 1))
				return err
			})
			if err == nil || !strings.Contains(err.Error(), said) || !strings.Contains(fault.Hint(err), hint) {
				t.Errorf("ends with %v, hint %q", err, fault.Hint(err))
			}
		})
	}
}

func TestAGuestfishThatIsMissingIsNamedWithItsPackage(t *testing.T) {
	t.Parallel()
	b := newBench(t, "")
	b.m.Env = []string{"PATH=" + t.TempDir()}
	if err := b.fish(func(*appliance.Fish) error { return nil }); !strings.Contains(fmt.Sprint(err), "not installed") || !strings.Contains(fault.Hint(err), "libguestfs-tools") {
		t.Errorf("%v (%s)", err, fault.Hint(err))
	}
}

func TestWhatIsDoneWithGuestfishEndsItAlsoByAPanic(t *testing.T) {
	t.Parallel()
	b := newBench(t, "while read -r line; do :; done")
	defer func() {
		if recover() == nil {
			t.Error("the panic is lost")
		}
	}()
	_ = b.fish(func(*appliance.Fish) error { panic("a defect") })
}

// FuzzLines: whatever is written, and in whatever pieces, comes line by line and bounded.
func FuzzLines(f *testing.F) {
	f.Add("a\n\n b \nc", 1)
	f.Add("\x00\xff\n"+strings.Repeat("x", 1000), 7)
	f.Fuzz(func(t *testing.T, text string, piece int) {
		piece = min(max(piece, 1), 1<<16)
		var got []string
		l := appliance.NewLines(func(line string) { got = append(got, line) })
		for rest := text; len(rest) > 0; {
			n := min(piece, len(rest))
			_, _ = io.WriteString(l, rest[:n])
			rest = rest[n:]
		}
		l.End()
		if len(text) > 64<<10 {
			return
		}
		var want []string
		for line := range strings.SplitSeq(text, "\n") {
			if line = strings.TrimSpace(line); line != "" {
				want = append(want, line)
			}
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%q, want %q", got, want)
		}
	})
}
