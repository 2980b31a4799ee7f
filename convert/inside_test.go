//go:build unix

package convert_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/convert"
	"github.com/hyper2kvm/hyper2kvm/disk/disktest"
	"github.com/hyper2kvm/hyper2kvm/guestnet"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/v2v"
	"github.com/hyper2kvm/hyper2kvm/v2v/v2vtest"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// converts writes 9 at 64 KiB of each disk, and says that the guest has virtio drivers now.
const converts = v2vtest.Changes + v2vtest.Virtio

// fails is a virt-v2v that has changed the disks and says why it gives up.
func fails(why string) string {
	return v2vtest.Changes + `echo '{ "message": "` + why + `", "type": "error" }'; exit 1`
}

// insideBench is a package whose guest is changed by programs that do what scripts say.
type insideBench struct {
	*bench
	*v2vtest.Host
	m *migrate.Migrator
}

func newInsideBench(t *testing.T, script string) *insideBench {
	t.Helper()
	b := &insideBench{bench: newBench(t, "monolithicSparse"), Host: v2vtest.New(t, script)}
	b.Program("guestfish", fmt.Sprintf(`guest=%q
while read -r line; do
	eval "set -- $line"
	case $1 in
	tar-out) tar -C "$guest/etc" -c . ;;
	upload) cp "$2" "$guest/written" ;;
	esac
done
`, b.Bin))
	b.fresh()
	return b
}

// fresh is a machine of which nothing is known.
func (b *insideBench) fresh() {
	machine := b.Machine()
	b.m = &migrate.Migrator{V2V: &v2v.Tool{Machine: machine}, Fish: &guestnet.Fish{Machine: machine}}
}

func (b *insideBench) options(o *convert.Options) { o.Convert, o.Migrator = true, b.m }

// changed fails the test unless each image has what virt-v2v writes.
func (b *insideBench) changed(result job.Result) {
	b.t.Helper()
	for _, d := range result.Disks {
		out, err := exec.Command("qemu-io", "-f", strings.TrimPrefix(filepath.Ext(d.File), "."), "-c", "read -P 9 64k 64k", d.File).CombinedOutput()
		if err != nil || strings.Contains(string(out), "verification failed") {
			b.t.Errorf("%s: %v\n%s", d.File, err, out)
		}
	}
}

// files are the images and descriptions that landed, with their contents.
func (b *insideBench) files() map[string]string {
	b.t.Helper()
	out := map[string]string{}
	for _, name := range b.left() {
		switch filepath.Ext(name) {
		case ".qcow2", ".raw", ".xml", ".sh":
			out[name] = string(disktest.ReadFile(b.t, filepath.Join(b.out, name)))
		}
	}
	return out
}

func TestWhatIsHereIsConvertedToVirtioOnce(t *testing.T) {
	t.Parallel()
	for _, format := range []job.Format{job.FormatQcow2, job.FormatRaw} {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			b := newInsideBench(t, converts)
			plain := func(o *convert.Options) { o.Format, o.For = format, "proxmox" }
			both := func(o *convert.Options) { plain(o); b.options(o) }
			if first := b.convert("erp.ovf", plain); first.Converted != nil {
				t.Errorf("%+v", first.Converted)
			}
			result := b.convert("erp.ovf", both)
			if c := result.Converted; c == nil || c.Disks != "virtio" || c.Cards != "virtio" || result.Earlier {
				t.Errorf("%+v", result)
			}
			b.changed(result)
			files := b.files()
			if xml := files["erp_1.xml"]; strings.Count(xml, `bus="virtio"`) != 2 || !strings.Contains(xml, `<model type="virtio">`) || strings.Contains(xml, "overlay") {
				t.Errorf("the domain is\n%s", xml)
			}
			if kit := files["erp_1.pve.sh"]; !strings.Contains(kit, "--virtio1") {
				t.Errorf("the kit is\n%s", kit)
			}
			b.V2V("exit 1")
			if again := b.convert("erp.ovf", both); !again.Earlier || again.Converted == nil {
				t.Errorf("%+v", again)
			}
			b.V2V(converts)
			over := b.convert("erp.ovf", func(o *convert.Options) { both(o); o.Overwrite = true })
			if over.Earlier || over.Converted == nil {
				t.Errorf("%+v", over)
			}
			b.changed(over)
			if slices.ContainsFunc(b.left(), func(name string) bool { return strings.HasPrefix(name, ".") }) {
				t.Errorf("left %q", b.left())
			}
		})
	}
}

