package kvm

import "libvirt.org/go/libvirtxml"

// manyCPUs is the number of CPUs above which QEMU wants an IOMMU that can address
// them all; the pc board ends there.
const manyCPUs = 255

// q35 says whether the guest gets the q35 board: UEFI guests for Secure Boot's SMM,
// and guests with more CPUs than the pc board has room for.
func (b *builder) q35() bool { return b.guest.Firmware == UEFI || b.guest.CPUs > manyCPUs }

func (b *builder) os() *libvirtxml.DomainOS {
	g := b.guest
	os := &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Arch: "x86_64", Machine: "pc", Type: "hvm"}}
	if b.q35() {
		os.Type.Machine = "q35"
	}
	if g.CPUs > manyCPUs {
		b.note("cpu", "%d CPUs need a QEMU whose q35 board takes them (7.2: 288, 8.1: 1024)", g.CPUs)
	}
	if g.Firmware != UEFI {
		return os
	}
	// libvirt finds the firmware image by what it is asked for. Without Secure Boot
	// only "no keys enrolled" is asked for: it is met by builds without Secure Boot
	// and by those where it sleeps for want of keys, so that every distribution has one.
	os.Firmware = "efi"
	os.FirmwareInfo = &libvirtxml.DomainOSFirmwareInfo{
		Features: []libvirtxml.DomainOSFirmwareFeature{{Name: "enrolled-keys", Enabled: yesNo(g.SecureBoot)}},
	}
	if g.SecureBoot {
		os.FirmwareInfo.Features = append(os.FirmwareInfo.Features,
			libvirtxml.DomainOSFirmwareFeature{Name: "secure-boot", Enabled: "yes"})
		os.Loader = &libvirtxml.DomainLoader{Secure: "yes"}
	}
	if g.NVRAMPath != "" {
		os.NVRam = &libvirtxml.DomainNVRam{NVRam: g.NVRAMPath}
	}
	b.note("firmware", "boot entries start afresh: OVMF cannot read vSphere's NVRAM. A guest without "+
		`\EFI\BOOT\BOOTX64.EFI on its first disk needs its boot file chosen once in the firmware's menu`)
	return os
}

func (b *builder) features() *libvirtxml.DomainFeatureList {
	f := &libvirtxml.DomainFeatureList{
		ACPI: &libvirtxml.DomainFeature{},
		APIC: &libvirtxml.DomainFeatureAPIC{},
	}
	if b.guest.Firmware == UEFI {
		f.SMM = &libvirtxml.DomainFeatureSMM{State: "on"}
	}
	if b.guest.CPUs > manyCPUs {
		f.IOAPIC = &libvirtxml.DomainFeatureIOAPIC{Driver: "qemu"}
	}
	if isWindows(b.guest) && !b.options.Emulate { // Hyper-V's interface is KVM's work
		on := &libvirtxml.DomainFeatureState{State: "on"}
		f.HyperV = &libvirtxml.DomainFeatureHyperV{
			Relaxed: on,
			VAPIC:   on,
			Spinlocks: &libvirtxml.DomainFeatureHyperVSpinlocks{
				DomainFeatureState: *on, Retries: 8191,
			},
		}
	}
	return f
}

// cpu gives the guest the host's CPU, in the form that can still migrate, and the
// topology it had, with empty sockets where CPUs can be added.
func (b *builder) cpu() *libvirtxml.DomainCPU {
	g := b.guest
	cores, threads := max(g.CoresPerSocket, 1), max(g.ThreadsPerCore, 1)
	sockets := g.CPUs / cores / threads // not cores*threads, which may overflow
	if sockets == 0 || g.CPUs%cores != 0 || g.CPUs/cores%threads != 0 {
		b.note("cpu", "%d CPUs cannot be split into sockets of %d cores with %d threads; each CPU is a socket now",
			g.CPUs, cores, threads)
		sockets, cores, threads = g.CPUs, 1, 1
	}
	sockets = b.socketsWithRoom(sockets, cores, threads)
	return &libvirtxml.DomainCPU{
		Mode:     "host-model",
		Topology: &libvirtxml.DomainCPUTopology{Sockets: sockets, Cores: cores, Threads: threads},
	}
}

// vcpu is as many CPUs as the topology has, of which those beyond the guest's are empty
// sockets.
func (b *builder) vcpu(t *libvirtxml.DomainCPUTopology) *libvirtxml.DomainVCPU {
	v := &libvirtxml.DomainVCPU{Placement: "static", Value: uint(t.Sockets * t.Cores * t.Threads)}
	if v.Value > uint(b.guest.CPUs) {
		v.Current = uint(b.guest.CPUs)
	}
	return v
}

func (b *builder) clock() *libvirtxml.DomainClock {
	clock := &libvirtxml.DomainClock{Offset: "utc", Timer: []libvirtxml.DomainTimer{
		{Name: "rtc", TickPolicy: "catchup"},
		{Name: "pit", TickPolicy: "delay"},
		{Name: "hpet", Present: "no"},
	}}
	if isWindows(b.guest) {
		clock.Offset = "localtime"
		if !b.options.Emulate {
			clock.Timer = append(clock.Timer, libvirtxml.DomainTimer{Name: "hypervclock", Present: "yes"})
		}
	}
	return clock
}

func (b *builder) devices() *libvirtxml.DomainDeviceList {
	var l layout
	disks, controllers := l.disks(b.guest, b.options)
	cards, notes := nics(b.guest, b.options)
	b.notes = append(append(b.notes, l.notes...), notes...)

	usb := "piix3-uhci" // part of the pc board
	if b.q35() {
		usb = "qemu-xhci"
	}
	controllers = append(controllers, libvirtxml.DomainController{Type: "usb", Index: ptr(0), Model: usb})
	d := &libvirtxml.DomainDeviceList{
		Disks:       disks,
		Controllers: controllers,
		Interfaces:  cards,
		Serials: []libvirtxml.DomainSerial{{
			Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
			Target: &libvirtxml.DomainSerialTarget{Type: "isa-serial", Port: ptr(0)},
		}},
		Consoles: []libvirtxml.DomainConsole{{
			Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
			Target: &libvirtxml.DomainConsoleTarget{Type: "serial", Port: ptr(0)},
		}},
		Channels: []libvirtxml.DomainChannel{{
			Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{}},
			Target: &libvirtxml.DomainChannelTarget{
				VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: "org.qemu.guest_agent.0"},
			},
		}},
		Inputs: []libvirtxml.DomainInput{{Type: "tablet", Bus: "usb"}},
		Graphics: []libvirtxml.DomainGraphic{{VNC: &libvirtxml.DomainGraphicVNC{
			Port: -1, AutoPort: "yes", Listen: "127.0.0.1",
		}}},
		Videos:     []libvirtxml.DomainVideo{{Model: libvirtxml.DomainVideoModel{Type: "vga"}}},
		MemBalloon: &libvirtxml.DomainMemBalloon{Model: "virtio"},
	}
	if b.guest.CPUs > manyCPUs {
		d.IOMMUs = []libvirtxml.DomainIOMMU{{
			Model:  "intel",
			Driver: &libvirtxml.DomainIOMMUDriver{IntRemap: "on", EIM: "on"},
		}}
	}
	return d
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
