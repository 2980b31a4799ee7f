package inspect

import (
	"bufio"
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Guest is what there is on the disks of a guest.
type Guest struct {
	Systems []System `json:"systems"` // that were found; never null
	Volumes []Volume `json:"volumes"` // never null
	Tables  []Table  `json:"tables"`  // partition tables, one for each disk that has one; never null
	LDM     bool     `json:"ldm"`     // there are dynamic disks of Windows
}

// Volume is a file system, or what is in its place.
type Volume struct {
	Device string `json:"device"` // as libguestfs names it: /dev/sda is the first disk
	Type   string `json:"type"`   // as blkid names it: "ext4", "ntfs", "crypto_LUKS", "BitLocker", "unknown"
	XFS4   bool   `json:"xfs4,omitempty"`
	// NTFS is what ntfs-3g.probe says of it: "", "hibernated", or "unclean".
	NTFS string `json:"ntfs,omitempty"`
}

// States of [Volume.NTFS].
const (
	Hibernated = "hibernated"
	Unclean    = "unclean"
)

// Table is a partition table.
type Table struct {
	Device string `json:"device"`
	Type   string `json:"type"`           // "gpt" or "msdos"
	EFI    bool   `json:"efi,omitempty"`  // there is an EFI system partition
	BIOS   bool   `json:"bios,omitempty"` // a partition for the boot loader of a BIOS; always so on "msdos" with one to boot
}

// System is an operating system.
type System struct {
	Root    string `json:"root"`             // device of its root file system, or of its C:
	Type    string `json:"type"`             // "linux", "windows", or another that libguestfs knows
	Distro  string `json:"distro,omitempty"` // "debian", "rhel"
	Name    string `json:"name,omitempty"`   // for people
	Version string `json:"version,omitempty"`
	Arch    string `json:"arch,omitempty"`

	FileSystems []FileSystem `json:"file_systems"` // that are mounted in it; never null
	Mounted     bool         `json:"mounted"`      // its root file system could be; without, nothing below is known

	Network   []string `json:"network,omitempty"` // the programs that have settings for cards: "netplan", "ifupdown"
	Kernel    bool     `json:"kernel,omitempty"`
	Initramfs string   `json:"initramfs,omitempty"` // the program that makes it: "dracut"
	Loader    string   `json:"loader,omitempty"`    // boot loader: "grub2", "grub", "systemd-boot"
	LoaderBy  string   `json:"loader_by,omitempty"` // the program that makes its configuration
	// Names are devices by names that other hardware changes, with where they stand:
	// "/dev/sda2 in /etc/fstab".
	Names []string `json:"names,omitempty"`
	// Hiberfil says that there is a hibernated Windows in hiberfil.sys.
	Hiberfil bool `json:"hiberfil,omitempty"`
}

// FileSystem is a file system of a system.
type FileSystem struct {
	Device string `json:"device"`
	Mount  string `json:"mount"`
	Type   string `json:"type"`
	Size   int64  `json:"size"` // bytes
	Free   int64  `json:"free"` // bytes
	Files  int64  `json:"files"`
	// FreeFiles is how many files can still be made, where Files, how many there can
	// be, is not 0.
	FreeFiles int64 `json:"free_files"`
}

// Bounds of what is looked at.
const (
	maxVolumes = 256
	maxDisks   = 128
	maxParts   = 128
	maxSystems = 8
	maxMounts  = 64
)

// scan asks for everything.
func scan(t *talk) Guest {
	g := Guest{Systems: []System{}, Volumes: []Volume{}, Tables: []Table{}}
	t.must("run")
	for _, line := range firstOf(t.lines("list-filesystems"), maxVolumes) {
		if device, kind, ok := strings.Cut(line, ": "); ok {
			g.Volumes = append(g.Volumes, t.volume(device, kind))
		}
	}
	disks := firstOf(t.lines("list-devices"), maxDisks)
	for _, device := range disks {
		t.table(device, &g)
	}
	t.containers(disks, &g)
	for _, root := range firstOf(t.lines("inspect-os"), maxSystems) {
		g.Systems = append(g.Systems, t.system(root, &g))
	}
	t.must("ping-daemon") // else the appliance has died in between
	return g
}

func firstOf[T any](list []T, n int) []T { return list[:min(len(list), n)] }

// volume looks at a volume that is not mounted.
func (t *talk) volume(device, kind string) Volume {
	v := Volume{Device: shown(device), Type: shown(kind)}
	switch kind {
	case "xfs":
		// sb_versionnum, whose low four bits are the version.
		version := strings.Fields(t.ask("pread-device", word(device), 2, 100, "| od -An -tx1"))
		v.XFS4 = len(version) == 2 && strings.HasSuffix(version[1], "4")
	case "ntfs":
		switch t.line("ntfs-3g-probe", true, word(device)) {
		case "14":
			v.NTFS = Hibernated
		case "15":
			v.NTFS = Unclean
		}
	}
	return v
}

// containers looks for encrypted volumes, which libguestfs does not list among file
// systems.
func (t *talk) containers(disks []string, g *Guest) {
	places := slices.Concat(t.lines("list-partitions"), disks, t.lines("list-md-devices"), t.lines("lvs"))
	for _, device := range firstOf(places, 2*maxVolumes) {
		listed := slices.IndexFunc(g.Volumes, func(v Volume) bool { return v.Device == shown(device) })
		if listed >= 0 && g.Volumes[listed].Type != "unknown" {
			continue
		}
		kind := t.line("vfs-type", word(device))
		if kind != luks && t.line("pread-device", word(device), len(fve), 3) == fve {
			kind = bitLocker // which not every blkid knows
		}
		switch {
		case kind != luks && kind != bitLocker:
		case listed >= 0:
			g.Volumes[listed].Type = kind
		case len(g.Volumes) < 2*maxVolumes:
			g.Volumes = append(g.Volumes, Volume{Device: shown(device), Type: kind})
		}
	}
}

// Encrypted volumes, as blkid names them, and what a volume of BitLocker has at byte 3.
const (
	luks      = "crypto_LUKS"
	bitLocker = "BitLocker"
	fve       = "-FVE-FS-"
)

// Types of partitions.
const (
	gptEFI     = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	gptBIOS    = "21686148-6449-6E6F-744E-656564454649"
	gptLDMData = "AF9B60A0-1431-4F62-BC68-3311714A69AD"
	gptLDMMeta = "5808C8AA-7E8F-42E0-85D2-E1E90434CFB3"
	mbrLDM     = "0x42"
	mbrEFI     = "0xef"
)

// table looks at the partition table of a disk.
func (t *talk) table(device string, g *Guest) {
	table := Table{Device: shown(device), Type: t.line("part-get-parttype", word(device))}
	if table.Type != "gpt" && table.Type != "msdos" {
		return
	}
	for _, line := range t.lines("part-list", word(device)) {
		number, found := strings.CutPrefix(strings.TrimSpace(line), "part_num: ")
		n, err := strconv.Atoi(number)
		if !found || err != nil || n < 1 || n > maxParts {
			continue
		}
		if table.Type == "gpt" {
			switch strings.ToUpper(t.line("part-get-gpt-type", word(device), n)) {
			case gptEFI:
				table.EFI = true
			case gptBIOS:
				table.BIOS = true
			case gptLDMData, gptLDMMeta:
				g.LDM = true
			}
			continue
		}
		switch t.line("part-get-mbr-id", word(device), n) {
		case mbrLDM:
			g.LDM = true
		case mbrEFI:
			table.EFI = true
		default:
			table.BIOS = true
		}
	}
	g.Tables = append(g.Tables, table)
}

// system looks at a system, whose file systems it mounts.
func (t *talk) system(root string, g *Guest) System {
	get := func(what string) string {
		if text := t.line("inspect-get-"+what, word(root)); text != "unknown" {
			return text
		}
		return ""
	}
	s := System{Root: shown(root), Type: get("type"), Distro: get("distro"), Name: get("product-name"), Arch: get("arch"), FileSystems: []FileSystem{}}
	if major := get("major-version"); major != "" && major != "0" {
		s.Version = major + "." + cmp.Or(get("minor-version"), "0")
	}
	t.mount(root)
	t.room(&s, g)
	s.Mounted = slices.ContainsFunc(s.FileSystems, func(f FileSystem) bool { return f.Mount == "/" })
	if s.Mounted {
		switch s.Type {
		case "linux":
			t.linux(&s)
		case "windows":
			t.windows(&s)
		}
	}
	t.ask("umount-all")
	return s
}

// mount mounts the file systems of a system, those that others are in first.
func (t *talk) mount(root string) {
	type place struct{ at, device string }
	var places []place
	for _, line := range t.lines("inspect-get-mountpoints", word(root)) {
		if at, device, ok := strings.Cut(line, ": "); ok {
			places = append(places, place{at, device})
		}
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Compare(len(a.at), len(b.at)) })
	for _, p := range firstOf(places, maxMounts) {
		t.ask("mount-ro", word(p.device), word(p.at))
	}
}