func TestASingleDiskIsConvertedWithoutADomain(t *testing.T) {
	t.Parallel()
	b := newInsideBench(t, converts)
	result := b.convert("erp-disk1.vmdk", b.options)
	if result.Converted == nil || result.DomainXML != "" || len(result.Disks) != 1 || !strings.Contains(fmt.Sprint(result.Notes), "virtio-blk") {
		t.Errorf("%+v", result)
	}
	b.changed(result)
	if files := b.files(); len(files) != 1 {
		t.Errorf("left %q", b.left())
	}
}

func TestAConversionOfWhatIsHereIsRefusedBeforeADiskIsRead(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change     func(*insideBench)
		want, hint string
	}{
		"no nbdkit":          {func(b *insideBench) { b.Without(b.m.V2V.Machine, "nbdkit") }, "nbdkit", "package nbdkit"},
		"no virt-v2v":        {func(b *insideBench) { b.Without(b.m.V2V.Machine, v2v.Program) }, v2v.Program, "package virt-v2v"},
		"another version":    {func(b *insideBench) { b.Program(v2v.Program, "echo virt-v2v-in-place 1.42") }, "1.42", "2.0 or later"},
		"no kernel":          {func(b *insideBench) { b.Without(b.m.V2V.Machine, "vmlinuz") }, "kernel", "linux-image"},
		"a FreeBSD":          {func(b *insideBench) { b.replace("debian12_64Guest", "freebsd13_64Guest") }, "Linux and Windows", "leave -convert out"},
		"Windows, no driver": {func(b *insideBench) { b.replace("debian12_64Guest", "windows2019srv_64Guest") }, "virtio drivers", "-virtio-win"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newInsideBench(t, converts)
			test.change(b)
			_, err := b.run(t.Context(), "erp.ovf", b.options)
			var refused *migrate.PreflightError
			if !errors.As(err, &refused) {
				t.Fatalf("ends with %v", err)
			}
			if !slices.ContainsFunc(refused.Obstacles, func(o vsphere.Obstacle) bool {
				return strings.Contains(o.Text, test.want) && strings.Contains(o.Hint, test.hint)
			}) {
				t.Errorf("%+v", refused.Obstacles)
			}
			if left := b.left(); len(left) > 0 {
				t.Errorf("left %q", left)
			}
		})
	}
}

// replace changes the descriptor.
func (b *insideBench) replace(old, new string) {
	b.t.Helper()
	b.write("erp.ovf", strings.ReplaceAll(string(disktest.ReadFile(b.t, b.path("erp.ovf"))), old, new))
}

func TestAConversionThatFailsLeavesWhatIsHereAsItWas(t *testing.T) {
	t.Parallel()
	const hang = "\nsleep 100000 & wait"
	const soon = 50 * time.Millisecond
	for name, test := range map[string]struct {
		script     string
		change     func(*v2v.Tool)
		want, hint string
	}{
		"a guest of another kind": {fails("virt-v2v is unable to convert this guest type (haiku/haiku)"), nil, "haiku", "leave -convert out"},
		"Fast Startup":            {fails("Windows Hibernation or Fast Restart is being used in this guest"), nil, "Hibernation", "powercfg /h off"},
		"a full disk":             {fails("write failed: No space left on device"), nil, "No space", "output directory is full"},
		"nbdkit that breaks":      {fails("nbdkit: symbol lookup error"), nil, "nbdkit", "nbdkit --dump-config"},
		"a kill":                  {v2vtest.Changes + "kill -9 $$", nil, "killed", "the log"},
		"an appliance that hangs": {v2vtest.Changes + hang, func(v *v2v.Tool) { v.Launch = soon }, "says nothing", "the log"},
		"a guest that hangs":      {v2vtest.Changes + "echo 'libguestfs: appliance is up' >&2" + hang, func(v *v2v.Tool) { v.Quiet = soon }, "says nothing", "the log"},
		"words without an end":    {v2vtest.Changes + "while echo word; do sleep 0.1; done", func(v *v2v.Tool) { v.Whole = soon }, "too long", "the log"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newInsideBench(t, test.script)
			b.identical(b.convert("erp.ovf", nil), b.right...)
			before := b.files()
			if test.change != nil {
				test.change(b.m.V2V)
			}
			_, err := b.run(t.Context(), "erp.ovf", b.options)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(fault.Hint(err), test.hint) || !strings.Contains(fault.Hint(err), "is finished") {
				t.Errorf("ends with %v (%s)", err, fault.Hint(err))
			}
			if after := b.files(); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("the files were changed; there are %q", b.left())
			}
			b.fresh()
			b.V2V(converts)
			b.changed(b.convert("erp.ovf", b.options))
		})
	}
}

