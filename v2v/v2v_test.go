//go:build unix

package v2v_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/internal/appliance"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/process/processtest"
	"github.com/hyper2kvm/hyper2kvm/v2v"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tool is a Tool whose virt-v2v-in-place does what script says, on a machine that has
// everything else.
func tool(t *testing.T, script string) *v2v.Tool {
	t.Helper()
	bin := t.TempDir()
	for _, name := range []string{"nbdkit", "qemu-img", "qemu-nbd", "supermin", "qemu-system-x86_64"} {
		program(t, bin, name, "exit 0")
	}
	program(t, bin, v2v.Program, `case "$1" in --version) echo "virt-v2v-in-place 2.2.0"; exit ;; esac`+"\n"+script)
	kernel := filepath.Join(bin, "vmlinuz")
	if err := os.WriteFile(kernel, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return &v2v.Tool{Machine: &appliance.Machine{Env: []string{"PATH=" + bin + ":/usr/bin:/bin", "SUPERMIN_KERNEL=" + kernel, "TMPDIR=" + os.TempDir(), "GOVC_PASSWORD=hunter2"}}}
}

func program(t *testing.T, dir, name, script string) {
	t.Helper()
	processtest.Script(t, filepath.Join(dir, name), script)
}

// only makes PATH a directory of its own, with what the tool has in its first one and
// nothing else.
func only(tool *v2v.Tool) (bin string) {
	bin, _, _ = strings.Cut(strings.TrimPrefix(tool.Machine.Env[0], "PATH="), ":")
	tool.Machine.Env[0] = "PATH=" + bin
	return bin
}

// fatal are the texts and hints of what makes a conversion impossible.
func fatal(problems []v2v.Problem) (out []string) {
	for _, p := range problems {
		if p.Fatal {
			out = append(out, p.Text+" ("+p.Hint+")")
		}
	}
	return out
}

func TestWhatAConversionLacksOnThisMachineIsNamedWithItsPackage(t *testing.T) {
	t.Parallel()
	version := func(says string) func(*testing.T, *v2v.Tool, string) {
		return func(t *testing.T, _ *v2v.Tool, bin string) { program(t, bin, v2v.Program, says) }
	}
	without := func(name string) func(*testing.T, *v2v.Tool, string) {
		return func(t *testing.T, _ *v2v.Tool, bin string) {
			if err := os.Remove(filepath.Join(bin, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, test := range map[string]struct {
		change func(t *testing.T, tool *v2v.Tool, bin string)
		want   []string // nothing when it can convert
	}{
		"nothing":          {func(*testing.T, *v2v.Tool, string) {}, nil},
		"virt-v2v":         {without(v2v.Program), []string{v2v.Program, "package virt-v2v"}},
		"nbdkit":           {without("nbdkit"), []string{"nbdkit", "package nbdkit"}},
		"qemu-img":         {without("qemu-img"), []string{"qemu-img", "package qemu-utils"}},
		"qemu-nbd":         {without("qemu-nbd"), []string{"qemu-nbd", "package qemu-utils"}},
		"supermin":         {without("supermin"), []string{"supermin", "package supermin"}},
		"QEMU":             {without("qemu-system-x86_64"), []string{"qemu-system-x86_64", "package qemu-system-x86"}},
		"a kernel":         {without("vmlinuz"), []string{"kernel", "package linux-image"}},
		"an old version":   {version("echo virt-v2v-in-place 1.44.2"), []string{"too old", "2.0 or later"}},
		"something else":   {version("echo 'usage: me'"), []string{"usage: me", "2.0 or later"}},
		"a broken program": {version("echo 'symbol lookup error' >&2; exit 127"), []string{"symbol lookup error", "2.0 or later"}},
		"a newer version":  {version("echo virt-v2v-in-place 2.10.0rhel=10,release=1.el10"), nil},
		"a fixed appliance": {func(_ *testing.T, tool *v2v.Tool, bin string) {
			tool.Machine.Env = append(tool.Machine.Env, "SUPERMIN_KERNEL=/none", "LIBGUESTFS_PATH="+bin)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tool := tool(t, "exit 0")
			test.change(t, tool, only(tool))
			got := fatal(tool.Problems(t.Context()))
			if (len(got) == 0) != (len(test.want) == 0) || len(got) > 1 {
				t.Fatalf("problems %q, want %q", got, test.want)
			}
			for _, want := range test.want {
				if !strings.Contains(got[0], want) {
					t.Errorf("%q lacks %q", got[0], want)
				}
			}
		})
	}
}

func TestWhatIsKnownOfAGuestIsSaidBeforehand(t *testing.T) {
	t.Parallel()
	iso := filepath.Join(t.TempDir(), "virtio-win.iso")
	if err := os.WriteFile(iso, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		guest v2v.Guest
		iso   string
		fatal bool
		want  string // "" is nothing to say
	}{
		"Linux":                    {v2v.Guest{ID: "debian12_64Guest"}, iso, false, ""},
		"Linux that runs":          {v2v.Guest{ID: "debian12_64Guest", Running: true}, iso, false, "-shutdown"},
		"an old XFS":               {v2v.Guest{ID: "rhel7_64Guest"}, iso, false, "crc=0"},
		"FreeBSD":                  {v2v.Guest{ID: "freebsd13_64Guest", FullName: "FreeBSD 13"}, iso, true, "FreeBSD 13"},
		"Windows 2000":             {v2v.Guest{ID: "win2000ServGuest"}, iso, true, "since XP"},
		"Windows":                  {v2v.Guest{ID: "windows2019srv_64Guest"}, iso, false, "Fast Startup"},
		"Windows, no such drivers": {v2v.Guest{ID: "windows9_64Guest"}, iso + ".gone", true, "-virtio-win"},
		"Linux, no such drivers":   {v2v.Guest{ID: "debian12_64Guest"}, iso + ".gone", false, "-virtio-win"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := (&v2v.Tool{VirtioWin: test.iso, Machine: &appliance.Machine{Env: []string{}}}).About(test.guest)
			if text := fmt.Sprint(got); !strings.Contains(text, test.want) || (len(got) == 0) != (test.want == "") || (len(fatal(got)) > 0) != test.fatal {
				t.Errorf("%s", text)
			}
		})
	}
}

// convert runs a conversion, and returns what was told beside its outcome.
func convert(ctx context.Context, tool *v2v.Tool, onPhase func(string)) (o v2v.Outcome, log string, told []string, err error) {
	var words bytes.Buffer
	o, err = tool.Convert(ctx, []byte("<domain/>"), &words, v2v.Teller{
		Phase: func(s string) {
			told = append(told, s)
			if onPhase != nil {
				onPhase(s)
			}
		},
		Info: func(s string) { told = append(told, s) },
	})
	return o, words.String(), told, err
}

// message is a line of virt-v2v's standard output with --machine-readable.
func message(kind, text string) string {
	return fmt.Sprintf(`echo '{ "message": "%s", "timestamp": "2026-11-28T07:15:41.7+00:00", "type": "%s" }'`+"\n", text, kind)
}

func TestAConversionTellsWhatItDoesAndWhatTheGuestHasNow(t *testing.T) {
	t.Parallel()
	tool := tool(t, `[ "$(cat "$7")" = "<domain/>" ] || exit 3
echo "args: $1 $2 $3 $4 $5"; env >&2
`+message("message", "Opening the source")+message("warning", `could not \u001b[2J update`)+
		message("info", "This guest has virtio drivers installed.")+`echo "gcaps_net_bus = e1000" >&2; printf 'no end of line'`)
	tool.VirtioWin = "/srv/virtio-win.iso"
	o, log, told, err := convert(t.Context(), tool, nil)
	if err != nil {
		t.Fatal(err)
	}
	if o.Program != "virt-v2v-in-place 2.2.0" || !o.VirtioDisks || o.VirtioCards || o.SCSI || len(o.Warnings) != 1 || o.Warnings[0] != `could not \x1b[2J update` {
		t.Errorf("%+v", o)
	}
	if !slices.Contains(told, "Opening the source") {
		t.Errorf("told %q", told)
	}
	for _, want := range []string{"args: --machine-readable -v --root single -i", "LC_ALL=C.UTF-8", "LIBGUESTFS_BACKEND=direct", "VIRTIO_WIN=/srv/virtio-win.iso", "no end of line"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
	if strings.Contains(log, "hunter2") {
		t.Error("virt-v2v gets a password that is not for it")
	}
}

func TestWhatVirtV2VDecidesIsTakenOver(t *testing.T) {
	t.Parallel()
	for says, want := range map[string]v2v.Outcome{
		"gcaps_block_bus = virtio-blk\ngcaps_net_bus = virtio-net":  {VirtioDisks: true, VirtioCards: true},
		"gcaps_block_bus = virtio-scsi\ngcaps_net_bus = virtio-net": {VirtioDisks: true, VirtioCards: true, SCSI: true},
		"gcaps_block_bus = ide\ngcaps_net_bus = rtl8139":            {},
		"virt-v2v: This guest has virtio drivers installed.":        {VirtioDisks: true, VirtioCards: true},
		"This guest does not have virtio drivers installed.":        {},
	} {
		got, _, _, err := convert(t.Context(), tool(t, "echo '"+says+"' >&2"), nil)
		want.Program = got.Program
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%q: %+v, %v", says, got, err)
		}
	}
}

func TestAnApplianceThatDoesNotComeUpIsTriedWithoutKVM(t *testing.T) {
	t.Parallel()
	tool := tool(t, `[ "$LIBGUESTFS_BACKEND_SETTINGS" = force_tcg ] && exec echo "libguestfs: appliance is up"
printf '/usr/bin/qemu-system-x86_64 \\\n' >&2
`+message("error", "libguestfs error: appliance closed the connection unexpectedly")+"exit 1")
	for again := range 2 {
		_, log, told, err := convert(t.Context(), tool, nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		if said := strings.Contains(strings.Join(told, " "), "without KVM"); said != (again == 0) {
			t.Errorf("the next conversion tries /dev/kvm again: told %q", told)
		}
	}
}

func TestAConversionIsBoundedInTime(t *testing.T) {
	t.Parallel()
	const hang = "sleep 100000 & wait"
	const soon, late = 50 * time.Millisecond, time.Hour
	for name, test := range map[string]struct {
		script               string
		launch, quiet, whole time.Duration
		want                 error
	}{
		"an appliance that hangs, with KVM and without": {hang, soon, late, late, appliance.ErrHung},
		"no word once the appliance is up":              {"echo 'libguestfs: appliance is up' >&2; " + hang, late, soon, late, appliance.ErrHung},
		"words without an end":                          {"while echo word; do sleep 0.1; done", late, late, soon, appliance.ErrTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tool := tool(t, test.script)
			tool.Launch, tool.Quiet, tool.Whole = test.launch, test.quiet, test.whole
			if _, _, _, err := convert(t.Context(), tool, nil); !errors.Is(err, test.want) || fault.Hint(err) == "" {
				t.Errorf("error %v (%s)", err, fault.Hint(err))
			}
		})
	}
}

func TestAConversionEndsWithItsContextAndLeavesNoTemporaryFile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	_, _, _, err := convert(ctx, tool(t, `touch "$TMPDIR/socket" "$LIBGUESTFS_TMPDIR/disk"; `+message("message", "Inspecting the source")+"sleep 100000 & wait"), func(string) { cancel(enough) })
	if !errors.Is(err, enough) {
		t.Errorf("error %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestAConversionWhoseLogCannotBeWrittenFails(t *testing.T) {
	t.Parallel()
	_, err := tool(t, "echo word").Convert(t.Context(), nil, full{}, v2v.Teller{Phase: func(string) {}, Info: func(string) {}})
	if err == nil || !strings.Contains(err.Error(), "log of the conversion") {
		t.Errorf("error %v", err)
	}
}

func TestAFailureComesWithItsReasonAndWhatToDo(t *testing.T) {
	t.Parallel()
	for text, test := range map[string]struct{ log, hint string }{
		"virt-v2v is unable to convert this guest type (freebsd/freebsd)":                               {"", "leave -convert out"},
		"filesystem was mounted read-only, even though we asked for it to be mounted read-write.":       {"", "Fast Startup"},
		"unable to mount the disk image for writing. Windows Hibernation or Fast Restart is being used": {"", "powercfg /h off"},
		"could not find key to open LUKS encrypted /dev/sda2.":                                          {"", "decrypt"},
		"inspection could not detect the source guest (or physical machine).":                           {"", "no operating system"},
		"No root device found in this operating system image.":                                          {`/dev/sda2: TYPE="crypto_LUKS"`, "encrypted volume"},
		"No root device found in this operating system image. (2)":                                      {`/dev/sda3: TYPE="BitLocker"`, "manage-bde -off"},
		"No root device found in this operating system image. (3)":                                      {"/dev/mapper/ldm_vol_X-Dg0_Volume1", "dynamic disk"},
		"mount exited with status 32: mount: /sysroot: wrong fs type":                                   {"XFS (sda3): Deprecated V4 format (crc=0) not supported by kernel.", "XFS of version 4"},
		"multi-boot operating systems are not supported by virt-v2v":                                    {"", "several operating systems"},
		"not enough free space for conversion on filesystem ‘/’.  12.0 MB free < 100 MB needed":         {"", "100 MB"},
		"insufficient free space in the conversion server temporary directory /var/tmp (500M).":         {"", "LIBGUESTFS_CACHEDIR"},
		"write error: No space left on device":                                                          {"", "output directory is full"},
		"failed to find grub2-mkconfig binary (but Grub2 was detected on guest)":                        {"", "grub2-common"},
		"there are no virtio drivers; virt-v2v looks for drivers in /usr/share/virtio-win":              {"", "-virtio-win ISO"},
		"libguestfs error: /usr/bin/supermin exited with error status 1, see debug messages above":      {"", "/boot/vmlinuz"},
		"something that nobody has seen":                                                                {"", "log of the conversion"},
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			script := "echo '" + test.log + "' >&2\n" + strings.Repeat("echo debug >&2\n", 30) + message("error", text) + "exit 1"
			_, _, _, err := convert(t.Context(), tool(t, script), nil)
			if err == nil || !strings.Contains(err.Error(), text) || !strings.Contains(fault.Hint(err), test.hint) {
				t.Errorf("error %v (%s), want %q", err, fault.Hint(err), test.hint)
			}
		})
	}
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		_, _, _, err := convert(t.Context(), tool(t, "echo 'the last \x1b[2J word' >&2; kill -9 $$"), nil)
		if err == nil || !strings.Contains(err.Error(), "killed") || !strings.Contains(err.Error(), `the last \x1b[2J word`) {
			t.Errorf("error %v", err)
		}
	})
}
