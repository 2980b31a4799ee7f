package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/vddk"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// standIn is a program in place of nbdkit, whose vddk plugin needs a library that is not
// to be had. It notes what it is given, and becomes a real nbdkit that serves the file
// of the lab which VDDK would have read.
const standIn = `#!/bin/sh
case " $* " in *" --dump-plugin "*) %[2]s exit 0;; esac
n=$$
printf '%%s\n' "$@" >%[1]s/argv.$n
env >%[1]s/env.$n
while [ $# -gt 0 ]; do
	case $1 in
	--unix) shift; socket=$1;;
	password=+*) cat "${1#password=+}" >%[1]s/password.$n; stat -c %%a "${1#password=+}" "$(dirname "${1#password=+}")" >%[1]s/mode.$n;;
	file=*) file=${1#file=};;
	esac
	shift
done
case $file in
%[3]s
*) echo "nbdkit: vddk[1]: error: VixDiskLib_Open: $file: there is no such file" >&2; exit 1;;
esac
%[4]s
`

// vddkBench is a bench that has VDDK, as far as anybody can tell.
type vddkBench struct {
	*bench
	notes string // directory of what nbdkit was given
}

// newVDDKBench is newFlatBench with VDDK. serve is how the stand-in ends: how it serves
// "$raw" on "$socket"; "" is faultlessly.
func newVDDKBench(t *testing.T, cfg vspheretest.Config, serve string, disks ...string) *vddkBench {
	t.Helper()
	b := &vddkBench{notes: t.TempDir()}
	cfg.Password = "Pa$$ word`1`"
	b.bench = newFlatBench(t, cfg, disks...)
	client, err := vsphere.Dial(t.Context(), b.config())
	if err != nil {
		t.Fatal(err)
	}
	vm, err := client.Find(t.Context(), "guest1")
	if err := errors.Join(err, client.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	var files strings.Builder
	for i, d := range vm.Disks {
		fmt.Fprintf(&files, "'[%s] %s') raw=%s;;\n", d.Datastore, d.File, disks[i])
	}
	if serve == "" {
		serve = nbdkitArgs("file $raw")
	}
	program, libdir := filepath.Join(t.TempDir(), "nbdkit"), t.TempDir()
	if err := errors.Join(
		os.WriteFile(program, fmt.Appendf(nil, standIn, b.notes, "", files.String(), serve), 0o700),
		os.Mkdir(filepath.Join(libdir, "lib64"), 0o700),
		os.WriteFile(filepath.Join(libdir, "lib64", "libvixDiskLib.so.8"), nil, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	b.m.VDDK = &vddk.Tool{LibDir: libdir, Nbdkit: program}
	return b
}

// nbdkitArgs becomes the real nbdkit, with these arguments.
func nbdkitArgs(args string) string {
	return `exec nbdkit --foreground --exit-with-parent --readonly --unix "$socket" ` + args
}

// noted returns what was noted of each nbdkit that ran, by kind.
func (b *vddkBench) noted(kind string) []string {
	b.t.Helper()
	files, err := filepath.Glob(filepath.Join(b.notes, kind+".*"))
	if err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			b.t.Fatal(err)
		}
		out = append(out, string(text))
	}
	return out
}

// settled checks that nothing of a run is left: at vSphere, and of nbdkit.
func (b *vddkBench) settled() {
	b.t.Helper()
	b.clean()
	for _, argv := range b.noted("argv") {
		args := strings.Split(argv, "\n")
		socket := args[slices.Index(args, "--unix")+1]
		if _, err := os.Stat(filepath.Dir(socket)); !errors.Is(err, os.ErrNotExist) {
			b.t.Errorf("%s is left (%v)", filepath.Dir(socket), err)
		}
	}
}

func TestDisksOfEveryShapeComeIdenticalByVDDK(t *testing.T) {
	t.Parallel()
	var disks []string
	for _, path := range shapes(t) {
		disks = append(disks, path)
	}
	for _, on := range []bool{false, true} {
		for _, format := range imageFormats {
			for _, verify := range []job.Verify{"", job.VerifyFull} {
				t.Run(fmt.Sprintf("on=%t %s verify=%q", on, format, verify), func(t *testing.T) {
					t.Parallel()
					b := newVDDKBench(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", PoweredOn: on}}}, "", disks...)
					def := b.by(job.TransportVDDK, format)
					def.Options.Verify, def.Options.Snapshot = verify, on
					result := b.export(def)
					b.identical(result)
					b.settled()
					want := job.BySize
					if verify != "" {
						want = job.BySecondRead
					}
					wantTransport(t, result, "vddk", want)
					if n := len(b.Requests(vspheretest.NFC, vspheretest.Folder, vspheretest.NFC902)); n > 0 {
						t.Errorf("%d requests went another way", n)
					}
					if told := strings.Contains(strings.Join(result.Notes, "\n"), "no checksum"); told != (verify == "") {
						t.Errorf("notes %q", result.Notes)
					}
				})
			}
		}
	}
}

func TestDisksWithSnapshotsComeIdenticalByVDDK(t *testing.T) {
	t.Parallel()
	b := newVDDKBench(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", Snapshots: []string{"before", "after"}}}}, "", twoDisks(t)...)
	result := b.export(b.by(job.TransportVDDK, job.FormatQcow2))
	b.identical(result)
	wantTransport(t, result, "vddk", job.BySize)
	for _, argv := range b.noted("argv") {
		if !strings.Contains(argv, "-000002.vmdk\n") {
			t.Errorf("it is not the top link that is read:\n%s", argv)
		}
	}
}

// grammar is that of nbdkit(1) and nbdkit-vddk-plugin(1), as far as it is used: which
// parameters there are, and what each may be.
var grammar = map[string]*regexp.Regexp{
	"libdir":     regexp.MustCompile(`^/.+$`),
	"server":     regexp.MustCompile(`^[a-zA-Z0-9.:-]+$`),
	"port":       regexp.MustCompile(`^[0-9]+$`),
	"user":       regexp.MustCompile(`^.+$`),
	"password":   regexp.MustCompile(`^\+/.+$`),
	"thumbprint": regexp.MustCompile(`^([0-9A-F]{2}:){19}[0-9A-F]{2}$`),
	"vm":         regexp.MustCompile(`^moref=[a-z0-9-]+$`),
	"snapshot":   regexp.MustCompile(`^snapshot-[0-9]+$`),
	"transports": regexp.MustCompile(`^nbdssl$`),
	"file":       regexp.MustCompile(`^\[[^]]+\] .+\.vmdk$`),
}

func TestNbdkitIsGivenWhatItsManualDocumentsAndThePasswordByFileAlone(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{false, true} {
		b := newVDDKBench(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", PoweredOn: on}}}, "", twoDisks(t)...)
		password := b.config().Password
		def := b.by(job.TransportVDDK, job.FormatQcow2)
		def.Options.Snapshot = on
		_, tracker, err := b.run(context.Background(), def)
		if err != nil {
			t.Fatal(err)
		}
		argvs := b.noted("argv")
		if len(argvs) != 2 {
			t.Errorf("nbdkit ran %d times for two disks", len(argvs))
		}
		for _, argv := range argvs {
			args := strings.Split(strings.TrimSuffix(argv, "\n"), "\n")
			options, parameters := args[:5], args[6:]
			if want := []string{"--foreground", "--exit-with-parent", "--readonly", "--unix"}; !slices.Equal(options[:4], want) || args[5] != "vddk" {
				t.Errorf("arguments %q", args)
			}
			seen := map[string]bool{}
			for _, p := range parameters {
				key, value, _ := strings.Cut(p, "=")
				if re := grammar[key]; re == nil || !re.MatchString(value) || seen[key] {
					t.Errorf("nbdkit does not know %q", p)
				}
				seen[key] = true
			}
			for key := range grammar {
				if seen[key] != (key != "snapshot" || on) {
					t.Errorf("%s is given: %t", key, seen[key])
				}
			}
		}
		for _, text := range append(append(argvs, b.noted("env")...), events(tracker)) {
			if strings.Contains(text, password) || strings.Contains(text, "GOVC") {
				t.Errorf("the password, or a variable of ours, is in\n%s", text)
			}
		}
		for i, got := range b.noted("password") {
			if got != password+"\n" || b.noted("mode")[i] != "600\n700\n" {
				t.Errorf("the file says %q, with modes %q", got, b.noted("mode")[i])
			}
		}
	}
}

func TestAPassingFaultOfNbdkitIsOutlived(t *testing.T) {
	t.Parallel()
	disks := []string{rawDisk(t, 24*mib, extent{mib, 20 * mib, true})}
	for name, serve := range map[string]string{
		"reads that fail":        nbdkitArgs("--filter=error file $raw error-pread-rate=0.2"),
		"slow":                   nbdkitArgs("--filter=delay file $raw delay-read=5ms"),
		"in no hurry":            nbdkitArgs("--filter=rate file $raw rate=1G"),
		"simple replies":         nbdkitArgs("--no-sr file $raw"),
		"whole sectors only":     nbdkitArgs("--filter=blocksize-policy file $raw blocksize-minimum=512 blocksize-error-policy=error"),
		"one request at a time":  nbdkitArgs("--filter=noparallel file $raw"),
		"it dies in mid-disk":    counted(7, "kill -9 $PPID"),
		"it does not start once": `mkdir %[1]s/once 2>/dev/null && { echo "nbdkit: error: NFC error 5" >&2; exit 1; }; ` + nbdkitArgs("file $raw"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newVDDKBench(t, vspheretest.Config{}, "", disks...)
			b.rewrite(serve)
			b.m.Budget.Retries = 50
			result, tracker, err := b.run(context.Background(), b.by(job.TransportVDDK, job.FormatQcow2))
			if err != nil {
				t.Fatalf("%v\n%s", err, events(tracker))
			}
			b.identical(result)
			b.settled()
			wantTransport(t, result, "vddk", job.BySize)
			if again := strings.HasPrefix(name, "it d"); len(b.noted("argv")) > 1 != again {
				t.Errorf("nbdkit ran %d times", len(b.noted("argv")))
			}
		})
	}
}

// rewrite changes how the stand-in serves; %[1]s stands for the directory of its notes.
func (b *vddkBench) rewrite(serve string) {
	b.t.Helper()
	if strings.Contains(serve, "%[1]s") {
		serve = fmt.Sprintf(serve, b.notes)
	}
	script, err := os.ReadFile(b.m.VDDK.Nbdkit)
	if err != nil {
		b.t.Fatal(err)
	}
	text := strings.Replace(string(script), nbdkitArgs("file $raw"), serve, 1)
	if err := os.WriteFile(b.m.VDDK.Nbdkit, []byte(text), 0o700); err != nil {
		b.t.Fatal(err)
	}
}

func TestAFaultOfNbdkitThatLastsEndsInWhatItHasSaidWithNothingLeft(t *testing.T) {
	t.Parallel()
	disks := twoDisks(t)
	for name, c := range map[string]struct{ serve, want string }{
		"it does not start":    {`echo "nbdkit: vddk[1]: error: VixDiskLib_ConnectEx: Cannot connect to host" >&2; exit 1`, "Cannot connect to host"},
		"it dies at once":      {`echo oh >&2; kill -9 $$`, "oh"},
		"the disk is not open": {nbdkitArgs("eval open='echo VixDiskLib_Open: locked >&2; exit 1' get_size='echo 512' pread='exit 1'"), "VixDiskLib_Open: locked"},
		"reads fail":           {nbdkitArgs("eval get_size='stat -c %s '$raw pread='echo EIO VixDiskLib_Read: lost >&2; exit 1'"), "VixDiskLib_Read: lost"},
		"another size":         {nbdkitArgs("memory 1M"), "and not the"},
		"silent":               {nbdkitArgs("--filter=delay file $raw delay-read=3600"), "no byte for|gone silent"},
		"another protocol":     {nbdkitArgs("-o file $raw"), "form of the protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newVDDKBench(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", PoweredOn: true}}}, "", disks...)
			b.rewrite(c.serve)
			b.m.Budget.Retries = 2
			if name == "silent" {
				b.m.StallTimeout = 100 * time.Millisecond
			}
			def := b.by(job.TransportVDDK, job.FormatQcow2)
			def.Options.Snapshot = true
			_, tracker, err := b.run(context.Background(), def)
			if err == nil || !regexp.MustCompile(c.want).MatchString(err.Error()) {
				t.Errorf("error %v\n%s", err, events(tracker))
			}
			if strings.Contains(c.serve, "echo") && !strings.Contains(events(tracker), "nbdkit: ") {
				t.Errorf("what nbdkit says is not in the job's log:\n%s", events(tracker))
			}
			b.settled()
			if left := b.visible(); left != nil {
				t.Errorf("%v have final names", left)
			}
		})
	}
}