func TestAConversionOfWhatIsHereThatIsCancelledLeavesItAsItWas(t *testing.T) {
	t.Parallel()
	b := newInsideBench(t, v2vtest.Changes+`echo '{ "message": "Converting the guest", "type": "message" }'; sleep 100000 & wait`)
	b.convert("erp.ovf", nil)
	before := b.files()
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	tracker := progress.New()
	ended := make(chan error, 1)
	go func() {
		o := convert.Options{Source: b.path("erp.ovf"), Output: b.out, Format: job.FormatQcow2}
		b.options(&o)
		_, err := convert.Run(ctx, o, tracker)
		ended <- err
	}()
	for seen := false; !seen; {
		changed := tracker.Changed()
		seen = slices.ContainsFunc(tracker.EventsAfter(0), func(e progress.Event) bool { return strings.Contains(e.Text, "Converting the guest") })
		if !seen {
			<-changed
		}
	}
	cancel(enough)
	if err := <-ended; !errors.Is(err, enough) {
		t.Errorf("ends with %v", err)
	}
	if after := b.files(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the files were changed; there are %q", b.left())
	}
}

// crashing names the directory of an insideBench to a process that is going to die.
const crashing = "HYPER2KVM_TEST_CRASH"

// TestThisProcessDiesWhileItConverts is what the test below runs.
func TestThisProcessDiesWhileItConverts(t *testing.T) {
	dirs := filepath.SplitList(os.Getenv(crashing))
	if len(dirs) != 3 {
		return
	}
	b := &insideBench{bench: &bench{t: t, dir: dirs[0], out: dirs[1]}, Host: &v2vtest.Host{Bin: dirs[2]}}
	b.fresh()
	_, err := b.run(t.Context(), "erp.ovf", b.options)
	t.Fatal("it has survived: ", err)
}

func TestAConversionIsSettledAfterACrashBeforeAnythingElseIsDone(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ v2v, qemuImg string }{
		"while virt-v2v runs": {v2vtest.Changes + "kill -9 $PPID; sleep 1000", ""},
		"between two commits": {converts, `[ "$1" = commit ] && case "$*" in *overlay-1*) kill -9 $PPID; sleep 1000 ;; esac
exec /usr/bin/qemu-img "$@"`},
	} {
		for how, change := range map[string]func(*convert.Options){
			"the same again":  func(*convert.Options) {},
			"with -overwrite": func(o *convert.Options) { o.Overwrite = true },
		} {
			t.Run(name+", then "+how, func(t *testing.T) {
				t.Parallel()
				b := newInsideBench(t, test.v2v)
				b.convert("erp.ovf", nil)
				if test.qemuImg != "" {
					b.Program("qemu-img", test.qemuImg)
				}
				dies := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestThisProcessDiesWhileItConverts$")
				dies.Env = append(os.Environ(), crashing+"="+strings.Join([]string{b.dir, b.out, b.Bin}, ":"), "PATH="+b.Bin+":"+os.Getenv("PATH"))
				if out, err := dies.CombinedOutput(); dies.ProcessState == nil || dies.ProcessState.Exited() {
					t.Fatalf("%v\n%s", err, out)
				}
				if test.qemuImg != "" {
					b.Program("qemu-img", `exec /usr/bin/qemu-img "$@"`)
				}
				b.V2V(converts)
				result := b.convert("erp.ovf", func(o *convert.Options) { b.options(o); change(o) })
				if result.Converted == nil || !result.Success {
					t.Errorf("%+v", result)
				}
				b.changed(result)
				for _, d := range result.Disks {
					disktest.QemuImg(t, "check", d.File)
				}
				if slices.ContainsFunc(b.left(), func(name string) bool { return strings.HasPrefix(name, ".") }) {
					t.Errorf("left %q", b.left())
				}
			})
		}
	}
}

