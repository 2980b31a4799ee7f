//go:build unix

package migrate_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/guestnet"
	"github.com/hyper2kvm/hyper2kvm/internal/appliance"
	"github.com/hyper2kvm/hyper2kvm/internal/process/processtest"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/v2v"
	"github.com/hyper2kvm/hyper2kvm/v2v/v2vtest"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// keepBench is a bench with a running VM whose guest has the card ens192 with the address
// that its Tools report, and a guestfish that writes 7 at 64 KiB of the first disk when it
// is to put a file into the guest.
type keepBench struct {
	*bench
	guest string // what the guest has, as a directory
	def   job.Definition
}

func newKeepBench(t *testing.T, vm vspheretest.VM) *keepBench {
	t.Helper()
	vm.Name, vm.PoweredOn = "guest1", true
	vm.NICs = []vspheretest.NIC{{MAC: "00:50:56:aa:00:01", Network: "Prod"}}
	b := &keepBench{bench: newBench(t, vspheretest.Config{VMs: []vspheretest.VM{vm}}, twoDisks(t)...), guest: t.TempDir()}
	b.m.AcceptFinished = true
	b.write("etc/network/interfaces", "iface ens192 inet static\n address 192.0.2.10/24\n")
	bin := t.TempDir()
	for _, name := range []string{"supermin", "qemu-system-x86_64", "vmlinuz"} {
		processtest.Script(t, filepath.Join(bin, name), "")
	}
	b.m.Fish = &guestnet.Fish{
		Program: filepath.Join(bin, "guestfish"),
		Machine: &appliance.Machine{Env: []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "SUPERMIN_KERNEL=" + filepath.Join(bin, "vmlinuz"), "TMPDIR=" + os.TempDir()}},
	}
	processtest.Script(t, b.m.Fish.Program, fmt.Sprintf(`guest=%q
overlay=$4
while read -r line; do
	eval "set -- $line"
	case $1 in
	tar-out) tar -C "$guest/etc" -c . ;;
	upload) cp "$2" "$guest/written" && qemu-io -f qcow2 -c 'write -P 7 64k 64k' "$overlay" >/dev/null || exit 1 ;;
	esac
done
`, b.guest))
	b.def = b.job(job.FormatQcow2)
	b.def.Options.KeepIP, b.def.Options.Snapshot = true, true
	return b
}

func (b *keepBench) write(name, text string) {
	b.t.Helper()
	path := filepath.Join(b.guest, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		b.t.Fatal(err)
	}
}

func TestALinuxGuestGetsWhatKeepsItsAddressIntoItsImageOnce(t *testing.T) {
	t.Parallel()
	b := newKeepBench(t, vspheretest.VM{GuestID: "debian12_64Guest", Guest: tools()})
	result := b.export(b.def)
	if len(result.NetworkKept) != 1 || !strings.Contains(result.NetworkKept[0], "ens192") {
		t.Errorf("the result says %q", result.NetworkKept)
	}
	text, err := os.ReadFile(filepath.Join(b.guest, "written"))
	if err != nil || !strings.Contains(string(text), "00:50:56:aa:00:01") {
		t.Errorf("%v, %q", err, text)
	}
	qemuIO(t, result.Disks[0].File, "read -P 7 64k 64k")
	b.over()

	served := b.BytesServed("guest1", 0)
	if err := errors.Join(os.Remove(b.m.Fish.Program), b.PowerOff("guest1")); err != nil { // it is not asked again
		t.Fatal(err)
	}
	if again := b.export(b.def); !again.Earlier || len(again.NetworkKept) != 1 || b.BytesServed("guest1", 0) != served {
		t.Errorf("%+v", again)
	}
}

func TestWhatWasExportedBeforeKeepsTheAddressesThatToolsReportedThen(t *testing.T) {
	t.Parallel()
	b := newKeepBench(t, vspheretest.VM{GuestID: "debian12_64Guest", Guest: tools()})
	plain := b.def
	plain.Options.KeepIP = false
	b.export(plain)
	if err := b.PowerOff("guest1"); err != nil {
		t.Fatal(err)
	}
	if result := b.export(b.def); len(result.NetworkKept) != 1 {
		t.Errorf("%+v", result)
	}
	b.over()
}

