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

	"github.com/hyper2kvm/hyper2kvm/inspect"
	"github.com/hyper2kvm/hyper2kvm/internal/appliance"
	"github.com/hyper2kvm/hyper2kvm/internal/process/processtest"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// lookedAt are two small disks.
func lookedAt(t testing.TB) []string {
	t.Helper()
	return []string{rawDisk(t, mib, extent{0, mib, false}), rawDisk(t, 512*kib+512, extent{256 * kib, 100 * kib, false})}
}

// looking gives b a guestfish that compares the disks that it is given with those of b,
// and then finds a system in BitLocker.
func (b *bench) looking() {
	b.t.Helper()
	dir := b.t.TempDir()
	program := filepath.Join(dir, "guestfish")
	script := fmt.Sprintf("set -- %s\n", strings.Join(b.raw, " ")) // the disks, in their order
	script = `disks=
for a; do
	case $a in nbd:*) disks="$disks nbd+unix${a#nbd}" ;; esac
done
` + script + `for disk in $disks; do
	qemu-img compare -f raw -F raw "$1" "$disk" >&2 || { echo "$disk is not $1" >&2; exit 1; }
	shift
done
[ $# = 0 ] || exit 1
while read -r line; do
	case $line in
	"!echo "*) echo "${line#!echo }" ;;
	-list-filesystems) echo "/dev/sda1: BitLocker" ;;
	esac
done
`
	processtest.Script(b.t, program, script)
	b.m.Look = &inspect.Tool{Program: program, Machine: machineWith(b.t)}
}

// machineWith is this machine with all that an appliance is made of.
func machineWith(t testing.TB) *appliance.Machine {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"supermin", "qemu-system-x86_64"} {
		processtest.Script(t, filepath.Join(dir, name), "")
	}
	kernel := filepath.Join(dir, "vmlinuz")
	if err := os.WriteFile(kernel, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return &appliance.Machine{Env: []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "SUPERMIN_KERNEL=" + kernel, "TMPDIR=" + dir}}
}

// look checks the VM of def, and looks into it.
func (b *bench) look(ctx context.Context, def job.Definition) (obstacles []vsphere.Obstacle, inside *migrate.Inside, told string, err error) {
	b.t.Helper()
	var all []string
	_, obstacles, inside, lookErr, err := b.m.CheckInside(ctx, def, func(text string) { all = append(all, text) })
	if err != nil {
		b.t.Fatal(err)
	}
	return obstacles, inside, strings.Join(all, "\n"), lookErr
}

// severities are the obstacles of a code.
func severities(obstacles []vsphere.Obstacle, code string) (out []vsphere.Severity) {
	for _, o := range obstacles {
		if o.Code == code {
			out = append(out, o.Severity)
		}
	}
	return out
}

func TestALookReadsTheDisksWhereAnExportReadsThemAtRandom(t *testing.T) {
	t.Parallel()
	disks := lookedAt(t)
	for name, c := range map[string]struct {
		vm   vspheretest.VM
		by   job.Transport
		snap bool
		way  string
	}{
		"the datastore":             {by: "", way: "its datastore"},
		"the datastore, before 902": {by: job.TransportAuto, way: "its datastore"},
		"port 902":                  {by: job.TransportNFC902, way: "port 902 of its host"},
		"a VM with snapshots":       {vm: vspheretest.VM{Snapshots: []string{"before"}}, by: job.TransportAuto, way: "port 902 of its host"},
		"a VM that runs":            {vm: running, by: job.TransportAuto, snap: true, way: "port 902 of its host"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newFlatBench(t, with902(c.vm), disks...)
			b.looking()
			def := b.by(c.by, job.FormatQcow2)
			def.Options.Snapshot = c.snap
			before := len(b.Snapshots("guest1"))
			obstacles, inside, told, err := b.look(t.Context(), def)
			if err != nil {
				t.Fatal(err)
			}
			var size int64
			for _, d := range disks {
				info, err := os.Stat(d)
				if err != nil {
					t.Fatal(err)
				}
				size += info.Size()
			}
			if !slices.Equal(inside.Ways, []string{c.way, c.way}) || inside.Disks != size || inside.Read < size || inside.Took <= 0 {
				t.Errorf("%+v", inside)
			}
			if got := severities(obstacles, inspect.CodeEncrypted); !slices.Equal(got, []vsphere.Severity{vsphere.SeverityWarning}) {
				t.Errorf("obstacles %+v", obstacles)
			}
			if n := len(b.Snapshots("guest1")); n != before || b.Sessions() > 0 || len(b.Leases()) > 0 {
				t.Errorf("left: %d snapshots, %d sessions", n-before, b.Sessions())
			}
			b.closed()
			if b.visible() != nil || b.hidden() != nil {
				t.Error("something was written")
			}
			ledgerGone(t, told)
			if n := b.asked("CreateSnapshot_Task"); (n > 0) != c.snap {
				t.Errorf("%d snapshots were taken", n)
			}
		})
	}
}

