package v2v

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Guest is what vSphere, or a descriptor, says of a guest.
type Guest struct {
	ID       string // its guestId, as "windows2019srv_64Guest"; "" is not known
	FullName string // for people
	Running  bool   // it runs while its disks are read
}

// Windows reports whether the guest is a Windows, as far as is known.
func (g Guest) Windows() bool {
	return strings.HasPrefix(strings.ToLower(g.ID), "win") || g.ID == "" && strings.Contains(g.FullName, "Windows")
}

// foreign begin the ids of systems that virt-v2v does not convert.
var foreign = []string{
	"freebsd", "solaris", "darwin", "netware", "nwl", "vmkernel", "dos", "os2", "openserver", "unixware", "ecomstation",
	"win31", "win95", "win98", "winme", "winnt", "win2000",
}

// xfs4 begin the ids of systems that made XFS of version 4, at least in their first
// releases.
var xfs4 = []string{"rhel6", "rhel7", "centos6", "centos7", "oraclelinux6", "oraclelinux7"}

func begins(id string, with []string) bool {
	id = strings.ToLower(id)
	return slices.ContainsFunc(with, func(p string) bool { return strings.HasPrefix(id, p) })
}

func problem(fatal bool, text, hint string) Problem {
	return Problem{Fatal: fatal, Text: text, Hint: hint}
}

// About says what is known of the conversion of a guest before its disks have been looked
// into.
func (t *Tool) About(g Guest) (out []Problem) {
	if begins(g.ID, foreign) {
		return []Problem{problem(true, fmt.Sprintf("the guest is said to be %s, and virt-v2v converts Linux and Windows since XP", g.name()),
			"leave -convert out; or, if it is another system, correct the guest OS of the VM where that is said")}
	}
	if g.Running {
		out = append(out, problem(false, "the guest runs while its disks are read, and virt-v2v does not convert file systems that were not unmounted (of Windows it refuses them)",
			"-shutdown shuts it down first"))
	}
	if g.Windows() {
		out = append(out, problem(false, "what fails most with Windows: Fast Startup or hibernation, BitLocker, a dynamic system disk, less than 100 MB free",
			"look for these before: powercfg /h off, manage-bde -status, diskpart"))
	}
	if begins(g.ID, xfs4) {
		out = append(out, problem(false, "early releases of "+g.name()+" made XFS of version 4, which kernels since Linux 6.12 may not read",
			"xfs_info / in the guest says crc=0 then; Debian 12 and RHEL 9 read it"))
	}
	return append(out, t.drivers(g)...)
}

func (g Guest) name() string {
	if g.FullName != "" {
		return fmt.Sprintf("%.80q", g.FullName)
	}
	return fmt.Sprintf("%.80q", g.ID)
}

// ownDrivers are where virt-v2v looks for drivers for Windows by itself.
var ownDrivers = []string{"/usr/share/virtio-win", "/usr/share/virtio-win/virtio-win.iso"}

// drivers is what is wrong with the drivers for Windows.
func (t *Tool) drivers(g Guest) []Problem {
	path := cmp.Or(t.VirtioWin, t.machine().Getenv(virtioWin))
	const get = "get virtio-win.iso from https://fedorapeople.org/groups/virt/virtio-win/ and name it: -virtio-win ISO, or VIRTIO_WIN in the environment"
	if path != "" {
		if _, err := os.Stat(path); err != nil {
			return []Problem{problem(g.Windows(), fmt.Sprintf("the virtio drivers for Windows: %v", err), get)}
		}
		return nil
	}
	if slices.ContainsFunc(ownDrivers, func(p string) bool { _, err := os.Stat(p); return err == nil }) {
		return nil
	}
	switch {
	case g.Windows():
		return []Problem{problem(true, "there are no virtio drivers for Windows on this machine, and the guest would have none after its conversion", get)}
	case g.ID == "" || strings.HasPrefix(g.ID, "other") && !strings.Contains(g.ID, "Linux"):
		return []Problem{problem(false, "it is not known what the guest is; if it is a Windows, there are no virtio drivers for it on this machine", get)}
	}
	return nil
}
