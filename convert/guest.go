package convert

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/kit"
	"github.com/hyper2kvm/hyper2kvm/kvm"
	"github.com/hyper2kvm/hyper2kvm/ova"
)

// Resource types of CIM_ResourceAllocationSettingData.
const (
	rasdCPU    = "3"
	rasdMemory = "4"
	rasdIDE    = "5"
	rasdSCSI   = "6"
	rasdNIC    = "10"
	rasdDisk   = "17"
	rasdOther  = "20" // SATA and NVMe, told apart by subtype
)

// items are the VM's devices.
func items(e *ova.Envelope) []ova.Item {
	var out []ova.Item
	for _, hw := range e.Systems[0].Hardware {
		out = slices.Concat(out, hw.Items, hw.Storage, hw.Ethernet)
	}
	for i := range out {
		out[i].Type = strings.TrimSpace(out[i].Type)
	}
	return out
}

// describe writes the libvirt domain of the VM and the landing kits, as far as its
// descriptor says enough, and returns their names; none when it does not.
func (r *run) describe() (written []string, err error) {
	guest := guestOf(r.source)
	for i := range guest.Disks {
		guest.Disks[i].Path, guest.Disks[i].Format = r.work.Final(r.diskName(i)), kvm.Format(r.o.Format)
	}
	m := kit.Machine{Guest: guest, Options: kvm.Options{Virtio: r.o.Virtio, NetworkMap: r.o.NetworkMap}}
	xml, notes, err := kvm.Domain(m.Guest, m.Options)
	if err != nil {
		r.note("there is no libvirt domain, only the disks: %v", err)
		return nil, nil
	}
	for _, n := range notes {
		r.note("libvirt domain, %s", n)
	}
	for i, d := range r.source.disks {
		m.Images = append(m.Images, kit.Image{File: r.diskName(i), Format: kvm.Format(r.o.Format), Capacity: d.capacity})
	}
	files, err := kit.Files(r.kits, r.work.Base(), m)
	if err != nil {
		return nil, err
	}
	for _, f := range append([]kit.File{{Name: r.domainName(), Text: xml}}, files...) {
		for _, n := range f.Notes {
			r.note("landing kit %s, %s", f.Name, n)
		}
		if err := r.work.WriteFile(f.Name, f.Text); err != nil {
			return nil, err
		}
		written = append(written, f.Name)
	}
	return written, nil
}

// guestOf is the hardware that the descriptor describes. Its disks are those of the
// source, in the same order.
func guestOf(s *source) kvm.Guest {
	system := s.envelope.Systems[0]
	g := kvm.Guest{
		Name: s.name, Description: strings.TrimSpace(system.Annotation),
		GuestID:       strings.TrimPrefix(system.OS.Type, "*"),
		GuestFullName: strings.TrimSpace(system.OS.Description),
	}
	for _, hw := range system.Hardware {
		for _, c := range slices.Concat(hw.Config, hw.Extra) {
			switch {
			case c.Key == "firmware" && strings.EqualFold(c.Value, "efi"):
				g.Firmware = kvm.UEFI
			case c.Key == "bootOptions.efiSecureBootEnabled" && strings.EqualFold(c.Value, "true"):
				g.SecureBoot = true
			case c.Key == "cpuHotAddEnabled" && strings.EqualFold(c.Value, "true"):
				g.CPUHotAdd = true
			case c.Key == "memoryHotAddEnabled" && strings.EqualFold(c.Value, "true"):
				g.MemoryHotAdd = true
			}
		}
	}
	g.SecureBoot = g.SecureBoot && g.Firmware == kvm.UEFI
	all := items(s.envelope)
	for _, item := range all {
		switch item.Type {
		case rasdCPU:
			g.CPUs += number(item.Quantity)
			g.CoresPerSocket = number(item.CoresPerSocket)
		case rasdMemory:
			units := item.Units
			if strings.TrimSpace(units) == "" {
				units = "MegaBytes" // as older descriptors leave out
			}
			if size, ok := ova.Bytes(item.Quantity, units); ok {
				g.MemoryMiB += size >> 20
			}
		case rasdNIC:
			g.NICs = append(g.NICs, card(item))
		}
	}
	for _, d := range s.disks {
		g.Disks = append(g.Disks, place(s.envelope, all, d.id))
	}
	return g
}

// number is a small count; 0 when it is none.
func number(s string) int {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil || n < 0 || n > 1<<20 {
		return 0
	}
	return n
}

// card is a network card.
func card(item ova.Item) kvm.NIC {
	n := kvm.NIC{Model: strings.ToLower(strings.TrimSpace(item.SubType)), MAC: strings.TrimSpace(item.Address)}
	if first, _, several := strings.Cut(n.Model, " "); several {
		n.Model = first // "E1000 PCNet32": the first is preferred
	}
	if n.Model == "pcnet32" {
		n.Model = "pcnet"
	}
	if len(n.MAC) == 12 && !strings.ContainsAny(n.MAC, ":-.") { // as VirtualBox writes it
		n.MAC = fmt.Sprintf("%s:%s:%s:%s:%s:%s", n.MAC[:2], n.MAC[2:4], n.MAC[4:6], n.MAC[6:8], n.MAC[8:10], n.MAC[10:])
	}
	if len(item.Connection) > 0 {
		n.Network = strings.TrimSpace(item.Connection[0])
	}
	return n
}

// place is where the VM has a disk: the controller that its device is on.
func place(e *ova.Envelope, all []ova.Item, id string) kvm.Disk {
	for _, item := range all {
		if item.Type != rasdDisk {
			continue
		}
		named := slices.ContainsFunc(item.HostResource, func(r string) bool {
			d, ok := e.Disk(r)
			return ok && d.ID == id
		})
		if !named {
			continue
		}
		d := kvm.Disk{Unit: number(item.AddressOnParent)}
		for _, c := range all {
			if c.InstanceID != "" && strings.TrimSpace(c.InstanceID) == strings.TrimSpace(item.Parent) {
				d.Bus, d.Controller = bus(c), number(c.Address)
			}
		}
		return d
	}
	return kvm.Disk{}
}

// bus is the kind of a controller.
func bus(c ova.Item) kvm.Bus {
	kind := strings.ToLower(strings.TrimSpace(c.SubType))
	switch c.Type {
	case rasdIDE:
		return kvm.IDE
	case rasdSCSI:
		switch kind {
		case "virtualscsi":
			return kvm.PVSCSI
		case "lsilogicsas":
			return kvm.LSISAS
		case "buslogic":
			return kvm.BusLogic
		}
		return kvm.LSILogic
	case rasdOther:
		if strings.Contains(kind, "nvme") {
			return kvm.NVMe
		}
		return kvm.SATA // "AHCI", "vmware.sata.ahci"
	}
	return ""
}