func TestKeepingAnAddressIsRefusedBeforeAByteMovesWhereItCannotBe(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		vm     vspheretest.VM
		change func(*keepBench)
		want   string
	}{
		"a Windows that is not converted": {vspheretest.VM{GuestID: "windows2019srv_64Guest", Guest: tools()}, func(*keepBench) {}, "conversion"},
		"a FreeBSD":                       {vspheretest.VM{GuestID: "freebsd13_64Guest", Guest: tools()}, func(*keepBench) {}, "freebsd13_64Guest"},
		"a guest without Tools":           {vspheretest.VM{GuestID: "debian12_64Guest"}, func(*keepBench) {}, "no addresses"},
		"Tools that tell of other cards": {vspheretest.VM{GuestID: "debian12_64Guest", Guest: otherTools()}, func(*keepBench) {},
			"no addresses"},
		"no guestfish": {vspheretest.VM{GuestID: "debian12_64Guest", Guest: tools()}, func(b *keepBench) { b.m.Fish.Program += "-none" }, "not installed"},
		"no kernel for its appliance": {vspheretest.VM{GuestID: "debian12_64Guest", Guest: tools()}, func(b *keepBench) {
			b.m.Fish.Machine.Env = append(b.m.Fish.Machine.Env, "SUPERMIN_KERNEL=/none")
		}, "kernel"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newKeepBench(t, test.vm)
			test.change(b)
			_, obstacles, err := b.m.Check(t.Context(), b.def)
			told := slices.ContainsFunc(obstacles, func(o vsphere.Obstacle) bool {
				return o.Code == migrate.CodeKeepIP && o.Severity == vsphere.SeverityError && strings.Contains(o.Text, test.want) && o.Hint != ""
			})
			if err != nil || !told {
				t.Errorf("check: %v, %+v", err, obstacles)
			}
			_, _, err = b.run(t.Context(), b.def)
			var refused *migrate.PreflightError
			if !errors.As(err, &refused) || b.BytesServed("guest1", 0) > 0 {
				t.Errorf("error %v, %d bytes", err, b.BytesServed("guest1", 0))
			}
			b.over()
		})
	}
}

// otherTools tell of a bridge that the guest has made for containers, and of no card.
func otherTools() *vspheretest.Guest {
	g := tools()
	g.Net[0].MacAddress = "02:42:00:00:00:01"
	return g
}

func TestAnAddressThatCannotBeKeptFailsTheStepAndLeavesTheImagesAsTheyWere(t *testing.T) {
	t.Parallel()
	b := newKeepBench(t, vspheretest.VM{GuestID: "debian12_64Guest", Guest: tools()})
	b.write("etc/network/interfaces", "iface bond0 inet static\n address 192.0.2.10/24\n bond-slaves ens192 ens224\n")
	result, _, err := b.run(t.Context(), b.def)
	if !errors.Is(err, guestnet.ErrUnclear) || !migrate.Permanent(err) || result.Success || !strings.Contains(migrate.Hint(err), "by hand") {
		t.Errorf("the run ends with %v (%s)", err, migrate.Hint(err))
	}
	b.over()
	b.def.Options.KeepIP = false
	b.identical(b.export(b.def))
}

func TestAWindowsGuestKeepsItsAddressByItsConversion(t *testing.T) {
	t.Parallel()
	b := newKeepBench(t, vspheretest.VM{GuestID: "windows2019srv_64Guest", Guest: tools()})
	host := v2vtest.New(t, "")
	asked := filepath.Join(host.Bin, "asked")
	host.V2V(fmt.Sprintf(`echo "$*" >%q; `, asked) + v2vtest.Virtio)
	iso := filepath.Join(host.Bin, "virtio-win.iso")
	host.Program("virtio-win.iso", "")
	b.m.V2V = &v2v.Tool{VirtioWin: iso, Machine: host.Machine()}
	b.def.Options.Convert = true
	result := b.export(b.def)
	if len(result.NetworkKept) != 1 || !strings.Contains(result.NetworkKept[0], "192.0.2.10/24") {
		t.Errorf("the result says %q, %q", result.NetworkKept, result.Notes)
	}
	if text, err := os.ReadFile(asked); err != nil || !strings.Contains(string(text), "--mac 00:50:56:aa:00:01:ip:192.0.2.10,192.0.2.1,24,192.0.2.53 ") {
		t.Errorf("%v, virt-v2v was asked for %s", err, text)
	}
	b.over()
}