func TestVDDKThatIsMissingIsSaidBeforeAnythingIsDone(t *testing.T) {
	t.Parallel()
	disks := twoDisks(t)
	for name, c := range map[string]struct {
		change    func(*vddkBench)
		say, hint string
	}{
		"no directory named": {func(b *vddkBench) { b.m.VDDK = nil }, "not known where VDDK is", "-vddk-libdir"},
		"no nbdkit":          {func(b *vddkBench) { b.m.VDDK.Nbdkit = "/nonexistent/nbdkit" }, "is not installed", "nbdkit-vddk-plugin"},
		"no such directory":  {func(b *vddkBench) { b.m.VDDK.LibDir = "/nonexistent" }, "is not VDDK", "vmware-vix-disklib-distrib"},
		"another directory":  {func(b *vddkBench) { b.m.VDDK.LibDir = b.t.TempDir() }, "is not VDDK", "vmware-vix-disklib-distrib"},
		"no plugin":          {func(b *vddkBench) { b.m.VDDK.Nbdkit = "" }, "cannot open plugin 'vddk'", "nbdkit-vddk-plugin"}, // as Debian has it
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newVDDKBench(t, vspheretest.Config{}, "", disks...)
			c.change(b)
			_, _, err := b.run(context.Background(), b.by(job.TransportVDDK, job.FormatRaw))
			var preflight *migrate.PreflightError
			if !errors.As(err, &preflight) || exists(b.out) || !migrate.Permanent(err) {
				t.Fatalf("error %v", err)
			}
			if o := preflight.Obstacles[0]; len(preflight.Obstacles) != 1 || o.Code != migrate.CodeVDDK || !strings.Contains(o.Text, c.say) || !strings.Contains(o.Hint, c.hint) {
				t.Errorf("obstacles %+v", preflight.Obstacles)
			}
		})
	}
}