// reported is what VMware Tools have said of the guest.
const reported = `{"version": 1, "known": true, "interfaces": [{"mac": "00:50:56:aa:bb:cc", "addresses": [{"address": "192.0.2.10", "prefix": 24}]}]}`

func TestWhatIsHereKeepsTheAddressesOfTheFileBesideIt(t *testing.T) {
	t.Parallel()
	const mac = "005056aabbcc" // as the descriptor has it
	keep := func(b *insideBench) func(*convert.Options) {
		return func(o *convert.Options) { o.KeepIP, o.Migrator = true, b.m }
	}
	t.Run("kept", func(t *testing.T) {
		t.Parallel()
		b := newInsideBench(t, converts)
		b.write("erp.network.json", reported)
		interfaces := filepath.Join(b.Bin, "etc", "network", "interfaces")
		if err := errors.Join(os.MkdirAll(filepath.Dir(interfaces), 0o700), os.WriteFile(interfaces, []byte("iface ens192 inet static\n address 192.0.2.10/24\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
		result := b.convert("erp.ovf", keep(b))
		if len(result.NetworkKept) != 1 || !strings.Contains(result.NetworkKept[0], "ens192") || result.Converted != nil {
			t.Errorf("%+v", result)
		}
		if text := string(disktest.ReadFile(t, filepath.Join(b.Bin, "written"))); !strings.Contains(text, "00:50:56:aa:bb:cc") {
			t.Errorf("the guest has\n%s", text)
		}
		b.replace(mac, "00-50-56-AA-BB-CC")
		if again := b.convert("erp.ovf", func(o *convert.Options) { keep(b)(o); o.Overwrite = true }); len(again.NetworkKept) != 1 {
			t.Errorf("with the MAC address in other words: %+v", again)
		}
		b.write("erp-disk1.network.json", reported)
		disk := b.convert("erp-disk1.vmdk", keep(b))
		if len(disk.NetworkKept) != 1 || !strings.Contains(fmt.Sprint(disk.Notes), "MAC addresses that they had") {
			t.Errorf("%+v", disk)
		}
	})
	for name, test := range map[string]struct{ file, old, new, want string }{
		"no file":               {"", "", "", "NAME.network.json"},
		"nothing known":         {`{"version": 1, "known": false}`, "", "", "NAME.network.json"},
		"a file that is broken": {`{"version": `, "", "", "erp.network.json"},
		"another version":       {`{"version": 9}`, "", "", "version 9"},
		"a file of no end":      {strings.Repeat(" ", 2<<20), "", "", "bytes"},
		"cards without MAC":     {reported, mac, "", "no card of what is converted has a MAC address"},
		"cards of another":      {reported, mac, "005056aabb00", "no card of what is converted has a MAC address"},
		"Windows of VirtualBox": {reported, `vmw:osType="debian12_64Guest"><Info/><Description>Debian 12<`, `><Info/><Description>Windows2019_64<`, "by its conversion alone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newInsideBench(t, converts)
			if test.file != "" {
				b.write("erp.network.json", test.file)
			}
			if test.old != "" {
				b.replace(test.old, test.new)
			}
			if _, err := b.run(t.Context(), "erp.ovf", keep(b)); err == nil || !strings.Contains(err.Error(), test.want) || len(b.left()) > 0 {
				t.Errorf("ends with %v, left %q", err, b.left())
			}
		})
	}
}
