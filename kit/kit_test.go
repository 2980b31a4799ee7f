package kit_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/process/processtest"
	"github.com/hyper2kvm/hyper2kvm/kit"
	"github.com/hyper2kvm/hyper2kvm/kvm"
)

// hostile are names of VMs that a script must not trip over.
var hostile = []string{
	"erp", "$(touch PWNED)", "`touch PWNED`", "'; touch PWNED; '", `"; touch PWNED; "`, "a\ntouch PWNED\n", "-rf", "--help", "ü ö 日本", "%2f%25", "# x", "a,b=c",
	"$PWD", `\`, "!!", "2019", "3 par", strings.Repeat("long", 60), "\x00\x1b[31m", "", "…", "a: {b: c}", "'", "*",
}

// machines are VMs of every shape.
func machines() map[string]kit.Machine {
	out := map[string]kit.Machine{}
	add := func(name string, change func(*kit.Machine), buses ...kvm.Bus) {
		m := kit.Machine{Guest: kvm.Guest{
			Name: "erp", UUID: "564d5f2a-1b2c-4d3e-8f90-a1b2c3d4e5f6", MemoryMiB: 2048, CPUs: 4, CoresPerSocket: 2, GuestID: "debian12_64Guest",
			NICs: []kvm.NIC{{MAC: "00:50:56:aa:bb:cc", Model: "vmxnet3", Network: "VM Network"}},
		}}
		units := map[kvm.Bus]int{}
		for i, b := range buses {
			unit := units[b]
			units[b]++
			if unit >= 7 {
				unit++
			}
			d := kvm.Disk{Path: fmt.Sprintf("/images/erp-disk-%d.qcow2", i), Format: kvm.QCOW2, Bus: b, Unit: unit}
			if b == kvm.IDE {
				d.Controller, d.Unit = unit/2, unit%2
			}
			m.Guest.Disks = append(m.Guest.Disks, d)
			m.Images = append(m.Images, kit.Image{File: fmt.Sprintf("erp-disk-%d.qcow2", i), Format: kvm.QCOW2, Capacity: int64(i+1)<<30 + 512})
		}
		if change != nil {
			change(&m)
		}
		out[name] = m
	}
	add("PVSCSI", nil, kvm.PVSCSI, kvm.PVSCSI)
	add("UEFI", func(m *kit.Machine) { m.Guest.Firmware = kvm.UEFI }, kvm.PVSCSI, kvm.PVSCSI)
	add("secure boot Windows", func(m *kit.Machine) {
		m.Guest.Firmware, m.Guest.SecureBoot, m.Guest.GuestID = kvm.UEFI, true, "windows2019srv_64Guest"
	}, kvm.LSISAS, kvm.NVMe)
	add("LSI SAS", nil, kvm.LSISAS, kvm.LSISAS)
	add("IDE", nil, kvm.IDE, kvm.IDE, kvm.IDE, kvm.IDE)
	add("several buses", nil, kvm.IDE, kvm.LSILogic, kvm.PVSCSI, kvm.SATA, kvm.NVMe)
	add("virtio", func(m *kit.Machine) { m.Options.Virtio = true }, kvm.LSISAS, kvm.IDE)
	add("converted", func(m *kit.Machine) { m.Options.VirtioBlk, m.Options.VirtioNet = true, true }, slices.Repeat([]kvm.Bus{kvm.PVSCSI}, 18)...)
	add("60 disks", nil, slices.Repeat([]kvm.Bus{kvm.PVSCSI}, 60)...)
	add("hot-add", func(m *kit.Machine) { m.Guest.CPUHotAdd, m.Guest.MemoryHotAdd = true, true }, kvm.PVSCSI)
	add("nothing in it", func(m *kit.Machine) { m.Guest.NICs = nil })
	add("networks", func(m *kit.Machine) {
		m.Options.NetworkMap = map[string]string{"DMZ": "bridge:br1", "lan": "office"}
		m.Guest.NICs = []kvm.NIC{{MAC: "00:50:56:00:00:01", Model: "e1000", Network: "DMZ"}, {Model: "pcnet", Network: "lan"}, {Model: "sriov", Network: "other"}, {Model: "e1000e", Network: "other"}}
	}, kvm.SATA)
	for i, name := range hostile {
		add(fmt.Sprintf("hostile %d", i), func(m *kit.Machine) {
			m.Guest.Name, m.Guest.NICs[0].Network = name, name
			m.Options.NetworkMap = map[string]string{"other": "$(touch PWNED)"}
		}, kvm.PVSCSI)
	}
	return out
}

// write writes the file for a target into a directory and returns its path.
func write(t *testing.T, target kit.Target, m kit.Machine) (path string, notes []kvm.Note) {
	t.Helper()
	text, notes, err := kit.Write(target, m)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), kit.FileName(target, "erp"))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, notes
}

// tool is a program that notes how it was called.
const tool = `{ printf '%s\0' "$(basename "$0")" "$@"; printf '\n\0'; } >>"$CALLS"
case "$* " in
*"/cluster/nextid"*) echo 117 ;;
*"volume show"*) echo available ;;
*create*) echo "id-$(wc -c <"$CALLS")" ;;
esac
`

// run runs a script with tools of that name and returns their calls. Whatever a name
// holds, nothing else may happen.
func run(t *testing.T, script string, env []string, tools ...string) [][]string {
	t.Helper()
	bin, calls := t.TempDir(), filepath.Join(t.TempDir(), "calls")
	for _, name := range tools {
		processtest.Script(t, filepath.Join(bin, name), tool)
	}
	cmd := exec.Command("sh", script)
	cmd.Dir = t.TempDir()
	cmd.Env = append([]string{"PATH=" + bin + ":/usr/bin:/bin", "CALLS=" + calls}, env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, dir := range []string{filepath.Dir(script), cmd.Dir} {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 1 || slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "PWNED" }) {
			t.Fatalf("the script has left %v, %v", entries, err)
		}
	}
	text, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]string
	for call := range strings.SplitSeq(strings.TrimSuffix(string(text), "\n\x00"), "\n\x00") {
		out = append(out, strings.Split(strings.TrimSuffix(call, "\x00"), "\x00"))
	}
	return out
}

func TestEveryScriptIsOneThatShellcheckAccepts(t *testing.T) {
	t.Parallel()
	var scripts []string
	for name, m := range machines() {
		for _, target := range []kit.Target{kit.Proxmox, kit.OpenStack, kit.Libvirt, kit.Incus} {
			if target != kit.Proxmox && len(m.Images) > 10 {
				continue // the same lines again and again, which take shellcheck seconds
			}
			if (target == kit.Libvirt || target == kit.Incus) && len(name) == len("hostile 10") && strings.HasPrefix(name, "hostile") {
				continue // long scripts; that they run is tested with all names
			}
			path, _ := write(t, target, m)
			scripts = append(scripts, path)
		}
	}
	// Those two ask whether what stands in single quotes is meant to: it is.
	if out, err := exec.Command("shellcheck", append([]string{"--severity=style", "--exclude=SC2016,SC1003"}, scripts...)...).CombinedOutput(); err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
}

// qmOptions is what qm create takes (qm(1) of Proxmox VE 8), each as an expression
// for its value.
var qmOptions = map[string]string{
	`name`:                       `[a-z0-9]([-a-z0-9]*[a-z0-9])?`,
	`description`:                `(?s).*`,
	`ostype`:                     `l24|l26|other|solaris|w2k|w2k3|w2k8|win10|win11|win7|win8|wvista|wxp`,
	`memory`:                     `[0-9]{2,}`,
	`sockets`:                    `[1-9][0-9]*`,
	`vcpus`:                      `[1-9][0-9]*`,
	`hotplug`:                    `(network|disk|usb|cpu)(,(network|disk|usb|cpu))*`,
	`cores`:                      `[1-9][0-9]*`,
	`cpu`:                        `host`,
	`agent`:                      `1`,
	`serial0`:                    `socket`,
	`smbios1`:                    `uuid=[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`,
	`machine`:                    `q35`,
	`bios`:                       `ovmf`,
	`efidisk0`:                   `[a-z][-a-z0-9]*:0,efitype=4m,pre-enrolled-keys=[01]`,
	`scsihw`:                     `lsi|pvscsi|virtio-scsi-pci`,
	`scsi([0-9]|[12][0-9]|30)`:   `[a-z][-a-z0-9]*:0,import-from=/[^,]+,discard=on`,
	`sata[0-5]`:                  `[a-z][-a-z0-9]*:0,import-from=/[^,]+,discard=on`,
	`virtio([0-9]|1[0-5])`:       `[a-z][-a-z0-9]*:0,import-from=/[^,]+,discard=on`,
	`ide[0-3]`:                   `[a-z][-a-z0-9]*:0,import-from=/[^,]+,discard=on`,
	`net([0-9]|[12][0-9]|3[01])`: `(e1000|e1000e|pcnet|virtio|vmxnet3)(=([0-9A-F]{2}:){5}[0-9A-F]{2})?,bridge=[a-zA-Z][-_.0-9a-zA-Z]*`,
	`boot`:                       `order=(scsi|sata|ide|virtio)[0-9]+`,
}

func TestTheScriptForProxmoxCallsQmAsItsManualSays(t *testing.T) {
	t.Parallel()
	for name, m := range machines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, notes := write(t, kit.Proxmox, m)
			calls := run(t, path, nil, "qm", "pvesh")
			if len(calls) != 2 || !slices.Equal(calls[0], []string{"pvesh", "get", "/cluster/nextid"}) || !slices.Equal(calls[1][:3], []string{"qm", "create", "117"}) {
				t.Fatalf("the calls are %q", calls)
			}
			seen := map[string]string{}
			for i := 3; i < len(calls[1]); i += 2 {
				option, ok := strings.CutPrefix(calls[1][i], "--")
				if !ok || i+1 == len(calls[1]) || seen[option] != "" {
					t.Fatalf("%q is no option, has no value, or is there twice", calls[1][i])
				}
				seen[option] = calls[1][i+1]
				if !optionFits(option, calls[1][i+1]) {
					t.Errorf("qm takes no --%s %q", option, calls[1][i+1])
				}
			}
			attached := 0
			for option, value := range seen {
				if strings.Contains(value, "import-from=") {
					attached++
					if !strings.Contains(value, "import-from="+filepath.Dir(path)+"/erp-disk-") {
						t.Errorf("--%s %q is not of the script's directory", option, value)
					}
				}
			}
			missing := 0
			for _, n := range notes {
				if strings.Contains(n.Text, "is not attached") {
					missing++
				}
			}
			if attached+missing != len(m.Images) {
				t.Errorf("%d disks of %d are attached, %d are said not to be", attached, len(m.Images), missing)
			}
			if len(m.Images) > 0 && !strings.Contains(seen[strings.TrimPrefix(seen["boot"], "order=")], "erp-disk-0.qcow2") {
				t.Errorf("it boots from %s, which is not the first disk", seen["boot"])
			}
		})
	}
}

// fits reports whether all of a text is what an expression says.
func fits(expression, text string) bool {
	return regexp.MustCompile(`^(` + expression + `)$`).MatchString(text)
}

func optionFits(option, value string) bool {
	for name, values := range qmOptions {
		if fits(name, option) && fits(values, value) {
			return true
		}
	}
	return false
}

func TestTheScriptForProxmoxKeepsWhatTheVMHad(t *testing.T) {
	t.Parallel()
	all := machines()
	for name, wants := range map[string][]string{
		"PVSCSI":              {"--scsihw pvscsi", "--ostype 'l26'", "--sockets 2", "--cores 2", "--memory 2048", "vmxnet3=00:50:56:AA:BB:CC", "uuid=564d5f2a-1b2c-4d3e-8f90-a1b2c3d4e5f6"},
		"UEFI":                {"--bios ovmf", "--machine q35", "pre-enrolled-keys=0", "--sata0", "--scsi0", "order=sata0"},
		"secure boot Windows": {"pre-enrolled-keys=1", "--ostype 'win10'", "--sata0", "--sata1"},
		"LSI SAS":             {"--sata0", "--sata1", "Note: disk 0: is on SATA"},
		"IDE":                 {"--ide0", "--ide3", "order=ide0"},
		"virtio":              {"--scsihw virtio-scsi-pci", "virtio=00:50:56"},
		"converted":           {"--virtio0", "--virtio15", "--scsi1", "order=virtio0", "virtio=00:50:56"},
		"hot-add":             {"--vcpus 4", "--cores 2", "--hotplug network,disk,usb,cpu", `--sockets "$SOCKETS"`, "Note: memory: can no longer be added"},
		"networks":            {"_BRIDGE0='br1'", "_BRIDGE1='vmbr0'", "which was on lan at vSphere"},
	} {
		text, _, err := kit.Write(kit.Proxmox, all[name])
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !bytes.Contains(text, []byte(want)) {
				t.Errorf("%s lacks %s:\n%s", name, want, text)
			}
		}
	}
}

func TestABridgeAndAStoreCanBeNamedWhenTheScriptIsRun(t *testing.T) {
	t.Parallel()
	path, _ := write(t, kit.Proxmox, machines()["PVSCSI"])
	calls := run(t, path, []string{"STORE=ceph", "BRIDGE0=vmbr7", "VMID=9"}, "qm", "pvesh")
	text := strings.Join(calls[0], " ")
	for _, want := range []string{"qm create 9 ", "ceph:0,import-from=", "bridge=vmbr7"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q lacks %q", text, want)
		}
	}
}

func TestAtProxmoxCPUsCanBeAddedAsFarAsTheNodeHasThem(t *testing.T) {
	t.Parallel()
	path, _ := write(t, kit.Proxmox, machines()["hot-add"])
	for cpus, want := range map[string]string{"1": "2", "5": "2", "8": "4", "64": "8"} {
		cmd := exec.Command("sh", "-c", `nproc() { echo "$CPUS"; }; qm() { echo "$@"; }; . "$0"`, path)
		cmd.Dir = t.TempDir()
		cmd.Env = []string{"PATH=/usr/bin:/bin", "CPUS=" + cpus, "VMID=9"}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), " --sockets "+want+" --cores 2 ") || !strings.Contains(string(out), " --vcpus 4 ") {
			t.Errorf("at a node with %s CPUs: %v\n%s", cpus, err, out)
		}
	}
}

func TestADirectoryWhoseNameQmCannotTakeIsSaid(t *testing.T) {
	t.Parallel()
	text, _, err := kit.Write(kit.Proxmox, machines()["PVSCSI"])
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "a,b")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "erp.pve.sh")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", path)
	cmd.Env = append(os.Environ(), "VMID=9")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "no path with a comma: "+dir) {
		t.Errorf("it says %s, %v", out, err)
	}
}
