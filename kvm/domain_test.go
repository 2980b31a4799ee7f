package kvm_test

import (
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"libvirt.org/go/libvirtxml"

	"github.com/hyper2kvm/hyper2kvm/kvm"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// guest returns a guest with one disk on each of the given buses and a card of each
// model, whose images exist.
func guest(t *testing.T, name string, buses ...kvm.Bus) kvm.Guest {
	t.Helper()
	g := kvm.Guest{Name: name, MemoryMiB: 128, CPUs: 2, GuestID: "debian12_64Guest"}
	units := map[kvm.Bus]int{}
	dir := t.TempDir()
	for i, bus := range buses {
		path := filepath.Join(dir, fmt.Sprintf("disk-%d.raw", i))
		if err := os.WriteFile(path, make([]byte, 1<<20), 0o644); err != nil {
			t.Fatal(err)
		}
		g.Disks = append(g.Disks, kvm.Disk{Path: path, Bus: bus, Unit: units[bus]})
		units[bus]++
	}
	for i, model := range []string{"vmxnet3", "e1000", "e1000e", "pcnet"} {
		g.NICs = append(g.NICs, kvm.NIC{Model: model, MAC: fmt.Sprintf("00:50:56:00:00:%02x", i)})
	}
	return g
}

func domain(t *testing.T, g kvm.Guest, o kvm.Options) ([]byte, []kvm.Note) {
	t.Helper()
	text, notes, err := kvm.Domain(g, o)
	if err != nil {
		t.Fatal(err)
	}
	return text, notes
}

// parse reads a domain back with the library that libvirt's own projects use.
func parse(t *testing.T, text []byte) *libvirtxml.Domain {
	t.Helper()
	var d libvirtxml.Domain
	if err := d.Unmarshal(string(text)); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return &d
}

func TestLibvirtAcceptsTheDomainAndQEMUStartsIt(t *testing.T) {
	t.Parallel()
	all := []kvm.Bus{
		kvm.PVSCSI, kvm.LSILogic, kvm.LSISAS, kvm.BusLogic, kvm.SATA, kvm.NVMe, kvm.IDE, "",
		kvm.PVSCSI, kvm.LSILogic, kvm.LSISAS, kvm.SATA, kvm.IDE,
	}
	many := make([]kvm.Bus, 20)
	for i := range many {
		many[i] = kvm.LSISAS
	}
	for _, test := range []struct {
		name      string
		buses     []kvm.Bus
		change    func(*kvm.Guest)
		virtio    bool
		converted bool
	}{
		{name: "bios-converted", buses: many, converted: true},
		{name: "uefi-converted", buses: all, change: func(g *kvm.Guest) { g.Firmware = kvm.UEFI }, converted: true},
		{name: "bios-every-bus", buses: all},
		{name: "bios-every-bus-virtio", buses: all, virtio: true},
		{name: "uefi-every-bus", buses: all, change: func(g *kvm.Guest) { g.Firmware = kvm.UEFI }},
		{name: "secure-boot", buses: all[:1], change: func(g *kvm.Guest) { g.Firmware, g.SecureBoot = kvm.UEFI, true }},
		{name: "nvram-path", buses: all[:1], change: func(g *kvm.Guest) {
			g.Firmware, g.NVRAMPath = kvm.UEFI, filepath.Join(filepath.Dir(g.Disks[0].Path), "my vars,1.fd")
		}},
		{name: "windows", buses: all[:3], change: func(g *kvm.Guest) { g.GuestID = "windows2019srv_64Guest" }},
		{name: "many-disks", buses: many},
		{name: "topology", buses: all[:1], change: func(g *kvm.Guest) { g.CPUs, g.CoresPerSocket, g.ThreadsPerCore = 12, 3, 2 }},
		{name: "hot-add", buses: all[:1], change: hotAdd},
		{name: "hot-add-uefi", buses: all[:1], change: func(g *kvm.Guest) { hotAdd(g); g.Firmware, g.SecureBoot = kvm.UEFI, true }},
		{name: "hot-add-windows", buses: all[4:5], change: func(g *kvm.Guest) { hotAdd(g); g.GuestID = "windows2019srv_64Guest" }},
		{name: "hot-add-to-the-limit", buses: all[:1], change: func(g *kvm.Guest) { hotAdd(g); g.CPUs, g.CoresPerSocket, g.MemoryMiB = 80, 5, 1024 }},
		{name: "diskless", change: func(g *kvm.Guest) { g.NICs = nil }},
		{name: "path-with-odd-characters", buses: all[:1], change: func(g *kvm.Guest) {
			odd := filepath.Join(filepath.Dir(g.Disks[0].Path), `a b,c&d"e'f<g>ü%2f=.raw`)
			if err := os.Rename(g.Disks[0].Path, odd); err != nil {
				t.Fatal(err)
			}
			g.Disks[0].Path = odd
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := guest(t, test.name, test.buses...)
			if test.change != nil {
				test.change(&g)
			}
			text, _ := domain(t, g, kvm.Options{Virtio: test.virtio, VirtioBlk: test.converted, VirtioNet: test.converted})
			validates(t, text)
			defines(t, text)

			text, _ = domain(t, g, kvm.Options{Virtio: test.virtio, VirtioBlk: test.converted, VirtioNet: test.converted, Emulate: true})
			validates(t, text)
			starts(t, text)
		})
	}
}

func TestLibvirtAcceptsMoreCPUsThanThePCBoardTakes(t *testing.T) {
	t.Parallel()
	g := guest(t, "wide", kvm.PVSCSI)
	g.CPUs = 256
	text, notes := domain(t, g, kvm.Options{Emulate: true})
	defines(t, text)
	if !mentions(notes, "cpu", "256 CPUs") {
		t.Errorf("no note about the CPUs in %v", notes)
	}
}

func TestLibvirtAcceptsADomainWhateverTheVMIsCalled(t *testing.T) {
	t.Parallel()
	for i, name := range []string{
		"plain", "web %2f prod", `it's "quoted"`, "größe 東京 🚀", "a/b\\c", "tab\there", "line\nbreak",
		"nul\x00bell\x07", "\xff\xfe", "", "   ", "..", "-dash", "--help", "<xml>&amp;", "%", "${HOME}", "`id`; $(id)",
		strings.Repeat("長", 300), strings.Repeat("x", 5000), "\u202eevil", "\ufffe\uffff", "5", "a'b'c", ` trailing\`,
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			g := guest(t, name)
			g.Description = name
			g.GuestFullName, g.Source.Path = name, "/dc/vm/"+name
			text, _ := domain(t, g, kvm.Options{})
			validates(t, text)
			got := parse(t, []byte(defines(t, text))).Name
			if got != kvm.DomainName(name) {
				t.Errorf("libvirt calls it %q, DomainName says %q", got, kvm.DomainName(name))
			}
		})
	}
}

func TestTheDomainIsAsTheGoldenFileSays(t *testing.T) {
	t.Parallel()
	bios := kvm.Guest{
		Name: "XX-win2019-x86_64 - Clone", UUID: "564D9A9E-2E6B-1A2C-8F3D-0123456789AB",
		Description: "Ticket 4711\nowner: <ops@example.com>",
		MemoryMiB:   8192, CPUs: 4, CoresPerSocket: 2,
		Disks: []kvm.Disk{
			{Path: "/vm/win-disk-0.qcow2", Format: kvm.QCOW2, Bus: kvm.LSISAS, Unit: 0},
			{Path: "/vm/win-disk-1.qcow2", Format: kvm.QCOW2, Bus: kvm.LSISAS, Unit: 9},
		},
		NICs: []kvm.NIC{
			{MAC: "00:50:56:9A:BC:DE", Model: "vmxnet3", Network: "VM Network"},
			{MAC: "00:50:56:9a:bc:df", Model: "e1000e", Network: "DMZ"},
		},
		GuestID: "windows2019srv_64Guest", GuestFullName: "Microsoft Windows Server 2019 (64-bit)",
		Source: kvm.Source{
			VCenter: "vcenter.example.com", Path: "/data/vm/XX-win2019-x86_64 - Clone",
			Moref: "vm-42", InstanceUUID: "50150e1a-0c2b-4f1e-9f3a-aabbccddeeff",
		},
	}
	uefi := kvm.Guest{
		Name: "db/1", MemoryMiB: 2048, CPUs: 2, Firmware: kvm.UEFI, SecureBoot: true,
		NVRAMPath: "/vm/db_VARS.fd",
		Disks:     []kvm.Disk{{Path: "/vm/db-disk-0.raw", Bus: kvm.PVSCSI}, {Path: "/vm/db-disk-1.raw", Bus: kvm.NVMe}},
		NICs:      []kvm.NIC{{MAC: "00:50:56:00:00:01", Model: "vmxnet3"}},
		GuestID:   "debian12_64Guest",
	}
	for _, test := range []struct {
		file    string
		guest   kvm.Guest
		options kvm.Options
	}{
		{"bios.xml", bios, kvm.Options{NetworkMap: map[string]string{"DMZ": "dmz"}}},
		{"bios-virtio.xml", bios, kvm.Options{Virtio: true, DefaultNetwork: "lan"}},
		{"uefi.xml", uefi, kvm.Options{}},
	} {
		t.Run(test.file, func(t *testing.T) {
			t.Parallel()
			text, notes := domain(t, test.guest, test.options)
			for _, n := range notes {
				text = append(text, fmt.Sprintf("<!-- note: %s -->\n", n)...)
			}
			file := filepath.Join("testdata", test.file)
			if *update {
				if err := os.WriteFile(file, text, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(text)); diff != "" {
				t.Errorf("-want +got (go test ./kvm -update rewrites the file):\n%s", diff)
			}
			validates(t, text)
			defines(t, text)
		})
	}
}

func TestEveryProblemOfAGuestIsNamedAtOnce(t *testing.T) {
	t.Parallel()
	_, _, err := kvm.Domain(kvm.Guest{
		Name: "bad", MemoryMiB: -1, CPUs: 0, SecureBoot: true, NVRAMPath: "relative.fd",
		Disks: []kvm.Disk{{Path: "/ok", Format: "vmdk"}, {Path: "relative"}, {Path: "/a\nb"}},
		NICs:  []kvm.NIC{{Network: "x"}},
	}, kvm.Options{NetworkMap: map[string]string{"x": "a\x00b"}})
	if !errors.Is(err, kvm.ErrInvalidGuest) {
		t.Fatalf("error is %v", err)
	}
	for _, part := range []string{`"bad"`, "-1 MiB", "0 CPUs", "secure boot", `"relative.fd"`, `"vmdk"`, "disk 1", "disk 2", "nic 0"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
	if strings.ContainsAny(err.Error(), "\n\x00") {
		t.Errorf("control characters in %q", err)
	}
}

func TestAMemorySizeThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	for _, mib := range []int64{0, -4, kvm.MaxMemoryMiB + 1, 1 << 62} {
		if _, _, err := kvm.Domain(kvm.Guest{Name: "m", MemoryMiB: mib, CPUs: 1}, kvm.Options{}); !errors.Is(err, kvm.ErrInvalidGuest) {
			t.Errorf("%d MiB: error is %v", mib, err)
		}
	}
}

func TestAWrongUUIDIsLeftOutAndNoted(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"nonsense", "00000000-0000-0000-0000-000000000000"} {
		text, notes := domain(t, kvm.Guest{Name: "u", UUID: id, MemoryMiB: 1, CPUs: 1}, kvm.Options{})
		if got := parse(t, text).UUID; got != "" || !mentions(notes, "uuid", id) {
			t.Errorf("%q gives UUID %q and notes %v", id, got, notes)
		}
	}
}

func TestATopologyThatDoesNotMultiplyBecomesSockets(t *testing.T) {
	t.Parallel()
	for _, g := range []kvm.Guest{
		{CPUs: 6, CoresPerSocket: 4}, {CPUs: 2, CoresPerSocket: 4}, {CPUs: 3, ThreadsPerCore: 2},
		{CPUs: 1, CoresPerSocket: 1 << 40, ThreadsPerCore: 1 << 40},
	} {
		g.Name, g.MemoryMiB = "t", 1
		text, notes := domain(t, g, kvm.Options{})
		top := parse(t, text).CPU.Topology
		if top.Sockets != g.CPUs || top.Cores != 1 || top.Threads != 1 || !mentions(notes, "cpu", "socket") {
			t.Errorf("%+v gives %+v and notes %v", g, top, notes)
		}
	}
}

func FuzzDomain(f *testing.F) {
	f.Add("web %2f prod", "line one\nline two", "/dc/vm/web", "VM Network", "00:50:56:00:00:01", "rhel9_64Guest", 1, 0)
	f.Add("\x00\xff<&>\"'", "]]>\ufffe", "", "", "zz", "", -1, 1<<62)
	f.Add("-", "\r\n\t\x0b", "\xed\xa0\x80", "/", "01:00:5e:00:00:01", "debian64Guest", 7, 7)
	f.Fuzz(func(t *testing.T, name, note, path, network, mac, id string, controller, unit int) {
		g := kvm.Guest{
			Name: name, Description: note, MemoryMiB: 1, CPUs: 1, UUID: mac, GuestID: id, GuestFullName: note,
			Source: kvm.Source{Path: path, VCenter: note, Moref: name},
			NICs:   []kvm.NIC{{MAC: mac, Network: network, Model: network}},
		}
		for i, bus := range []kvm.Bus{kvm.PVSCSI, kvm.LSILogic, kvm.LSISAS, kvm.SATA, kvm.IDE, kvm.IDE, kvm.NVMe, kvm.Bus(mac)} {
			g.Disks = append(g.Disks, kvm.Disk{Path: fmt.Sprint("/d", i), Bus: bus, Controller: controller, Unit: unit})
		}
		text, notes, err := kvm.Domain(g, kvm.Options{})
		if err != nil {
			t.Fatalf("%+v: %v", g, err)
		}
		d := parse(t, text)
		if d.Name != kvm.DomainName(name) || d.Name == "" || len(d.Name) > 200 || strings.ContainsAny(d.Name, "/\n\r\t\x00") {
			t.Errorf("name %q became %q", name, d.Name)
		}
		if again := kvm.DomainName(name); again != d.Name {
			t.Errorf("DomainName(%q) is once %q, once %q", name, d.Name, again)
		}
		if !utf8.Valid(text) {
			t.Error("not UTF-8")
		}
		for _, n := range notes {
			if strings.ContainsAny(n.String(), "\n\r\x00\x1b") {
				t.Errorf("note %q", n)
			}
		}
		wellFormed(t, text)
		uniqueAddresses(t, d)
	})
}

// wellFormed reads every token strictly: nothing that XML forbids may be in there.
func wellFormed(t *testing.T, text []byte) {
	t.Helper()
	dec := xml.NewDecoder(strings.NewReader(string(text)))
	for {
		if _, err := dec.Token(); err != nil {
			if err.Error() != "EOF" {
				t.Fatalf("%v\n%s", err, text)
			}
			return
		}
	}
}

// mentions says whether a note about a device holds a text.
func mentions(notes []kvm.Note, device, text string) bool {
	for _, n := range notes {
		if n.Device == device && strings.Contains(n.Text, text) {
			return true
		}
	}
	return false
}
