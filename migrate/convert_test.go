//go:build unix

package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/appliance"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/v2v"
	"github.com/hyper2kvm/hyper2kvm/v2v/v2vtest"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// converts is a virt-v2v that writes 9 at 64 KiB of each disk; with hasVirtio it says that
// the guest has virtio drivers now, too.
const converts = v2vtest.Changes + `echo '{ "message": "Converting the guest to run on KVM", "type": "message" }'
`

const hasVirtio = converts + v2vtest.Virtio

// convertBench is a bench with a VM of two disks and one card, whose guest is converted
// by a virt-v2v that does what a script says.
type convertBench struct {
	*bench
	*v2vtest.Host
	def job.Definition
}

func newConvertBench(t *testing.T, script string) *convertBench {
	t.Helper()
	vm := vspheretest.VM{Name: "guest1", NICs: []vspheretest.NIC{{Network: "Prod"}}, GuestID: "debian12_64Guest"}
	b := &convertBench{bench: newBench(t, vspheretest.Config{VMs: []vspheretest.VM{vm}}, twoDisks(t)...), Host: v2vtest.New(t, script)}
	b.m.AcceptFinished = true
	b.m.V2V = &v2v.Tool{Machine: b.Machine()}
	b.def = b.job(job.FormatQcow2)
	b.def.Options.Convert = true
	return b
}

// xml is the domain.
func (b *convertBench) xml() string {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(b.out, "guest1.xml"))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

func TestAGuestIsConvertedOnceAndItsMachineDescribedAsItIsThen(t *testing.T) {
	t.Parallel()
	for _, format := range []job.Format{job.FormatQcow2, job.FormatRaw} {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			b := newConvertBench(t, hasVirtio+`echo '{ "message": "could not find grub", "type": "warning" }'`)
			b.def.Options.Format, b.def.Options.For = format, "proxmox"
			plain := b.def
			plain.Options.Convert = false
			if first := b.export(plain); first.Converted != nil || strings.Contains(b.xml(), `bus="virtio"`) {
				t.Errorf("%+v\n%s", first.Converted, b.xml())
			}
			served := b.BytesServed("guest1", 0)
			result := b.export(b.def)
			want := job.Converted{By: "virt-v2v-in-place 2.2.0", Disks: "virtio", Cards: "virtio", Log: filepath.Join(b.out, "guest1.v2v.log")}
			if result.Converted == nil || *result.Converted != want || !strings.Contains(fmt.Sprint(result.Notes), "could not find grub") {
				t.Errorf("%+v, notes %q", result.Converted, result.Notes)
			}
			for _, d := range result.Disks {
				qemuIO(t, d.File, "read -P 9 64k 64k")
			}
			if xml := b.xml(); strings.Count(xml, `bus="virtio"`) != 2 || !strings.Contains(xml, `<model type="virtio">`) || strings.Contains(xml, "overlay") {
				t.Errorf("the domain is\n%s", xml)
			}
			kit, err := os.ReadFile(filepath.Join(b.out, "guest1.pve.sh"))
			if err != nil || !strings.Contains(string(kit), "--virtio1") {
				t.Errorf("%v\n%s", err, kit)
			}
			if log, err := os.ReadFile(want.Log); err != nil || !strings.Contains(string(log), "Converting the guest") {
				t.Errorf("%v\n%s", err, log)
			}
			b.over()
			b.V2V("exit 1")
			if again := b.export(b.def); !again.Earlier || again.Converted == nil {
				t.Errorf("%+v", again)
			}
			if n := b.BytesServed("guest1", 0) - served; n > 0 {
				t.Errorf("%d bytes were fetched again", n)
			}
		})
	}
}

func TestAGuestWithoutVirtioDriversKeepsTheHardwareThatItHad(t *testing.T) {
	t.Parallel()
	b := newConvertBench(t, converts+`echo 'This guest does not have virtio drivers installed.'`)
	result := b.export(b.def)
	if c := result.Converted; c == nil || c.Disks != "kept" || c.Cards != "kept" || strings.Contains(b.xml(), `bus="virtio"`) {
		t.Errorf("%+v\n%s", c, b.xml())
	}
	if !strings.Contains(fmt.Sprint(result.Notes), "no virtio drivers") {
		t.Errorf("notes %q", result.Notes)
	}
}