// room notes which file systems are mounted, and their room.
func (t *talk) room(s *System, g *Guest) {
	for _, line := range firstOf(t.lines("mountpoints"), maxMounts) {
		device, at, ok := strings.Cut(line, ": ")
		if !ok {
			continue
		}
		f := FileSystem{Device: shown(device), Mount: shown(at)}
		for _, v := range g.Volumes {
			if v.Device == f.Device {
				f.Type = v.Type
			}
		}
		stat := numbers(t.ask("statvfs", word(at)))
		unit := cmp.Or(stat["frsize"], stat["bsize"])
		f.Size, f.Free, f.Files, f.FreeFiles = times(stat["blocks"], unit), times(stat["bavail"], unit), stat["files"], stat["favail"]
		s.FileSystems = append(s.FileSystems, f)
	}
}

// times is a*b, 0 when that is no size.
func times(a, b int64) int64 {
	if a <= 0 || b <= 0 || a > (1<<62)/b {
		return 0
	}
	return a * b
}

// numbers reads lines of the form "name: number".
func numbers(text string) map[string]int64 {
	out := map[string]int64{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		name, number, _ := strings.Cut(lines.Text(), ": ")
		if n, err := strconv.ParseInt(number, 10, 64); err == nil {
			out[name] = n
		}
	}
	return out
}
