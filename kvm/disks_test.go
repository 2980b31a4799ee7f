package kvm_test

import (
	"fmt"
	"testing"

	"libvirt.org/go/libvirtxml"

	"github.com/hyper2kvm/hyper2kvm/kvm"
)

// where says where a domain has its disks, as "bus/model controller:bus:target:unit name".
func where(d *libvirtxml.Domain) []string {
	models := map[string]string{}
	for _, c := range d.Devices.Controllers {
		models[fmt.Sprint(c.Type, *c.Index)] = c.Model
	}
	var places []string
	for _, disk := range d.Devices.Disks {
		if disk.Target.Bus == "virtio" {
			continue // libvirt finds its address
		}
		a := disk.Address.Drive
		model := models[fmt.Sprint(disk.Target.Bus, *a.Controller)]
		places = append(places, fmt.Sprintf("%s/%s %d:%d:%d:%d %s", disk.Target.Bus, model, *a.Controller, *a.Bus, *a.Target, *a.Unit, disk.Target.Dev))
	}
	return places
}

// uniqueAddresses fails the test when two disks share a place or a name.
func uniqueAddresses(t *testing.T, d *libvirtxml.Domain) {
	t.Helper()
	seen := map[string]bool{}
	for _, disk := range d.Devices.Disks {
		a := disk.Address.Drive
		for _, key := range []string{
			fmt.Sprint(disk.Target.Bus, *a.Controller, *a.Bus, *a.Target, *a.Unit), disk.Target.Dev,
		} {
			if seen[key] {
				t.Errorf("%s is taken twice", key)
			}
			seen[key] = true
		}
	}
}

