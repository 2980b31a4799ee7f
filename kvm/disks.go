package kvm

import (
	"cmp"
	"fmt"
	"slices"

	"libvirt.org/go/libvirtxml"
)

// kind is one kind of disk controller that libvirt and QEMU have.
type kind struct {
	bus   string // the disk's bus in the XML; also the controller's type
	model string // the controller's model, empty where the bus says it all
	units int    // disks that one controller takes
	dev   string // prefix of the target's name
}

// The kinds in use. How many disks a controller takes is QEMU's limit for its model.
var (
	kindVirtioSCSI = kind{bus: "scsi", model: "virtio-scsi", units: 256, dev: "sd"}
	kindPVSCSI     = kind{bus: "scsi", model: "vmpvscsi", units: 64, dev: "sd"}
	kindLSILogic   = kind{bus: "scsi", model: "lsilogic", units: 7, dev: "sd"}
	kindLSISAS     = kind{bus: "scsi", model: "lsisas1068", units: 8, dev: "sd"}
	kindVirtioBlk  = kind{bus: "virtio", units: 1, dev: "vd"}
	kindSATA       = kind{bus: "sata", units: 6, dev: "sd"}
	kindIDE        = kind{bus: "ide", units: 4, dev: "hd"}
)

// address is where unit n of the controller with this index is found, in the terms
// of QEMU's models: LSI parallel SCSI counts units, the other SCSI adapters count
// targets with one unit each, IDE has two channels of two, SATA counts ports. A disk of
// virtio-blk has none.
func (k kind) address(index, n int) *libvirtxml.DomainAddress {
	if k == kindVirtioBlk {
		return nil // a PCI device of its own, for which libvirt finds a slot
	}
	bus, target, unit := 0, 0, n
	switch k {
	case kindIDE:
		bus, unit = n/2, n%2
	case kindVirtioSCSI, kindPVSCSI, kindLSISAS:
		target, unit = n, 0
	}
	return &libvirtxml.DomainAddress{Drive: &libvirtxml.DomainAddressDrive{
		Controller: ptr(index), Bus: ptr(bus), Target: ptr(target), Unit: ptr(unit),
	}}
}

// choose gives the kind of controller for disk i of g, and a text when it is not the
// equal of what the guest had.
func choose(g Guest, i int, o Options) (kind, string) {
	switch {
	case o.VirtioBlk:
		return kindVirtioBlk, ""
	case o.Virtio:
		return kindVirtioSCSI, ""
	}
	b := g.Disks[i].Bus
	if i == 0 && g.Firmware == UEFI && family(b) == familySCSI {
		return kindSATA, bootFromSATA
	}
	switch b {
	case PVSCSI:
		return kindPVSCSI, ""
	case LSISAS:
		return kindLSISAS, ""
	case LSILogic:
		return kindLSILogic, fmt.Sprintf(parallelSCSI, "LSI Logic parallel SCSI")
	case BusLogic:
		return kindLSILogic, fmt.Sprintf(parallelSCSI, "BusLogic SCSI")
	case SATA:
		return kindSATA, ""
	case NVMe:
		return kindSATA, "was on NVMe, which libvirt offers only for whole host devices; it is on SATA now. The guest needs an AHCI driver at boot; if it has virtio drivers, choose virtio"
	case IDE:
		if g.Firmware == UEFI {
			return kindSATA, "was on IDE, which the q35 board of UEFI guests does not have; it is on SATA now"
		}
		return kindIDE, ""
	case "":
		return kindSATA, "its controller is not known; it is on SATA now"
	}
	return kindSATA, fmt.Sprintf("its controller %q is not known; it is on SATA now", cleanLine(string(b), 40))
}

const (
	// Distributions build OVMF without drivers for PVSCSI and the LSI adapters
	// (PVSCSI_ENABLE, MPT_SCSI_ENABLE and LSI_SCSI_ENABLE of OvmfPkg are off), so a
	// boot disk there is not even seen. SeaBIOS boots from all of them.
	bootFromSATA = "the boot disk was on SCSI, which most builds of OVMF cannot read; it is on SATA now. The guest needs an AHCI driver at boot; if it has virtio drivers, choose virtio"

	// QEMU's lsilogic is a 53C895A, VMware's a 53C1030 (Linux driver mptspi).
	parallelSCSI = "was on %s; QEMU's nearest adapter is another chip, the LSI 53C895A. The guest needs that driver (Linux: sym53c8xx) at boot; if it has virtio drivers, choose virtio"
)

// slot is the place of one disk.
type slot struct {
	ctl  *controller
	unit int
}

// controller is one controller of the domain that is being laid out.
type controller struct {
	kind  kind
	group group
	index int // among controllers of the same bus
	used  map[int]bool
}

// group is one controller of the source.
type group struct {
	kind kind
	bus  Bus
	n    int
}

// layout places disks on controllers.
type layout struct {
	controllers []*controller
	notes       []Note
}