// ledgerGone checks that nothing is left where a temporary snapshot was written down.
func ledgerGone(t *testing.T, told string) {
	t.Helper()
	_, dir, noted := strings.Cut(told, "written down in ")
	if dir, _, _ = strings.Cut(dir, "\n"); !noted {
		return
	}
	if _, err := os.Stat(filepath.Dir(dir)); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", dir, err)
	}
}

func TestWhatALookFindsIsAnErrorForAJobThatItKeepsFromSucceeding(t *testing.T) {
	t.Parallel()
	disks := lookedAt(t)
	for name, c := range map[string]struct {
		change func(*job.Options)
		want   vsphere.Severity
	}{
		"neither": {func(*job.Options) {}, vsphere.SeverityWarning},
		"convert": {func(o *job.Options) { o.Convert = true }, vsphere.SeverityError},
		"keep_ip": {func(o *job.Options) { o.KeepIP = true }, vsphere.SeverityError},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newFlatBench(t, vspheretest.Config{}, disks...)
			b.looking()
			def := b.by("", job.FormatQcow2)
			c.change(&def.Options)
			obstacles, _, _, err := b.look(t.Context(), def)
			if got := severities(obstacles, inspect.CodeEncrypted); err != nil || !slices.Equal(got, []vsphere.Severity{c.want}) {
				t.Errorf("%v, %+v", err, obstacles)
			}
		})
	}
}

func TestDisksThatCannotBeLookedIntoAreSaidWithTheReasonAndTheRestOfTheCheckIsThere(t *testing.T) {
	t.Parallel()
	disks := lookedAt(t)
	off := func(faults ...string) vspheretest.Config {
		return vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1"}}, Faults: faults}
	}
	for name, c := range map[string]struct {
		cfg       vspheretest.Config
		by        job.Transport
		snap      bool
		why, hint string
	}{
		"a VM that runs":                     {cfg: with902(running), by: job.TransportAuto, why: "poweredOn", hint: "-snapshot"},
		"a VM that runs, and the lease":      {cfg: with902(running), snap: true, why: "port 902", hint: "-transport auto"},
		"a VM that cannot be exported":       {cfg: with902(vspheretest.VM{PoweredOn: true, VTPM: true}), by: job.TransportAuto, snap: true, why: "no snapshot is taken"},
		"vsan":                               {cfg: vspheretest.Config{Profile: vspheretest.VSAN}, why: "404", hint: "-transport auto"},
		"vsan, and no port 902":              {cfg: vspheretest.Config{Profile: vspheretest.VSAN}, by: job.TransportAuto, why: "NotSupported"},
		"no ranges":                          {cfg: off("norange:plane=folder,times=always"), why: "ranged requests"},
		"a locked file":                      {cfg: off("status:code=500,plane=folder,times=always"), why: "500"},
		"a user who may not":                 {cfg: off("status:code=403,plane=folder,times=always"), why: "403"},
		"a VM with snapshots, and the lease": {cfg: with902(vspheretest.VM{Snapshots: []string{"before"}}), why: "snapshots", hint: "-transport auto"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newFlatBench(t, c.cfg, disks...)
			b.looking()
			def := b.by(c.by, job.FormatQcow2)
			def.Options.Snapshot = c.snap
			obstacles, inside, _, err := b.look(t.Context(), def)
			if err == nil || inside != nil || !strings.Contains(err.Error(), c.why) || !strings.Contains(migrate.Hint(err), c.hint) {
				t.Errorf("%+v, error %v, hint %q", inside, err, migrate.Hint(err))
			}
			if got := severities(obstacles, inspect.CodeEncrypted); got != nil {
				t.Errorf("%+v", obstacles)
			}
			if n := b.asked("CreateSnapshot_Task"); n > 0 || b.Sessions() > 0 {
				t.Errorf("%d snapshots were taken, %d sessions are left", n, b.Sessions())
			}
		})
	}
}

