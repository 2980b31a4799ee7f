package landing_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/kvm"
	"github.com/hyper2kvm/hyper2kvm/landing"
	"github.com/hyper2kvm/hyper2kvm/landing/libvirttest"
)

// shape is a VM as vSphere has it.
type shape struct {
	change func(*kvm.Guest)
	disks  []kvm.Bus
	nics   []string
	starts bool // it is started too, which takes longer
	grows  bool // CPUs and memory are added while it runs

	options kvm.Options // beside the networks
}

func hotAdd(g *kvm.Guest) {
	g.CPUHotAdd, g.MemoryHotAdd, g.GuestID = true, true, "debian12_64Guest"
	g.CPUs, g.CoresPerSocket, g.MemoryMiB = 4, 2, 64
}

func shapes() map[string]shape {
	uefi := func(g *kvm.Guest) { g.Firmware = kvm.UEFI }
	all := map[string]shape{
		"uefi":         {change: uefi, disks: []kvm.Bus{kvm.PVSCSI, kvm.NVMe, kvm.SATA}, nics: []string{"vmxnet3"}, starts: true},
		"secure boot":  {change: func(g *kvm.Guest) { g.Firmware, g.SecureBoot = kvm.UEFI, true }, disks: []kvm.Bus{kvm.SATA}, starts: true},
		"topology":     {change: func(g *kvm.Guest) { g.CPUs, g.CoresPerSocket = 8, 4 }, disks: []kvm.Bus{kvm.PVSCSI}},
		"many cards":   {disks: []kvm.Bus{kvm.PVSCSI}, nics: []string{"vmxnet3", "e1000", "e1000e", "pcnet", "vmxnet", "sriov", "", "vmxnet3", "vmxnet3", "vmxnet3"}, starts: true},
		"hot-add":      {change: hotAdd, disks: []kvm.Bus{kvm.PVSCSI}, starts: true, grows: true},
		"hot-add uefi": {change: func(g *kvm.Guest) { hotAdd(g); g.Firmware, g.SecureBoot = kvm.UEFI, true }, disks: []kvm.Bus{kvm.SATA}, starts: true},
		"diskless":     {nics: []string{"e1000"}},
		"windows uefi": {change: func(g *kvm.Guest) { g.Firmware, g.GuestID = kvm.UEFI, "windows2022srvNext_64Guest" }, disks: []kvm.Bus{kvm.LSISAS}, nics: []string{"e1000e"}},
	}
	for name, s := range map[string]shape{
		"threads":                    {change: func(g *kvm.Guest) { g.CPUs, g.CoresPerSocket, g.ThreadsPerCore = 8, 2, 2 }, disks: []kvm.Bus{kvm.SATA}},
		"secure boot PVSCSI":         {change: func(g *kvm.Guest) { g.Firmware, g.SecureBoot = kvm.UEFI, true }, disks: []kvm.Bus{kvm.PVSCSI, kvm.PVSCSI}, starts: true},
		"secure boot NVMe":           {change: func(g *kvm.Guest) { g.Firmware, g.SecureBoot = kvm.UEFI, true }, disks: []kvm.Bus{kvm.NVMe, kvm.NVMe}, nics: []string{"vmxnet3"}},
		"uefi 60 disks":              {change: uefi, disks: slices.Repeat([]kvm.Bus{kvm.PVSCSI}, 60), nics: []string{"vmxnet3"}},
		"60 disks started":           {disks: slices.Repeat([]kvm.Bus{kvm.PVSCSI}, 60), nics: []string{"vmxnet3"}, starts: true},
		"60 disks SATA":              {change: uefi, disks: slices.Repeat([]kvm.Bus{kvm.SATA}, 60)},
		"60 disks NVMe":              {disks: slices.Repeat([]kvm.Bus{kvm.NVMe}, 60)},
		"60 disks LSI SAS":           {disks: slices.Repeat([]kvm.Bus{kvm.LSISAS}, 60)},
		"60 disks virtio":            {disks: slices.Repeat([]kvm.Bus{kvm.PVSCSI}, 60), options: kvm.Options{Virtio: true}},
		"60 disks converted":         {disks: slices.Repeat([]kvm.Bus{kvm.PVSCSI}, 60), options: kvm.Options{VirtioBlk: true, VirtioNet: true}, nics: []string{"vmxnet3"}},
		"uefi 60 disks converted":    {change: uefi, disks: slices.Repeat([]kvm.Bus{kvm.PVSCSI}, 60), options: kvm.Options{VirtioBlk: true, VirtioNet: true}, nics: []string{"vmxnet3"}, starts: true},
		"every bus, and every model": {disks: []kvm.Bus{kvm.IDE, kvm.SATA, kvm.LSILogic, kvm.LSISAS, kvm.BusLogic, kvm.PVSCSI, kvm.NVMe}, nics: []string{"vmxnet3", "e1000", "e1000e", "pcnet"}, starts: true},
	} {
		all[name] = s
	}
	for _, bus := range []kvm.Bus{kvm.IDE, kvm.SATA, kvm.LSILogic, kvm.LSISAS, kvm.BusLogic, kvm.PVSCSI, kvm.NVMe} {
		all["bios "+string(bus)] = shape{disks: []kvm.Bus{bus, bus}, nics: []string{"vmxnet3"}, starts: bus == kvm.PVSCSI}
		all["uefi "+string(bus)] = shape{change: uefi, disks: []kvm.Bus{bus, bus}, nics: []string{"e1000"}}
	}
	for _, n := range []int{1, 7, 15, 30, 60} {
		all[fmt.Sprint(n, " disks")] = shape{disks: slices.Repeat([]kvm.Bus{kvm.PVSCSI}, n), nics: []string{"vmxnet3"}}
	}
	return all
}