func TestAConversionThatCannotBeIsRefusedBeforeAByteMoves(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*convertBench)
		want   string
		hint   string
	}{
		"no nbdkit":       {func(b *convertBench) { b.Without(b.m.V2V.Machine, "nbdkit") }, "nbdkit", "package nbdkit"},
		"no virt-v2v":     {func(b *convertBench) { b.Without(b.m.V2V.Machine, v2v.Program) }, v2v.Program, "package virt-v2v"},
		"another version": {func(b *convertBench) { b.Program(v2v.Program, "echo virt-v2v-in-place 1.42") }, "1.42", "2.0 or later"},
		"no kernel":       {func(b *convertBench) { b.Without(b.m.V2V.Machine, "vmlinuz") }, "kernel", "linux-image"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newConvertBench(t, hasVirtio)
			test.change(b)
			_, obstacles, err := b.m.Check(t.Context(), b.def)
			told := slices.ContainsFunc(obstacles, func(o vsphere.Obstacle) bool {
				return o.Code == migrate.CodeConvert && strings.Contains(o.Text, test.want) && strings.Contains(o.Hint, test.hint)
			})
			if err != nil || !told {
				t.Errorf("the check says %v, %v", obstacles, err)
			}
			var refused *migrate.PreflightError
			if _, _, err := b.run(t.Context(), b.def); !errors.As(err, &refused) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the run ends with %v", err)
			}
			if n := b.BytesServed("guest1", 0); n > 0 || len(b.visible()) > 0 {
				t.Errorf("%d bytes were fetched; there are %q", n, b.visible())
			}
			b.over()
		})
	}
}

func TestAConversionThatFailsLeavesTheImagesAsTheyWere(t *testing.T) {
	t.Parallel()
	fails := func(text string) string {
		return converts + `echo '{ "message": "` + text + `", "type": "error" }'; exit 1`
	}
	const hang = "\nsleep 100000 & wait"
	for name, test := range map[string]struct {
		script string
		change func(*convertBench)
		want   string
		hint   string
	}{
		"a guest of another kind": {fails("virt-v2v is unable to convert this guest type (haiku/haiku)"), nil, "haiku", "leave -convert out"},
		"Fast Startup":            {fails("Windows Hibernation or Fast Restart is being used in this guest"), nil, "Hibernation", "powercfg /h off"},
		"a full disk":             {fails("write failed: No space left on device"), nil, "No space", "output directory is full"},
		"nbdkit that breaks":      {fails("nbdkit: symbol lookup error"), nil, "nbdkit", "nbdkit --dump-config"},
		"a kill":                  {converts + "kill -9 $$", nil, "killed", "the log"},
		"an appliance that hangs": {converts + hang, func(b *convertBench) { b.m.V2V.Launch = 50 * time.Millisecond }, "says nothing", "the log"},
		"a guest that hangs":      {converts + "echo 'libguestfs: appliance is up' >&2" + hang, func(b *convertBench) { b.m.V2V.Quiet = 50 * time.Millisecond }, "says nothing", "the log"},
		"words without an end":    {converts + "while echo word; do sleep 0.1; done", func(b *convertBench) { b.m.V2V.Whole = 50 * time.Millisecond }, "too long", "the log"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newConvertBench(t, test.script)
			plain := b.def
			plain.Options.Convert = false
			b.export(plain)
			before := b.sums()
			if test.change != nil {
				test.change(b)
			}
			result, _, err := b.run(t.Context(), b.def)
			if err == nil || result.Success || !strings.Contains(err.Error(), test.want) || !strings.Contains(migrate.Hint(err), test.hint) ||
				!strings.Contains(migrate.Hint(err), "is finished") {
				t.Errorf("the run ends with %v (%s)", err, migrate.Hint(err))
			}
			b.untouched(before)
			b.m.V2V = &v2v.Tool{Machine: &appliance.Machine{Env: b.m.V2V.Machine.Env}}
			b.V2V(hasVirtio)
			if again := b.export(b.def); again.Converted == nil {
				t.Errorf("%+v", again)
			}
		})
	}
}

// untouched fails the test unless every file but the log is byte for byte what it was.
func (b *convertBench) untouched(before map[string]string) {
	b.t.Helper()
	after := b.sums()
	if _, logged := after["guest1.v2v.log"]; !logged {
		b.t.Error("there is no log")
	}
	for name, sum := range before {
		if after[name] != sum {
			b.t.Errorf("%s was changed", name)
		}
	}
	b.over()
}

func TestAConversionThatIsCancelledLeavesTheImagesAsTheyWere(t *testing.T) {
	t.Parallel()
	b := newConvertBench(t, converts+"sleep 100000 & wait")
	plain := b.def
	plain.Options.Convert = false
	b.export(plain)
	before := b.sums()
	ctx, cancel := context.WithCancelCause(t.Context())
	tracker := progress.New()
	ended := make(chan error, 1)
	go func() {
		_, err := b.m.Run(ctx, b.def, tracker)
		ended <- err
	}()
	waitFor(t, tracker, "Converting the guest")
	cancel(job.Cancelled{})
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the run ends with %v", err)
	}
	b.untouched(before)
}

// waitFor returns once an event has a text.
func waitFor(t *testing.T, tracker *progress.Tracker, text string) {
	t.Helper()
	for {
		changed := tracker.Changed()
		if strings.Contains(events(tracker), text) {
			return
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatal(text, " never came")
		}
	}
}
