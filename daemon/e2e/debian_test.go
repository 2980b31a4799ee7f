package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/landing/libvirttest"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

const (
	debianMAC = "00:50:56:aa:00:01"
	// intact is what the guest says when everything is as it was, but for the name of
	// its card, which is at the end of the line.
	intact = "hyper2kvm debian guest: disk intact, address 192.0.2.10/24 via 192.0.2.1 on "
	// bootTime is how long an emulated guest may take, on a machine with other work.
	bootTime = 15 * time.Minute
)

// TestADebianGuestMovesFromVSphereToLibvirt moves a Debian that is set up in several
// ways out of the lab vCenter to a libvirt, where it boots, and says on its serial line
// that its disk is intact, and which address it has. It takes root and minutes, and is
// what `make test-e2e` runs: H2KVM_E2E is the file that gets the transcript.
func TestADebianGuestMovesFromVSphereToLibvirt(t *testing.T) {
	file := os.Getenv("H2KVM_E2E")
	if file == "" {
		t.Skip("make test-e2e runs this")
	}
	var all strings.Builder
	all.WriteString(introduction)
	for _, m := range []move{
		{title: "Debian with systemd-networkd, from the command line", layout: "any"},
		{title: "The same, as a job of the daemon", layout: "any", byJob: true},
		{title: "Debian with ifupdown, and -keep-ip", layout: "interfaces", also: []string{"-keep-ip"}, card: "ens192"},
		{title: "netplan as Ubuntu has it, with -keep-ip and another card", layout: "netplan", also: []string{"-keep-ip", "-virtio"}, card: "ens192"},
		{title: "NetworkManager as Fedora has it, with keep_ip and another card, as a job", layout: "nm", also: []string{"-keep-ip", "-virtio"}, byJob: true, card: "ens192"},
		{title: "Debian converted to virtio: -convert", layout: "any", also: []string{"-convert"}},
		{title: "The same conversion, as a job of the daemon: convert: true", layout: "any", also: []string{"-convert"}, byJob: true},
	} {
		t.Run(m.title, func(t *testing.T) {
			text := newMoving(t, m).run()
			t.Log("\n" + text)
			all.WriteString(text)
		})
	}
	if t.Failed() {
		return
	}
	if err := os.WriteFile(file, []byte(all.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

const introduction = `# From vSphere to a guest that runs at libvirt

What ` + "`make test-e2e`" + ` has written, with the names of directories and addresses made plain. The guest is a Debian 12 that debootstrap
makes (` + "`scripts/debian-guest.sh`" + `), in a lab vCenter, where its card is called ens192 and VMware Tools report its address. The libvirt is
Debian's. It has no KVM here, so that QEMU emulates the guest. Once the guest runs it says on its serial line every five seconds whether the
SHA-256 of its programs and data are what they were, and which address it has on which card. What Ubuntu and Fedora have is imitated with Debian's
packages netplan.io and network-manager. Lines that only repeat what is waited for are left out, as "…".

`

// move is one guest on its way.
type move struct {
	title  string
	layout string   // of scripts/debian-guest.sh
	byJob  bool     // of the daemon, and not from the command line
	also   []string // flags beyond those that every move has
	card   string   // its name in the end; "" is any
}

// moving is a move under way.
type moving struct {
	move
	*home
	t    *testing.T
	lab  *vspheretest.Server
	lv   *libvirttest.Server
	told strings.Builder
}

func newMoving(t *testing.T, m move) *moving {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "debian.raw")
	if out, err := exec.CommandContext(t.Context(), "../../scripts/debian-guest.sh", disk, m.layout).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{{
		Name: "debian", GuestID: "debian12_64Guest", MemoryMiB: 512, PoweredOn: true, Guest: debianTools(),
		Disks: []vspheretest.Disk{{Path: disk}}, NICs: []vspheretest.NIC{{MAC: debianMAC, Network: "VM Network"}},
	}}})
	lv := libvirttest.Start(t)
	lv.Pool("default", t.TempDir())
	lv.Network("lan")
	return &moving{move: m, home: newHome(t, lab), t: t, lab: lab, lv: lv}
}

// debianTools are the Tools of the guest, before it moves.
func debianTools() *vspheretest.Guest {
	return &vspheretest.Guest{
		HostName: "guest",
		Net: []types.GuestNicInfo{{
			MacAddress: debianMAC, Network: "VM Network", Connected: true,
			IpConfig: &types.NetIpConfigInfo{IpAddress: []types.NetIpConfigInfoIpAddress{{IpAddress: "192.0.2.10", PrefixLength: 24, Origin: "manual"}}},
		}},
		IPStack: []types.GuestStackInfo{{
			DnsConfig: &types.NetDnsConfigInfo{IpAddress: []string{"192.0.2.53"}},
			IpRouteConfig: &types.NetIpRouteConfigInfo{IpRoute: []types.NetIpRouteConfigInfoIpRoute{
				{Network: "0.0.0.0", Gateway: types.NetIpRouteConfigInfoGateway{IpAddress: "192.0.2.1", Device: "0"}},
			}},
		}},
	}
}

