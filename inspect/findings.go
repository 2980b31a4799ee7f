package inspect

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/units"
)

// Finding is something that is in the way of what is to become of a guest, or may be.
type Finding struct {
	Code string // one of the Code constants
	// Conversion says that virt-v2v cannot convert the guest as it is, and Addresses
	// that its addresses cannot be kept by changing its files.
	Conversion, Addresses bool

	Text string // what is the matter, and with what
	Hint string // what to do about it
}

// Codes of a [Finding].
const (
	CodeNoSystem   = "guest-no-system"
	CodeSystems    = "guest-several-systems"
	CodeForeign    = "guest-unknown-system"
	CodeUnreadable = "guest-unreadable"
	CodeEncrypted  = "guest-encrypted"
	CodeDynamic    = "guest-dynamic-disk"
	CodeHibernated = "guest-hibernated"
	CodeUnclean    = "guest-unclean"
	CodeRoom       = "guest-room"
	CodeXFS4       = "guest-xfs4"
	CodeKernel     = "guest-kernel"
	CodeInitramfs  = "guest-initramfs"
	CodeLoader     = "guest-boot-loader"
	CodeNames      = "guest-device-names"
	CodeFirmware   = "guest-firmware"
	CodeNetwork    = "guest-network"
)

// Machine is what is known of a guest's machine.
type Machine struct {
	EFI bool // its firmware is UEFI
}

// What virt-v2v demands of the file systems of a guest, in bytes, and what is little.
const (
	minRoot  = 100 << 20
	minBoot  = 50 << 20
	fewBoot  = 100 << 20
	minOther = 10 << 20
	minFiles = 100
)

const leaveOut = "or leave -convert out: the VM has the hardware that it had then"

