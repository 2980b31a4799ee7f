//go:build unix

package inspect_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/tools/txtar"

	"github.com/hyper2kvm/hyper2kvm/inspect"
	"github.com/hyper2kvm/hyper2kvm/internal/appliance"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/process/processtest"
)

var update = flag.Bool("update", false, "write what is found into the files of testdata")

func TestMain(m *testing.M) {
	flag.Parse()
	goleak.VerifyTestMain(m)
}

// answering is the loop of a guestfish that answers what a file says: a line with "> " and
// a command, and below it the answer. What is not there has failed.
const answering = `
while IFS= read -r line; do
	case $line in
	"!echo "*) echo "${line#!echo }" ;;
	run | ping-daemon) ;;
	-*) want="> ${line#-}" awk '/^> / { on = $0 == ENVIRON["want"]; next } on' "$here/answers" ;;
	*) exit 1 ;;
	esac
done
`

// fish returns a tool whose guestfish is a script, in a directory that the script knows
// as $here.
func fish(t *testing.T, script string) (tool *inspect.Tool, here string) {
	t.Helper()
	here = t.TempDir()
	program := filepath.Join(here, "guestfish")
	processtest.Script(t, program, fmt.Sprintf("here=%q\n%s", here, script))
	return &inspect.Tool{Program: program, Machine: &appliance.Machine{Env: []string{"PATH=" + os.Getenv("PATH")}}}, here
}

// zeros is a disk of n bytes.
func zeros(n int64) inspect.Disk {
	return inspect.Disk{Size: n, Read: func(_ context.Context, p []byte, _ int64) error {
		clear(p)
		return nil
	}}
}

// told fails the test when there is something to tell.
func told(t *testing.T) func(string) { return func(text string) { t.Errorf("told %q", text) } }

// TestWhatGuestfishAnswersIsJudged goes through the files of testdata: answers are those of
// guestfish, want is what is found, and what that is judged to be. In want a line begins
// with what the finding keeps from being done.
func TestWhatGuestfishAnswersIsJudged(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			a, err := txtar.ParseFile(file)
			if err != nil || len(a.Files) != 2 {
				t.Fatal(err)
			}
			tool, here := fish(t, answering)
			if err := os.WriteFile(filepath.Join(here, "answers"), a.Files[0].Data, 0o600); err != nil {
				t.Fatal(err)
			}
			g, err := tool.Look(t.Context(), []inspect.Disk{zeros(1 << 20)}, told(t))
			if err != nil {
				t.Fatal(err)
			}
			got := describe(g, inspect.Machine{EFI: bytes.Contains(a.Comment, []byte("UEFI"))})
			if *update {
				a.Files[1].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(a), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if want := string(a.Files[1].Data); got != want {
				t.Errorf("found\n%swant\n%s", got, want)
			}
		})
	}
}

// describe writes what was found as the files of testdata have it.
func describe(g inspect.Guest, m inspect.Machine) string {
	var b strings.Builder
	for _, s := range g.Systems {
		fmt.Fprintf(&b, "system %s: %s %s %s %s, boots by %s, initramfs by %s, network %v\n", s, s.Type, s.Distro, s.Version, s.Arch, s.Loader, s.Initramfs, s.Network)
		for _, f := range s.FileSystems {
			fmt.Fprintf(&b, "\t%s on %s (%s), %d of %d bytes free\n", f.Mount, f.Device, f.Type, f.Free, f.Size)
		}
	}
	for _, f := range g.Findings(m) {
		keeps := "warning"
		switch {
		case f.Conversion && f.Addresses:
			keeps = "all"
		case f.Conversion:
			keeps = "conversion"
		case f.Addresses:
			keeps = "addresses"
		}
		fmt.Fprintf(&b, "%s: %s: %s\n\t%s\n", keeps, f.Code, f.Text, f.Hint)
	}
	return b.String()
}

