package kit_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"libvirt.org/go/libvirtxml"

	"github.com/hyper2kvm/hyper2kvm/kit"
	"github.com/hyper2kvm/hyper2kvm/kvm"
)

// virsh notes how it is called, keeps the domain that it is to define, and fails where it is
// told to.
const virsh = `#!/bin/sh
[ "$1 $2 $3" = "--quiet --connect qemu:///system" ] || exit 9
shift 3
{ printf '%s\0' "$@"; printf '\n\0'; } >>"$CALLS"
[ "$1" != "$FAILS" ] || exit 1
[ "$1" != "$ENDS" ] || kill -"$SIGNAL" "$PPID"
case $1 in
list) [ "$3" != "--$TAKEN" ] || echo "$THERE" ;;
domname) echo "of another name" ;;
pool-dumpxml) echo "<pool type='dir'>" ;;
vol-path) echo "/pool/a&b \"c\"/$5" ;;
define) cp "$3" "$DEFINED" ;;
esac
`

// landed is what a script has done with that virsh.
type landed struct {
	calls  [][]string
	domain string
	said   string
	err    error
}

// landWithVirsh runs the script, for images of one byte each.
func landWithVirsh(t *testing.T, m kit.Machine, env ...string) landed {
	t.Helper()
	path, _ := write(t, kit.Libvirt, m)
	bin, temp := t.TempDir(), t.TempDir()
	calls, defined := filepath.Join(t.TempDir(), "calls"), filepath.Join(t.TempDir(), "domain.xml")
	if err := os.WriteFile(filepath.Join(bin, "virsh"), []byte(virsh), 0o700); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	for _, image := range m.Images {
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), image.File), []byte("1"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// What runs the tests may ignore signals, which a shell cannot change.
	cmd := exec.Command("env", "--default-signal=HUP,INT,TERM", "sh", "-c", `if [ -n "${CLOSED:-}" ]; then exec sh "$0" >&-; else exec sh "$0"; fi`, path)
	cmd.Dir = t.TempDir()
	cmd.Env = append([]string{"PATH=" + bin + ":/usr/bin:/bin", "CALLS=" + calls, "DEFINED=" + defined, "TMPDIR=" + temp, "FAILS=", "TAKEN=", "ENDS="}, env...)
	out, err := cmd.CombinedOutput()
	l := landed{said: string(out), err: err}
	for dir, most := range map[string]int{filepath.Dir(path): len(m.Images) + 1, cmd.Dir: 0, temp: 0} {
		if left, err := os.ReadDir(dir); err != nil || len(left) > most {
			t.Errorf("the script has left %v, %v", left, err)
		}
	}
	text, err := os.ReadFile(calls)
	if err != nil {
		t.Fatalf("%v\n%s", err, l.said)
	}
	for call := range strings.SplitSeq(strings.TrimSuffix(string(text), "\n\x00"), "\n\x00") {
		l.calls = append(l.calls, strings.Split(strings.TrimSuffix(call, "\x00"), "\x00"))
	}
	if text, err = os.ReadFile(defined); err == nil {
		l.domain = string(text)
	}
	return l
}

// count is how many calls of a command there are.
func (l landed) count(command string) (n int) {
	for _, call := range l.calls {
		if call[0] == command {
			n++
		}
	}
	return n
}

func TestTheScriptForLibvirtDefinesTheDomainThatThereIsWithItsVolumes(t *testing.T) {
	t.Parallel()
	networks := []string{"NETWORK0=net a&b", "NETWORK1=bridge:br1", "NETWORK2=c", "NETWORK3=d"}
	for name, m := range machines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := landWithVirsh(t, m, networks...)
			if got.err != nil {
				t.Fatalf("%v\n%s", got.err, got.said)
			}
			want, _, err := kvm.Describe(m.Guest, m.Options)
			if err != nil {
				t.Fatal(err)
			}
			for i, image := range m.Images {
				want.Devices.Disks[i].Source.File.File = `/pool/a&b "c"/` + image.File
			}
			for i := range want.Devices.Interfaces {
				source := &want.Devices.Interfaces[i].Source
				if _, network, _ := strings.Cut(networks[i], "="); strings.HasPrefix(network, "bridge:") {
					*source = &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: network[len("bridge:"):]}}
				} else {
					*source = &libvirtxml.DomainInterfaceSource{Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: network}}
				}
			}
			text, err := want.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			var defined libvirtxml.Domain
			if err := defined.Unmarshal(got.domain); err != nil {
				t.Fatalf("%v\n%s", err, got.domain)
			}
			same, err := defined.Marshal() // with the same spellings of quotes
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(text, same); diff != "" {
				t.Errorf("the domain, -want +got:\n%s", diff)
			}
			if n := len(m.Images); got.count("vol-create-as") != n || got.count("vol-upload") != n || got.count("define") != 1 || got.count("vol-delete") != 0 {
				t.Errorf("the calls are %q", got.calls)
			}
		})
	}
}