// Findings judges what was found. Those that are in the way come first.
func (g *Guest) Findings(m Machine) []Finding {
	var out []Finding
	add := func(f ...Finding) { out = append(out, f...) }
	add(g.which()...)
	add(g.encrypted()...)
	add(g.dynamic()...)
	add(g.volumes()...)
	for i := range g.Systems {
		add(g.Systems[i].findings()...)
	}
	add(g.firmware(m)...)
	weight := func(f Finding) int {
		switch {
		case f.Conversion:
			return 0
		case f.Addresses:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(out, func(a, b Finding) int { return cmp.Compare(weight(a), weight(b)) })
	return out
}

// which judges how many systems there are, and of what kind.
func (g *Guest) which() (out []Finding) {
	switch len(g.Systems) {
	case 0:
		return []Finding{{Code: CodeNoSystem, Conversion: true, Addresses: true,
			Text: "no operating system that libguestfs knows is on the disks",
			Hint: "see whether all disks of the VM are there, and whether they are encrypted; " + leaveOut}}
	case 1:
	default:
		var names []string
		for _, s := range g.Systems {
			names = append(names, s.String())
		}
		out = append(out, Finding{Code: CodeSystems, Conversion: true, Addresses: true,
			Text: "there are several operating systems on the disks, and nobody chooses between them: " + strings.Join(names, "; "),
			Hint: "leave -convert and -keep-ip out"})
	}
	for _, s := range g.Systems {
		if s.Type != "linux" && s.Type != "windows" {
			out = append(out, Finding{Code: CodeForeign, Conversion: true, Addresses: true,
				Text: fmt.Sprintf("%s is neither Linux nor Windows, and virt-v2v converts no other", s),
				Hint: "leave -convert out: the VM has the hardware that it had then"})
		} else if !s.Mounted {
			out = append(out, Finding{Code: CodeUnreadable, Conversion: true, Addresses: true,
				Text: fmt.Sprintf("the file system of %s cannot be mounted", s),
				Hint: "check it in the guest (fsck, xfs_repair, chkdsk), and shut the guest down cleanly; " + leaveOut})
		}
	}
	return out
}

// String names a system for people.
func (s System) String() string {
	name := s.Name
	if name == "" || name[0] >= '0' && name[0] <= '9' { // of a Debian it is a number alone
		name = strings.TrimSpace(cmp.Or(s.Distro, s.Type, "a system") + " " + s.Version)
	}
	return name + " on " + s.Root
}

func (g *Guest) encrypted() []Finding {
	var byLUKS, byBitLocker []string
	for _, v := range g.Volumes {
		switch v.Type {
		case luks:
			byLUKS = append(byLUKS, v.Device)
		case bitLocker:
			byBitLocker = append(byBitLocker, v.Device)
		}
	}
	one := func(devices []string, what, hint string) (out []Finding) {
		if len(devices) == 0 {
			return nil
		}
		f := Finding{Code: CodeEncrypted, Text: fmt.Sprintf("%s encrypted by %s, and cannot be looked into", are(devices), what), Hint: hint}
		if len(g.Systems) == 0 { // it is in there
			f.Conversion, f.Addresses = true, true
		}
		return []Finding{f}
	}
	return append(one(byBitLocker, "BitLocker", "decrypt it in the guest (manage-bde -off C:) before a conversion; keep its recovery key at hand, because the new machine has another TPM"),
		one(byLUKS, "LUKS", "a system inside cannot be converted, and its addresses not be kept; exported without -convert the guest asks for its passphrase as before")...)
}

// are names devices, for a sentence.
func are(devices []string) string {
	if len(devices) == 1 {
		return devices[0] + " is"
	}
	return strings.Join(firstOf(devices, 8), ", ") + " are"
}

func (g *Guest) dynamic() []Finding {
	if !g.LDM {
		return nil
	}
	f := Finding{Code: CodeDynamic, Text: "there are dynamic disks of Windows",
		Hint: "make a dynamic system disk a basic one before a conversion, " + leaveOut}
	switch {
	case len(g.Systems) == 0:
		f.Conversion = true
		f.Text += ", and no system is found beside them"
	case slices.ContainsFunc(g.Systems, func(s System) bool { return strings.HasPrefix(s.Root, "/dev/mapper/ldm_") }):
		f.Conversion = true
		f.Text += ", and the system is on one"
	}
	return []Finding{f}
}

// volumes judges what is known of file systems without a system.
func (g *Guest) volumes() (out []Finding) {
	windows := slices.ContainsFunc(g.Systems, func(s System) bool { return s.Type == "windows" })
	file := slices.ContainsFunc(g.Systems, func(s System) bool { return s.Hiberfil })
	var asleep, unclean, old []string
	for _, v := range g.Volumes {
		switch v.NTFS {
		case Hibernated:
			asleep = append(asleep, v.Device)
		case Unclean:
			unclean = append(unclean, v.Device)
		}
		if v.XFS4 {
			old = append(old, v.Device)
		}
	}
	if len(asleep) > 0 || file {
		where := ""
		if len(asleep) > 0 {
			where = " (" + strings.Join(firstOf(asleep, 8), ", ") + ")"
		}
		out = append(out, Finding{Code: CodeHibernated, Conversion: windows,
			Text: "Windows is hibernated, or was shut down with Fast Startup" + where,
			Hint: "in the guest: powercfg /h off, then shutdown /s /t 0"})
	}
	if len(unclean) > 0 {
		out = append(out, Finding{Code: CodeUnclean,
			Text: fmt.Sprintf("NTFS that was not unmounted, on %s: the guest runs, was powered off, or crashed", strings.Join(firstOf(unclean, 8), ", ")),
			Hint: "start Windows and shut it down (shutdown /s /t 0) before a conversion; -shutdown does so"})
	}
	if len(old) > 0 {
		out = append(out, Finding{Code: CodeXFS4,
			Text: fmt.Sprintf("%s XFS of version 4, which kernels since Linux 6.12 may not read", are(old)),
			Hint: "convert on Debian 12 or RHEL 9, whose kernels read it; the guest's own kernel does"})
	}
	return out
}

// findings judges one system.
func (s *System) findings() []Finding {
	if !s.Mounted {
		return nil
	}
	out := s.room()
	if s.Type == "linux" {
		out = append(out, s.linux()...)
	}
	return out
}

// room judges what the file systems of a system have left.
func (s *System) room() (out []Finding) {
	for _, f := range s.FileSystems {
		need, few := int64(minOther), int64(0)
		switch f.Mount {
		case "/":
			need = minRoot
		case "/boot":
			need, few = minBoot, fewBoot
		}
		name := fmt.Sprintf("%s of %s (%s)", f.Mount, s.Root, f.Type)
		if s.Type == "windows" {
			name = "the system's drive"
		}
		switch {
		case f.Size == 0 || readOnly(f):
		case f.Free < need:
			out = append(out, Finding{Code: CodeRoom, Conversion: true,
				Text: fmt.Sprintf("%s has %s free, and a conversion takes %s", name, units.Bytes(f.Free), units.Bytes(need)),
				Hint: "make room in the guest"})
		case f.Free < few:
			out = append(out, Finding{Code: CodeRoom,
				Text: fmt.Sprintf("%s has %s free, which may be too little for another initramfs", name, units.Bytes(f.Free)),
				Hint: "remove old kernels in the guest"})
		case f.Files > 0 && f.FreeFiles < minFiles:
			out = append(out, Finding{Code: CodeRoom, Conversion: true,
				Text: fmt.Sprintf("%s can hold %d more files, and a conversion makes up to %d (inodes)", name, f.FreeFiles, minFiles),
				Hint: "remove files in the guest"})
		}
	}
	return out
}

// readOnly reports whether a file system is one that nobody writes to, and is always full.
func readOnly(f FileSystem) bool {
	return slices.Contains([]string{"iso9660", "udf", "squashfs", "erofs", "cramfs"}, f.Type)
}

// linux judges what a conversion needs of a Linux, and what changes with its hardware.
func (s *System) linux() (out []Finding) {
	if !s.Kernel {
		out = append(out, Finding{Code: CodeKernel, Conversion: true, Text: fmt.Sprintf("no kernel is found in %s", s),
			Hint: "see that its /boot is on one of the disks, and not encrypted"})
	}
	if s.Initramfs == "" {
		out = append(out, Finding{Code: CodeInitramfs, Conversion: true,
			Text: fmt.Sprintf("%s has no program that makes an initramfs (update-initramfs, dracut, mkinitrd)", s),
			Hint: "install it in the guest (Debian: initramfs-tools; RHEL: dracut), " + leaveOut})
	}
	switch {
	case s.Loader == "":
		out = append(out, Finding{Code: CodeLoader, Conversion: true, Text: fmt.Sprintf("no configuration of a boot loader is found in %s", s),
			Hint: "see that its /boot is on one of the disks; virt-v2v knows GRUB only; " + leaveOut})
	case s.Loader == "systemd-boot":
		out = append(out, Finding{Code: CodeLoader, Conversion: true, Text: fmt.Sprintf("%s is booted by systemd-boot, and virt-v2v knows GRUB only", s),
			Hint: "leave -convert out: the VM has the hardware that it had then"})
	case s.Loader == "grub2" && s.LoaderBy == "":
		out = append(out, Finding{Code: CodeLoader, Conversion: true, Text: fmt.Sprintf("%s has GRUB, and no program that makes its configuration (grub2-mkconfig)", s),
			Hint: "install it in the guest (Debian: grub2-common; RHEL: grub2-tools)"})
	}
	if len(s.Names) > 0 {
		out = append(out, Finding{Code: CodeNames,
			Text: "disks go by names that change with the hardware: " + strings.Join(firstOf(s.Names, 8), ", "),
			Hint: "name them by UUID in the guest (blkid tells it), unless -convert is to do so: virt-v2v mends fstab and GRUB, and no more"})
	}
	if len(s.Network) == 0 {
		out = append(out, Finding{Code: CodeNetwork,
			Text: fmt.Sprintf("%s has no settings for its cards in a place that is known: -keep-ip can keep only what Tools report as set by hand", s),
			Hint: "see how it gets its addresses"})
	}
	return out
}

// firmware judges whether the disks can be booted by the machine's firmware.
func (g *Guest) firmware(m Machine) []Finding {
	if len(g.Tables) == 0 || len(g.Systems) == 0 {
		return nil
	}
	efi := slices.ContainsFunc(g.Tables, func(t Table) bool { return t.EFI })
	bios := slices.ContainsFunc(g.Tables, func(t Table) bool { return t.BIOS })
	switch {
	case m.EFI && !efi:
		return []Finding{{Code: CodeFirmware, Text: "the VM has UEFI, and none of its disks has an EFI system partition",
			Hint: "see how it boots at vSphere; a guest that was installed with BIOS needs a VM with BIOS"}}
	case !m.EFI && efi && !bios:
		return []Finding{{Code: CodeFirmware, Text: "the VM has BIOS, and its disks are made to be booted by UEFI only: there is an EFI system partition, and none for the boot loader of a BIOS",
			Hint: "see how it boots at vSphere; a guest that was installed with UEFI needs a VM with UEFI"}}
	}
	return nil
}