func TestGuestfishReadsTheDisksInTheirOrderAndNothingIsLeft(t *testing.T) {
	t.Parallel()
	tool, here := fish(t, `echo "$*" >"$here/args"
for a; do
	case $a in nbd:*) qemu-io -r -f raw -c "read -P $((n = n + 1)) 512 1M" "nbd+unix${a#nbd}" >>"$here/read" || exit 1 ;; esac
done`+answering)
	if err := os.WriteFile(filepath.Join(here, "answers"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var disks []inspect.Disk
	for i := range 3 {
		disks = append(disks, inspect.Disk{Size: 4 << 20, Read: func(_ context.Context, p []byte, _ int64) error {
			copy(p, bytes.Repeat([]byte{byte(i + 1)}, len(p)))
			return nil
		}})
	}
	g, err := tool.Look(t.Context(), disks, told(t))
	if err != nil || len(g.Systems) != 0 || g.Volumes == nil {
		t.Errorf("%+v, %v", g, err)
	}
	read, err := os.ReadFile(filepath.Join(here, "read"))
	if err != nil || bytes.Contains(read, []byte("failed")) || bytes.Count(read, []byte("1048576/1048576")) != 3 {
		t.Errorf("%v\n%s", err, read)
	}
	args, err := os.ReadFile(filepath.Join(here, "args"))
	if err != nil || !bytes.HasPrefix(args, []byte("--keys-from-stdin --ro --format=raw -a nbd:///disk0?socket=")) {
		t.Fatalf("%v, %s", err, args)
	}
	_, socket, _ := strings.Cut(strings.Fields(string(args))[4], "socket=")
	socket = strings.ReplaceAll(socket, "%2F", "/")
	if info, err := os.Stat(filepath.Dir(socket)); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v, %v", socket, info, err)
	}
}

func TestADiskThatCannotBeReadEndsTheLookWithItsReason(t *testing.T) {
	t.Parallel()
	tool, _ := fish(t, `for a; do
	case $a in nbd:*) qemu-io -r -f raw -c "read 0 512" "nbd+unix${a#nbd}" >&2 ;; esac
done
sleep 100000 & wait`)
	locked := errors.New("the VM was powered on")
	_, err := tool.Look(t.Context(), []inspect.Disk{{Size: 1 << 20, Read: func(context.Context, []byte, int64) error { return locked }}}, told(t))
	if !errors.Is(err, locked) {
		t.Errorf("error %v", err)
	}
}

func TestALookThatIsGivenUpEndsWithAllThatItStarted(t *testing.T) {
	t.Parallel()
	// Whatever is started has the pipe open.
	tool, here := fish(t, `exec 9>"$here/pipe"
sleep 100000 &
for a; do
	case $a in nbd:*) qemu-io -r -f raw -c "read 0 512" "nbd+unix${a#nbd}" >&2 & ;; esac
done
wait`)
	if err := syscall.Mkfifo(filepath.Join(here, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	pipe, err := os.OpenFile(filepath.Join(here, "pipe"), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	disk := inspect.Disk{Size: 512, Read: func(ctx context.Context, _ []byte, _ int64) error {
		cancel(enough)
		<-ctx.Done()
		return ctx.Err()
	}}
	if _, err := tool.Look(ctx, []inspect.Disk{disk}, told(t)); !errors.Is(err, enough) {
		t.Errorf("error %v", err)
	}
	if err := pipe.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(pipe); err != nil {
		t.Errorf("something goes on: %v", err)
	}
}

func TestAGuestfishThatDoesNotAnswerIsAnErrorThatSaysWhy(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ script, want, hint string }{
		"it fails":                     {"echo 'libguestfs: error: no kernel was found' >&2; exit 1", "no kernel was found", ""},
		"it ends in the middle":        {"read -r line; read -r line; exit 0", "run", ""},
		"its appliance does not start": {"read -r line\n[ \"$line\" != run ] || { echo 'libguestfs: error: guestfs_launch failed.' >&2; exit 1; }" + answering, "guestfs_launch failed", "libguestfs-test-tool"},
		"its appliance dies in the middle": {strings.Replace(answering, "run | ping-daemon)", "ping-daemon) echo 'libguestfs: error: appliance closed the connection unexpectedly' >&2; exit 1 ;;\n\trun)", 1),
			"appliance closed", "libguestfs-test-tool"},
		"it does not come to an end": {"while :; do echo 0123456789012345678901234567890123456789012345678901234567890123456789; done", "more than", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tool, here := fish(t, test.script)
			if err := os.WriteFile(filepath.Join(here, "answers"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := tool.Look(t.Context(), []inspect.Disk{zeros(512)}, func(string) {})
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(fault.Hint(err), test.hint) {
				t.Errorf("error %v, hint %q", err, fault.Hint(err))
			}
		})
	}
}

func TestAnApplianceThatHangsWithKVMIsTriedWithoutAndToldSo(t *testing.T) {
	t.Parallel()
	tool, here := fish(t, `[ "$LIBGUESTFS_BACKEND_SETTINGS" = force_tcg ] || exec sleep 100000`+answering)
	if err := os.WriteFile(filepath.Join(here, "answers"), []byte("> list-filesystems\n/dev/sda1: ext4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tool.Launch = 50 * time.Millisecond
	var told []string
	g, err := tool.Look(t.Context(), []inspect.Disk{zeros(512)}, func(text string) { told = append(told, text) })
	if err != nil || len(g.Volumes) != 1 {
		t.Errorf("%+v, %v", g, err)
	}
	if len(told) != 1 || !strings.Contains(told[0], "without KVM") {
		t.Errorf("told %q", told)
	}
}

func TestAMissingGuestfishIsNamedWithItsPackage(t *testing.T) {
	t.Parallel()
	tool := &inspect.Tool{Machine: &appliance.Machine{Env: []string{"PATH=" + t.TempDir()}}}
	problems := tool.Problems()
	if len(problems) == 0 || !problems[0].Fatal || !strings.Contains(problems[0].Text, "guestfish") || !strings.Contains(problems[0].Hint, "libguestfs-tools") {
		t.Errorf("%+v", problems)
	}
	_, err := tool.Look(t.Context(), []inspect.Disk{zeros(512)}, told(t))
	if err == nil || !strings.Contains(fault.Hint(err), "libguestfs-tools") {
		t.Errorf("error %v, hint %q", err, fault.Hint(err))
	}
}

func TestThePathOfTheSocketIsShortEnoughWhateverTMPDIRIs(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", long)
	tool, here := fish(t, answering)
	if err := os.WriteFile(filepath.Join(here, "answers"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tool.Look(t.Context(), []inspect.Disk{zeros(512)}, told(t)); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(long); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