// run moves the guest, and returns what there was to see.
func (m *moving) run() string {
	m.tell("## %s\n\n", m.title)
	if m.byJob {
		m.job()
	} else {
		u := m.lab.URL()
		u.User = url.UserPassword("user", password)
		m.env = append(os.Environ(), "GOVC_URL="+u.String(), "GOVC_INSECURE=1", "GOVC_DATACENTER=DC0")
		m.shows(append([]string{
			"hyper2kvm", "export", "-vm", "debian", "-output", m.out("debian"), "-format", "qcow2", "-shutdown",
			"-libvirt", m.lv.URI(), "-pool", "default", "-network-map", "*=lan", "-start",
		}, m.also...)...)
	}
	said := m.console()
	m.tell("What it says on its serial line, at libvirt:\n\n    %s\n\n", said)
	if !strings.HasPrefix(said, intact) || m.card != "" && said != intact+m.card {
		m.t.Errorf("the guest says %q", said)
	}
	if xml := m.lv.Virsh("dumpxml", "debian"); !strings.Contains(xml, debianMAC) {
		m.t.Errorf("the domain's card has another address:\n%s", xml)
	}
	m.lv.Virsh("destroy", "debian")
	return m.clean()
}

// job moves the guest as a job of the daemon.
func (m *moving) job() {
	m.t.Helper()
	config, err := os.ReadFile(m.config)
	if err != nil {
		m.t.Fatal(err)
	}
	m.config = m.write("libvirt.yaml", string(config)+fmt.Sprintf("allowed_libvirt: [%q]\n", m.lv.URI()))
	text := fmt.Sprintf(`vm_path: %s
output_path: %s
vcenter: lab
options:
  format: qcow2
  shutdown: true
  libvirt: %s
  pool: default
  network_map: {"*": lan}
  start: true
`, m.lab.InventoryPath("debian"), m.out("debian"), m.lv.URI())
	for _, flag := range m.also {
		text += "  " + strings.ReplaceAll(strings.TrimPrefix(flag, "-"), "-", "_") + ": true\n"
	}
	file := m.write("debian.yaml", text)
	m.tell("debian.yaml:\n\n%s\n", indented(text))
	d := m.start()
	defer d.stop(m.t)
	m.env = append(os.Environ(), "H2KVM_DAEMON="+d.BaseURL())
	m.shows("h2kvmctl", "submit", "-file", file, "-watch")
}

// shows runs a program, which must succeed, and tells what it printed.
func (m *moving) shows(args ...string) {
	m.t.Helper()
	cmd := exec.CommandContext(m.t.Context(), program(m.t, args[0]), args[1:]...)
	cmd.Env = m.env
	out, err := cmd.CombinedOutput()
	for i, arg := range args {
		if strings.ContainsAny(arg, "*") {
			args[i] = "'" + arg + "'"
		}
	}
	m.tell("    $ %s\n%s\n", strings.Join(args, " "), indented(string(out)))
	if err != nil {
		m.t.Fatalf("%v\n%s", err, m.told.String())
	}
}

// console waits for what the guest says of itself, and returns it.
func (m *moving) console() string {
	m.t.Helper()
	ctx, cancel := context.WithTimeoutCause(m.t.Context(), bootTime, errors.New("the guest has said nothing in that time"))
	defer cancel()
	line, heard, err := m.lv.Console(ctx, "debian", "hyper2kvm debian guest: ")
	if err != nil {
		m.t.Fatalf("%v, and the console had\n%s\n%s", err, heard, m.told.String())
	}
	return line
}

func (m *moving) tell(format string, args ...any) { fmt.Fprintf(&m.told, format, args...) }

// What is another thing with each run, and of no interest to a reader.
var (
	port    = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	private = regexp.MustCompile(`/\S*/hyper2kvm-fs-\d+/`)
	escape  = regexp.MustCompile(`\x1b\[[0-9;?]*[a-zA-Z]`)
)

// clean is the transcript with places as users have them.
func (m *moving) clean() string {
	text := strings.NewReplacer(m.lv.URI(), "qemu:///system", filepath.Join(m.dir, "out"), "/srv/vms", m.dir+"/", "").Replace(m.told.String())
	text = private.ReplaceAllString(port.ReplaceAllString(text, "vcenter"), "/tmp/hyper2kvm-fs/")
	return folded(escape.ReplaceAllString(text, ""))
}

// waiting is a line that says, every ten seconds, for how long something has gone on.
var waiting = regexp.MustCompile(`^    \S+ debian: (\w+) for \S+  (.*)`)

// folded is a transcript without such lines that say the same as those before and behind.
func folded(text string) string {
	var out []string
	said := func(line string) string {
		m := waiting.FindStringSubmatch(line)
		if m == nil {
			return ""
		}
		return m[1] + m[2]
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if now := said(line); now != "" && i > 0 && i+1 < len(lines) && said(lines[i-1]) == now && said(lines[i+1]) == now {
			if out[len(out)-1] != "    …" {
				out = append(out, "    …")
			}
			continue
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

func indented(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ") + "\n"
}