func TestDisksStayWhereTheyWere(t *testing.T) {
	t.Parallel()
	type disk = kvm.Disk
	for _, test := range []struct {
		name     string
		firmware kvm.Firmware
		options  kvm.Options
		disks    []disk
		want     []string
		notes    int // about disks
	}{
		{
			name:  "pvscsi keeps its units as targets",
			disks: []disk{{Bus: kvm.PVSCSI, Unit: 0}, {Bus: kvm.PVSCSI, Unit: 3}, {Bus: kvm.PVSCSI, Unit: 15}},
			want:  []string{"scsi/vmpvscsi 0:0:0:0 sda", "scsi/vmpvscsi 0:0:3:0 sdb", "scsi/vmpvscsi 0:0:15:0 sdc"},
		},
		{
			name:  "each controller of the source is one, without gaps in the numbers",
			disks: []disk{{Bus: kvm.PVSCSI, Controller: 0}, {Bus: kvm.LSISAS, Controller: 2}, {Bus: kvm.PVSCSI, Controller: 3}},
			want:  []string{"scsi/vmpvscsi 0:0:0:0 sda", "scsi/lsisas1068 1:0:0:0 sdb", "scsi/vmpvscsi 2:0:0:0 sdc"},
		},
		{
			name:  "names follow the controllers, not the boot order",
			disks: []disk{{Bus: kvm.PVSCSI, Controller: 1}, {Bus: kvm.PVSCSI, Controller: 0}},
			want:  []string{"scsi/vmpvscsi 1:0:0:0 sdb", "scsi/vmpvscsi 0:0:0:0 sda"},
		},
		{
			name:  "a unit that the adapter does not have goes to the first free one",
			disks: []disk{{Bus: kvm.LSISAS, Unit: 0}, {Bus: kvm.LSISAS, Unit: 8}},
			want:  []string{"scsi/lsisas1068 0:0:0:0 sda", "scsi/lsisas1068 0:0:1:0 sdb"},
			notes: 1,
		},
		{
			name:  "two disks that claim one place get two",
			disks: []disk{{Bus: kvm.SATA, Unit: 1}, {Bus: kvm.SATA, Unit: 1}},
			want:  []string{"sata/ 0:0:0:1 sda", "sata/ 0:0:0:0 sdb"},
			notes: 1,
		},
		{
			name:  "a parallel SCSI disk gets QEMU's adapter, and a note",
			disks: []disk{{Bus: kvm.LSILogic, Unit: 2}, {Bus: kvm.BusLogic, Controller: 1}},
			want:  []string{"scsi/lsilogic 0:0:0:2 sda", "scsi/lsilogic 1:0:0:0 sdb"},
			notes: 2,
		},
		{
			name: "OVMF boots from SATA where a guest booted from SCSI, the other disks stay", firmware: kvm.UEFI,
			disks: []disk{{Bus: kvm.PVSCSI}, {Bus: kvm.PVSCSI, Unit: 1}, {Bus: kvm.LSISAS, Controller: 1}},
			want:  []string{"sata/ 0:0:0:0 sda", "scsi/vmpvscsi 0:0:1:0 sdb", "scsi/lsisas1068 1:0:0:0 sdc"},
			notes: 1,
		},
		{
			name: "OVMF boots from virtio", firmware: kvm.UEFI, options: kvm.Options{Virtio: true},
			disks: []disk{{Bus: kvm.PVSCSI}},
			want:  []string{"scsi/virtio-scsi 0:0:0:0 sda"},
		},
		{
			name:  "IDE has two channels of two, the rest goes to SATA",
			disks: []disk{{Bus: kvm.IDE}, {Bus: kvm.IDE, Controller: 1, Unit: 1}, {Bus: kvm.IDE, Controller: 1, Unit: 1}, {Bus: kvm.IDE, Controller: 2}},
			want:  []string{"ide/ 0:0:0:0 hda", "ide/ 0:1:0:1 hdb", "sata/ 0:0:0:1 sda", "sata/ 1:0:0:0 sdb"},
			notes: 2,
		},
		{
			name: "q35 has no IDE", firmware: kvm.UEFI,
			disks: []disk{{Bus: kvm.IDE}},
			want:  []string{"sata/ 0:0:0:0 sda"},
			notes: 1,
		},
		{
			name:  "NVMe and what is not known go to SATA",
			disks: []disk{{Bus: kvm.NVMe}, {Bus: "floppy"}, {}},
			want:  []string{"sata/ 0:0:0:0 sda", "sata/ 1:0:0:0 sdb", "sata/ 2:0:0:0 sdc"},
			notes: 3,
		},
		{
			name: "virtio takes them all in their order", options: kvm.Options{Virtio: true},
			disks: []disk{{Bus: kvm.NVMe}, {Bus: kvm.LSILogic}, {Bus: kvm.IDE, Controller: 5}},
			want:  []string{"scsi/virtio-scsi 0:0:2:0 sdc", "scsi/virtio-scsi 0:0:1:0 sdb", "scsi/virtio-scsi 0:0:0:0 sda"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := kvm.Guest{Name: "d", MemoryMiB: 1, CPUs: 1, Firmware: test.firmware, Disks: test.disks}
			for i := range g.Disks {
				g.Disks[i].Path = fmt.Sprint("/d", i)
			}
			text, notes := domain(t, g, test.options)
			d := parse(t, text)
			if got := where(d); fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("disks are at\n%q, want\n%q", got, test.want)
			}
			count := 0
			for _, n := range notes {
				if n.Device != "firmware" {
					count++
				}
			}
			if count != test.notes {
				t.Errorf("%d notes, want %d: %v", count, test.notes, notes)
			}
			uniqueAddresses(t, d)
		})
	}
}

func TestTheFirstDiskIsTheFirstToBoot(t *testing.T) {
	t.Parallel()
	text, _ := domain(t, guest(t, "boot", kvm.SATA, kvm.PVSCSI, kvm.IDE), kvm.Options{})
	for i, disk := range parse(t, text).Devices.Disks {
		if disk.Boot == nil || disk.Boot.Order != uint(i+1) {
			t.Errorf("disk %d has boot order %+v", i, disk.Boot)
		}
	}
}

func TestAFullControllerGetsAnotherBesideIt(t *testing.T) {
	t.Parallel()
	g := kvm.Guest{Name: "full", MemoryMiB: 1, CPUs: 1}
	for i := range 30 {
		g.Disks = append(g.Disks, kvm.Disk{Path: fmt.Sprint("/d", i), Bus: kvm.SATA, Unit: i})
	}
	text, _ := domain(t, g, kvm.Options{})
	d := parse(t, text)
	uniqueAddresses(t, d)
	if got := where(d)[29]; got != "sata/ 4:0:0:5 sdad" {
		t.Errorf("the thirtieth disk is at %q", got)
	}
}