func TestAutoTakesVDDKWhereItIsNamedAndNothingElseServesAndSaysWhy(t *testing.T) {
	t.Parallel()
	b := newVDDKBench(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", PoweredOn: true}}}, "", twoDisks(t)...)
	def := b.by(job.TransportAuto, job.FormatQcow2)
	def.Options.Snapshot = true
	result, tracker, err := b.run(context.Background(), def)
	if err != nil {
		t.Fatal(err)
	}
	b.identical(result)
	b.settled()
	wantTransport(t, result, "vddk", job.BySize)
	for _, text := range []string{"not from the datastore: ", "not over port 902: ", "by VDDK"} {
		if !strings.Contains(events(tracker), text) {
			t.Errorf("%q is not in\n%s", text, events(tracker))
		}
	}
}

func TestAutoTakesTheLeaseWhereVDDKDoesNotServeAndSaysWhy(t *testing.T) {
	t.Parallel()
	b := newVDDKBench(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", PoweredOn: true}}}, "", twoDisks(t)...)
	b.rewrite(`case $raw in ` + b.raw[0] + `) echo "the license has expired" >&2; exit 1;; esac; ` + nbdkitArgs("file $raw"))
	def := b.by(job.TransportAuto, job.FormatQcow2)
	def.Options.Snapshot = true
	result, tracker, err := b.run(context.Background(), def)
	if err != nil {
		t.Fatal(err)
	}
	b.identical(result)
	b.settled()
	if got := []string{result.Disks[0].Transport, result.Disks[1].Transport}; !slices.Equal(got, []string{"stream", "vddk"}) {
		t.Errorf("the disks came by %v", got)
	}
	for _, text := range []string{events(tracker), strings.Join(result.Notes, "\n")} {
		if !strings.Contains(text, "the license has expired") {
			t.Errorf("the reason is not in\n%s", text)
		}
	}
}

func TestByVDDKHolesAreNotRead(t *testing.T) {
	t.Parallel()
	disk := rawDisk(t, 256*mib, extent{0, mib, true}, extent{200 * mib, 2 * mib, false})
	b := newVDDKBench(t, vspheretest.Config{}, "", disk)
	result := b.export(b.by(job.TransportVDDK, job.FormatRaw))
	b.identical(result)
	if n := result.Disks[0].StreamSize; n > 4*mib {
		t.Errorf("%d bytes were read of a disk that holds 3 MiB", n)
	}
	if kb := diskUsage(t, result.Disks[0].File); kb > 8*1024 {
		t.Errorf("3 MiB of data take %d KiB on disk", kb)
	}
}

// counted serves $raw by a plugin that counts reads, and does something before the one
// that read number at.
func counted(at int, something string) string {
	return fmt.Sprintf(`
cat >%%[1]s/plugin <<'END'
#!/bin/sh
case $1 in
open) ;;
get_size) stat -c %%%%s "$RAW";;
pread)
	echo >>%%[1]s/reads
	[ $(wc -l <%%[1]s/reads) != %d ] || %s
	[ ! -e %%[1]s/failing ] || { echo EIO failing >&2; exit 1; }
	dd if="$RAW" iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none
	;;
*) exit 2;;
esac
END
chmod +x %%[1]s/plugin; export RAW=$raw; `, at, something) + nbdkitArgs("sh %[1]s/plugin")
}

func TestACancelledReadingByVDDKGoesOnInTheNextRun(t *testing.T) {
	t.Parallel()
	disk := rawDisk(t, 64*mib, extent{mib, 60 * mib, false})
	for cause, resumed := range map[error]bool{job.ErrShutdown: true, job.Cancelled{}: false} {
		b := newVDDKBench(t, vspheretest.Config{}, "", disk)
		fifo := filepath.Join(b.notes, "fifo")
		if out, err := exec.Command("mkfifo", fifo).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		b.rewrite(counted(40, "{ touch %[1]s/failing; echo >%[1]s/fifo; }"))
		b.m.Budget.Retries = 10_000 // until it is cancelled
		def := b.by(job.TransportVDDK, job.FormatRaw)
		def.Options.ParallelDownloads = 1
		ctx, cancel := context.WithCancelCause(context.Background())
		go func() {
			_, _ = os.ReadFile(fifo) // comes back once read 40 is there
			cancel(cause)
		}()
		if _, _, err := b.run(ctx, def); !errors.Is(err, cause) {
			t.Fatalf("cancelled with %v, the run says %v", cause, err)
		}
		b.settled()
		if err := os.Remove(filepath.Join(b.notes, "failing")); err != nil {
			t.Fatal(err)
		}
		if left := exists(b.out); left != resumed {
			t.Errorf("after %v the output directory is there: %t", cause, left)
		}
		result := b.export(def)
		b.identical(result)
		b.settled()
		if result.Disks[0].Resumed != resumed {
			t.Errorf("after %v the next run resumed: %t", cause, result.Disks[0].Resumed)
		}
	}
}