// place gives every disk of g its slot, in the order of g.Disks, and a name such as
// "sda", which follows the order of the controllers and units.
func (l *layout) place(g Guest, o Options) (slots []slot, devs []string) {
	slots, devs = make([]slot, len(g.Disks)), make([]string, len(g.Disks))
	order := make([]int, len(g.Disks))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := g.Disks[a], g.Disks[b]
		return cmp.Or(cmp.Compare(family(x.Bus), family(y.Bus)),
			cmp.Compare(x.Controller, y.Controller), cmp.Compare(x.Unit, y.Unit))
	})
	count := map[string]int{}
	for _, i := range order {
		d := g.Disks[i]
		k, why := choose(g, i, o)
		if k == kindIDE && !l.ideFree(d) {
			k, why = kindSATA, "its place on IDE does not exist or is taken; it is on SATA now"
		}
		if why != "" {
			l.note(i, why)
		}
		slots[i] = l.slot(i, d, k, o.Virtio || o.VirtioBlk)
		devs[i] = devName(k.dev, count[k.dev])
		count[k.dev]++
	}
	return slots, devs
}

// The families of buses: vSphere numbers the controllers of each on their own, and
// all SCSI controllers together.
const (
	familyIDE = iota
	familySCSI
	familySATA
	familyNVMe
	familyOther
)

func family(b Bus) int {
	switch b {
	case IDE:
		return familyIDE
	case PVSCSI, LSILogic, LSISAS, BusLogic:
		return familySCSI
	case SATA:
		return familySATA
	case NVMe:
		return familyNVMe
	}
	return familyOther
}

// slot takes a place for disk i on the controller that stands for the one it was on,
// at the unit it had if there is such a unit, else at the first free one. A full
// controller gets a further one beside it.
func (l *layout) slot(i int, d Disk, k kind, virtio bool) slot {
	grp, want := group{kind: k, bus: d.Bus, n: d.Controller}, d.Unit
	switch {
	case virtio:
		grp, want = group{kind: k}, -1
	case k == kindIDE:
		grp, want = group{kind: k}, d.Controller*2+d.Unit
	}
	var ctl *controller
	for _, c := range l.controllers {
		if c.group == grp && len(c.used) < k.units {
			ctl = c
			break
		}
	}
	if ctl == nil {
		ctl = l.add(grp)
	}
	unit := want
	if unit < 0 || unit >= k.units || ctl.used[unit] {
		for unit = 0; ctl.used[unit]; unit++ {
		}
		if want >= 0 {
			l.note(i, fmt.Sprintf("was unit %d of controller %d, which is taken or does not exist on %s; it is unit %d of controller %d now",
				want, d.Controller, cmp.Or(k.model, k.bus), unit, ctl.index))
		}
	}
	ctl.used[unit] = true
	return slot{ctl: ctl, unit: unit}
}

// ideFree says whether a disk's place is one of the four that IDE has, and free.
func (l *layout) ideFree(d Disk) bool {
	if d.Controller < 0 || d.Controller > 1 || d.Unit < 0 || d.Unit > 1 {
		return false
	}
	for _, c := range l.controllers {
		if c.kind == kindIDE {
			return !c.used[d.Controller*2+d.Unit]
		}
	}
	return true
}

// add makes a controller. libvirt fills gaps in the numbers with controllers of its
// own choice, so there are none.
func (l *layout) add(grp group) *controller {
	c := &controller{kind: grp.kind, group: grp, used: map[int]bool{}}
	for _, other := range l.controllers {
		if other.kind.bus == c.kind.bus {
			c.index++
		}
	}
	l.controllers = append(l.controllers, c)
	return c
}

func (l *layout) note(disk int, text string) {
	l.notes = append(l.notes, Note{Device: fmt.Sprintf("disk %d", disk), Text: text})
}

// devName is the n-th name of block devices with a prefix: sda … sdz, sdaa, …
func devName(prefix string, n int) string {
	var letters []byte
	for n++; n > 0; n = (n - 1) / 26 {
		letters = append(letters, byte('a'+(n-1)%26))
	}
	slices.Reverse(letters)
	return prefix + string(letters)
}

// disks returns the domain's disks and their controllers.
func (l *layout) disks(g Guest, o Options) ([]libvirtxml.DomainDisk, []libvirtxml.DomainController) {
	slots, devs := l.place(g, o)
	disks := make([]libvirtxml.DomainDisk, len(g.Disks))
	for i, d := range g.Disks {
		s := slots[i]
		disks[i] = libvirtxml.DomainDisk{
			Device: "disk",
			// cache=none: no second copy in the host's page cache, and a flush
			// of the guest reaches the disk. The images are sparse, where
			// io=native would block on allocation, so io stays at threads.
			// discard=unmap: what the guest frees becomes a hole again.
			Driver: &libvirtxml.DomainDiskDriver{
				Name: "qemu", Type: string(cmp.Or(d.Format, Raw)), Cache: "none", Discard: "unmap",
			},
			Source:  &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: d.Path}},
			Target:  &libvirtxml.DomainDiskTarget{Dev: devs[i], Bus: s.ctl.kind.bus},
			Boot:    &libvirtxml.DomainDeviceBoot{Order: uint(i + 1)},
			Address: s.ctl.kind.address(s.ctl.index, s.unit),
		}
	}
	var controllers []libvirtxml.DomainController
	for _, c := range l.controllers {
		if c.kind != kindVirtioBlk {
			controllers = append(controllers, libvirtxml.DomainController{Type: c.kind.bus, Index: ptr(c.index), Model: c.kind.model})
		}
	}
	return disks, controllers
}

// ptr converts a small count to what libvirtxml wants.
func ptr(n int) *uint { u := uint(n); return &u }