func TestADiskThatIsLockedInTheMiddleOfALookEndsItWithThatReason(t *testing.T) {
	t.Parallel()
	b := newFlatBench(t, vspheretest.Config{}, lookedAt(t)...)
	b.looking()
	b.OnByte("guest1", 0, 512*kib, func() { b.addFault("status:code=404,plane=folder,times=always") })
	_, inside, _, err := b.look(t.Context(), b.by("", job.FormatQcow2))
	if err == nil || inside != nil || !strings.Contains(err.Error(), "404") || !strings.HasPrefix(err.Error(), "Hard disk ") || !strings.Contains(migrate.Hint(err), "powered on") {
		t.Errorf("%+v, %v", inside, err)
	}
	b.clean()
}

func TestALookThatIsInterruptedRemovesItsSnapshot(t *testing.T) {
	t.Parallel()
	b := newFlatBench(t, with902(running), lookedAt(t)...)
	b.looking()
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	var snapshots []string
	b.OnByte("guest1", 0, 512*kib, func() {
		snapshots = b.Snapshots("guest1")
		cancel(enough)
	})
	def := b.by(job.TransportAuto, job.FormatQcow2)
	def.Options.Snapshot = true
	_, inside, told, err := b.look(ctx, def)
	if inside != nil || !errors.Is(err, enough) {
		t.Errorf("%+v, %v", inside, err)
	}
	if len(snapshots) != 1 {
		t.Errorf("the disks were read by the snapshots %q", snapshots)
	}
	b.clean()
	ledgerGone(t, told)
}

func TestASnapshotOfALookThatCannotBeRemovedIsWrittenDownForWhoeverCleansUp(t *testing.T) {
	t.Parallel()
	b := newFlatBench(t, with902(running, "fault:call=RemoveSnapshot_Task,fault=NoPermission,times=always"), lookedAt(t)...)
	b.looking()
	def := b.by(job.TransportAuto, job.FormatQcow2)
	def.Options.Snapshot = true
	_, _, told, err := b.look(t.Context(), def)
	var owed *migrate.OwedError
	if !errors.As(err, &owed) || !strings.Contains(told, owed.Dir) || !strings.Contains(migrate.Hint(err), "clean -output") {
		t.Fatalf("error %v, hint %q, told %q", err, migrate.Hint(err), told)
	}
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(owed.Dir)) })
	if found, _, err := migrate.FindWork(filepath.Dir(owed.Dir)); err != nil || len(found) != 1 {
		t.Errorf("%v, %v", found, err)
	}
}

func TestWithoutGuestfishNothingIsReadAndThePackageIsNamed(t *testing.T) {
	t.Parallel()
	b := newFlatBench(t, vspheretest.Config{}, lookedAt(t)...)
	b.m.Look = &inspect.Tool{Machine: &appliance.Machine{Env: []string{"PATH=" + t.TempDir()}}}
	_, inside, _, err := b.look(t.Context(), b.by("", job.FormatQcow2))
	if err == nil || inside != nil || !strings.Contains(err.Error(), "guestfish") || !strings.Contains(migrate.Hint(err), "libguestfs-tools") {
		t.Errorf("error %v, hint %q", err, migrate.Hint(err))
	}
	if len(b.Requests(vspheretest.Folder)) > 0 {
		t.Error("something was read")
	}
}
