package inspect

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// linux looks into a Linux whose file systems are mounted.
func (t *talk) linux(s *System) {
	for _, pattern := range []string{"/boot/vmlinu*", "/boot/bzImage*", "/boot/Image*", "/boot/kernel*", "/lib/modules/*/vmlinuz", "/usr/lib/modules/*/vmlinuz"} {
		if s.Kernel = len(t.lines("glob-expand", word(pattern))) > 0; s.Kernel {
			break
		}
	}
	s.Initramfs = t.program("update-initramfs", "dracut", "mkinitcpio", "mkinitrd")
	t.loader(s)
	t.network(s)
	for _, f := range []string{"/etc/fstab", "/etc/crypttab", "/etc/default/grub", "/boot/grub2/grub.cfg", "/boot/grub/grub.cfg", "/boot/grub/menu.lst", "/boot/grub/grub.conf"} {
		for _, name := range deviceNames(t.text(f)) {
			s.Names = append(s.Names, name+" in "+f)
		}
	}
}

// binaries are where programs lie.
var binaries = []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// program is the first of programs that is there, or "".
func (t *talk) program(names ...string) string {
	for _, name := range names {
		for _, dir := range binaries {
			if t.any(path.Join(dir, name)) {
				return name
			}
		}
	}
	return ""
}

// loader looks for the boot loader, and what makes its configuration.
func (t *talk) loader(s *System) {
	switch {
	case t.any("/boot/grub2/grub.cfg", "/boot/grub/grub.cfg") || len(t.lines("glob-expand", word("/boot/efi/EFI/*/grub.cfg"))) > 0:
		s.Loader = "grub2"
		s.LoaderBy = t.program("grub2-mkconfig", "grub-mkconfig", "update-grub", "update-grub2")
	case t.any("/boot/grub/menu.lst", "/boot/grub/grub.conf"):
		s.Loader = "grub" // whose configuration virt-v2v writes by itself
	case t.any("/boot/loader/loader.conf", "/boot/efi/loader/loader.conf", "/efi/loader/loader.conf"):
		s.Loader = "systemd-boot"
	}
}

// networks are where programs have the settings of cards.
var networks = []struct{ program, pattern string }{
	{"netplan", "/etc/netplan/*.yaml"},
	{"NetworkManager", "/etc/NetworkManager/system-connections/*"},
	{"systemd-networkd", "/etc/systemd/network/*.network"},
	{"ifcfg files", "/etc/sysconfig/network-scripts/ifcfg-*"},
	{"ifcfg files", "/etc/sysconfig/network/ifcfg-*"},
}

// network looks which programs have settings for cards.
func (t *talk) network(s *System) {
	for _, n := range networks {
		files := t.lines("glob-expand", word(n.pattern))
		files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, "/ifcfg-lo") || strings.HasSuffix(f, ".template") })
		if len(files) > 0 && !slices.Contains(s.Network, n.program) {
			s.Network = append(s.Network, n.program)
		}
	}
	files := append([]string{"/etc/network/interfaces"}, firstOf(t.lines("glob-expand", word("/etc/network/interfaces.d/*")), 16)...)
	for _, f := range files {
		if setsUpCards(t.text(f)) {
			s.Network = append(s.Network, "ifupdown")
			return
		}
	}
}

// setsUpCards reports whether a file of ifupdown has a card other than lo.
func setsUpCards(text string) bool {
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "iface" && words[1] != "lo" {
			return true
		}
	}
	return false
}

// deviceName is a disk or partition by a name that follows its bus and its place on it.
var deviceName = regexp.MustCompile(`/dev/(?:[shv]d[a-z]{1,2}|xvd[a-z]{1,2}|nvme\d+n\d+p?)\d*\b`)

// maxNames is how many names of one file are told.
const maxNames = 8

// deviceNames are the names of disks in a file, each once. Comments do not count, nor do
// floppies and what GRUB looks at to guess.
func deviceNames(text string) (out []string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			continue
		}
		for _, name := range deviceName.FindAllString(line, -1) {
			if !slices.Contains(out, name) && len(out) < maxNames {
				out = append(out, name)
			}
		}
	}
	return out
}