func TestTheScriptForLibvirtRemovesWhatItHasMadeWhenItFails(t *testing.T) {
	t.Parallel()
	m := machines()["PVSCSI"]
	for fails, removed := range map[string]int{
		"uri": 0, "domcapabilities": 0, "list": 0, "net-info": 0, "pool-dumpxml": 0, "vol-create-as": 0, "vol-upload": 1, "vol-path": 1, "pool-refresh": 2, "define": 2,
	} {
		got := landWithVirsh(t, m, "NETWORK0=lan", "FAILS="+fails)
		if got.err == nil || got.count("vol-delete") != removed {
			t.Errorf("when %s fails: %v, %s\n%q", fails, got.err, got.said, got.calls)
		}
		if fails == "domcapabilities" && !strings.Contains(got.said, "TYPE=qemu") {
			t.Errorf("without KVM it says %s", got.said)
		}
		if (got.count("undefine") == 1) != (fails == "define") {
			t.Errorf("when %s fails, it undefines: %q", fails, got.calls)
		}
		if fails == "net-info" && !strings.Contains(got.said, "there is no network lan at qemu:///system: NETWORK0 names another one") {
			t.Errorf("without the network it says %s", got.said)
		}
	}
}

func TestTheScriptForLibvirtTakesWhatTheMapNamesAndAsksForTheRest(t *testing.T) {
	t.Parallel()
	m := machines()["networks"]
	path, _ := write(t, kit.Libvirt, m)
	out, err := exec.Command("sh", path).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "name the network of card 2: virsh net-list") {
		t.Errorf("without a network it says %s, %v", out, err)
	}
	got := landWithVirsh(t, m, "NETWORK2=c", "NETWORK3=d", "NAME=other & name")
	for _, want := range []string{`<source bridge="br1">`, `<source network="office">`, `<source network="c">`, `<name>other &amp; name</name>`} {
		if !strings.Contains(got.domain, want) {
			t.Errorf("the domain lacks %s:\n%s", want, got.domain)
		}
	}
	if n := strings.Count(got.domain, `<interface type="bridge">`); n != 1 {
		t.Errorf("%d cards are on a bridge", n)
	}
}

func TestAnEmulatedGuestHasNothingOfWhatIsKVMsWork(t *testing.T) {
	t.Parallel()
	m := machines()["secure boot Windows"]
	m.Guest.Description = "<hyperv> and hypervclock stay in a description"
	for kind, wants := range map[string]bool{"kvm": true, "qemu": false} {
		got := landWithVirsh(t, m, "NETWORK0=lan", "TYPE="+kind)
		has := strings.Contains(got.domain, "<hyperv") && strings.Contains(got.domain, `name="hypervclock"`)
		if !strings.Contains(got.domain, fmt.Sprintf(`<domain type=%q>`, kind)) || has != wants || !strings.Contains(got.domain, "hypervclock stay") {
			t.Errorf("%s: %v\n%s\n%s", kind, got.err, got.said, got.domain)
		}
		if asked := slices.ContainsFunc(got.calls, func(c []string) bool { return c[0] == "domcapabilities" }); asked != wants {
			t.Errorf("%s: KVM is asked for: %t", kind, asked)
		}
	}
}

func TestTheScriptForLibvirtChangesNothingWhereTheVMIsThere(t *testing.T) {
	t.Parallel()
	m := machines()["PVSCSI"]
	for taken, there := range map[string][2]string{
		"name": {m.Guest.Name, "the domain erp is there already"},
		"uuid": {m.Guest.UUID, "the UUID " + m.Guest.UUID + " is taken by the domain of another name: has the VM landed before?"},
	} {
		got := landWithVirsh(t, m, "NETWORK0=lan", "TAKEN="+taken, "THERE="+there[0])
		if got.err == nil || !strings.Contains(got.said, there[1]) || got.count("vol-create-as")+got.count("define") > 0 {
			t.Errorf("with its %s taken: %v, %s\n%q", taken, got.err, got.said, got.calls)
		}
	}
}

func TestTheVolumesOfADomainThatIsDefinedStayWhenTheScriptCannotSaySo(t *testing.T) {
	t.Parallel()
	m := machines()["PVSCSI"]
	m.Options.NetworkMap = map[string]string{kvm.AnyNetwork: "lan"}
	got := landWithVirsh(t, m, "CLOSED=1")
	if got.count("define") != 1 || got.count("vol-delete") != 0 {
		t.Errorf("%v, %s\n%q", got.err, got.said, got.calls)
	}
}

func TestTheScriptForLibvirtRemovesWhatItHasMadeWhenItIsEnded(t *testing.T) {
	t.Parallel()
	m := machines()["PVSCSI"]
	for _, signal := range []string{"HUP", "INT", "TERM"} {
		if got := landWithVirsh(t, m, "NETWORK0=lan", "ENDS=pool-refresh", "SIGNAL="+signal); got.err == nil || got.count("vol-delete") != 2 || got.count("define") != 0 {
			t.Errorf("at %s: %v, %s\n%q", signal, got.err, got.said, got.calls)
		}
	}
	// What is defined without an answer goes, too, as far as it is known to be the script's.
	for _, id := range []string{m.Guest.UUID, ""} {
		m.Guest.UUID = id
		got := landWithVirsh(t, m, "NETWORK0=lan", "ENDS=define", "SIGNAL=HUP")
		if got.err == nil || got.count("vol-delete") != 2 || (got.count("undefine") == 1) != (id != "") || id != "" && !slices.Equal(got.calls[len(got.calls)-3], []string{"undefine", id}) {
			t.Errorf("with the UUID %q: %v, %s\n%q", id, got.err, got.said, got.calls)
		}
	}
	if got := landWithVirsh(t, m, "NETWORK0=lan", "FAILS=vol-create-as"); !strings.Contains(got.said, "the volume erp-disk-0.qcow2 cannot be made in the pool default") {
		t.Errorf("where a volume is there, it says %s", got.said)
	}
}