// Each of them is validated and defined by libvirt; some are started by QEMU, whose
// monitor is asked whether the machine runs.
func keepsShapes(t *testing.T, lv *libvirttest.Server) {
	dir := t.TempDir()
	lv.Network("dvs")
	for name, s := range shapes() {
		g := kvm.Guest{Name: "shape " + name, MemoryMiB: 64, CPUs: 1}
		if s.change != nil {
			s.change(&g)
		}
		plan := landing.Plan{
			Target:   landing.Target{URI: lv.URI(), Define: true, Start: false},
			Networks: []string{"dvs"}, UEFI: g.Firmware == kvm.UEFI, SecureBoot: g.SecureBoot,
		}
		for i, bus := range s.disks {
			path := filepath.Join(dir, fmt.Sprintf("%s-%d.raw", name, i))
			if err := os.WriteFile(path, make([]byte, 512), 0o600); err != nil {
				t.Fatal(err)
			}
			g.Disks = append(g.Disks, kvm.Disk{Path: path, Format: kvm.Raw, Bus: bus, Controller: i / 15, Unit: i % 15})
			plan.Images = append(plan.Images, landing.Image{Path: path})
		}
		for i, model := range s.nics { // of a distributed port group
			g.NICs = append(g.NICs, kvm.NIC{MAC: fmt.Sprintf("00:50:56:01:00:%02x", i), Model: model, Network: "DSwitch/dvPG %2f, VLAN=7"})
		}
		options := s.options
		options.NetworkMap = map[string]string{kvm.AnyNetwork: "dvs"}
		xml, _, err := kvm.Domain(g, options)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		plan.Domain = g.Name
		e := &export{t: t, lv: lv, plan: plan, xml: xml}
		landed, err := e.land()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if n := strings.Count(lv.Virsh("dumpxml", "--inactive", landed.UUID), "<mac address='00:50:56:01:00:"); n != len(s.nics) {
			t.Errorf("%s: %d cards have their addresses, of %d", name, n, len(s.nics))
		}
		if !s.starts {
			continue
		}
		lv.Virsh("start", landed.UUID)
		if said := lv.Virsh("qemu-monitor-command", landed.UUID, `{"execute":"query-status"}`); !strings.Contains(said, `"status":"running"`) {
			t.Errorf("%s: QEMU says %s", name, said)
		}
		if s.grows {
			grows(t, lv, landed.UUID)
		}
		lv.Virsh("destroy", landed.UUID)
	}
}

// grows adds a socket of CPUs and a module of memory to a guest that runs.
func grows(t *testing.T, lv *libvirttest.Server, id string) {
	t.Helper()
	module := filepath.Join(t.TempDir(), "module.xml")
	if err := os.WriteFile(module, []byte(`<memory model="dimm"><target><size unit="MiB">128</size><node>0</node></target></memory>`), 0o600); err != nil {
		t.Fatal(err)
	}
	lv.Virsh("setvcpus", id, "6", "--live")
	lv.Virsh("attach-device", id, module, "--live")
	if xml := lv.Virsh("dumpxml", id); !strings.Contains(xml, "current='6'>16</vcpu>") || !strings.Contains(xml, "<memory model='dimm'") {
		t.Errorf("it has grown to\n%s", xml)
	}
}
