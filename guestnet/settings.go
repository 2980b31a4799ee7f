package guestnet

import (
	"maps"
	"net"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
)

// setting is what one of the guest's files says of a card.
type setting struct {
	file     string
	language language
	// For which card it is. Of name and every, at most one is set.
	name     string // just this name
	every    bool   // whatever its name is
	mac      string // in lower case
	hardware string // what else the card has to be, such as its "driver"
	// above says that the addresses are not on the card itself: "bond", "bridge", "VLAN",
	// "team".
	above     string
	addresses []netip.Addr
	dhcp      bool
}

// language is how settings are written.
type language int

// The languages, in the order in which they are taken where settings have to be added.
const (
	noLanguage language = iota
	netplan
	networkManager
	networkd
	interfaces
	ifcfgRHEL
	ifcfgSUSE
)

// places are where files with settings are.
var places = []struct {
	dir, pattern string
	read         func(file, text string) []setting
}{
	{"/etc/netplan", "*.yaml", readNetplan},
	{"/etc/NetworkManager/system-connections", "*", readKeyfile},
	{"/etc/systemd/network", "*.network", readNetworkd},
	{"/etc/network", "interfaces", readInterfaces},
	{"/etc/network/interfaces.d", "*", readInterfaces},
	{"/etc/sysconfig/network-scripts", "ifcfg-*", func(f, t string) []setting { return readIfcfg(f, t, ifcfgRHEL) }},
	{"/etc/sysconfig/network", "ifcfg-*", func(f, t string) []setting { return readIfcfg(f, t, ifcfgSUSE) }},
}

// mark is in the names of all files that this package writes.
const mark = "hyper2kvm"

// Wanted reports whether [Guest.Files] is to have the file at an absolute path.
func Wanted(file string) bool {
	dir, base := path.Split(path.Clean(file))
	dir = path.Clean(dir)
	if strings.Contains(base, mark) || strings.HasSuffix(base, "~") {
		return false
	}
	switch {
	case file == "/etc/selinux/config":
		return true
	case dir == "/etc/udev/rules.d":
		return strings.HasSuffix(base, ".rules")
	case dir == "/etc/systemd/network" && (strings.HasSuffix(base, ".link") || strings.HasSuffix(base, ".netdev")):
		return true
	}
	for _, p := range places {
		if ok, _ := path.Match(p.pattern, base); ok && dir == p.dir {
			return true
		}
	}
	return false
}

// read reads all settings of a guest, in the order of their files' names.
func read(g Guest) (out []setting) {
	for _, p := range places {
		for _, file := range slices.Sorted(maps.Keys(g.Files)) {
			if ok, _ := path.Match(p.pattern, path.Base(file)); ok && path.Dir(file) == p.dir && Wanted(file) {
				out = append(out, p.read(file, g.Files[file])...)
			}
		}
	}
	made := devices(g)
	for i := range out {
		s := &out[i]
		if s.above == "" {
			s.above = made[s.name]
		}
		if s.hardware != "" {
			s.every = false
		}
	}
	return out
}

// devices are what systemd-networkd makes itself, by name: bonds and the like.
func devices(g Guest) map[string]string {
	made := map[string]string{}
	for file, text := range g.Files {
		if path.Ext(file) == ".netdev" && Wanted(file) {
			f := sections(text)
			kind := f.first("NetDev", "Kind")
			if kind == "vlan" {
				kind = "VLAN"
			}
			made[f.first("NetDev", "Name")] = kind
		}
	}
	delete(made, "")
	return made
}

var (
	ruleMAC  = regexp.MustCompile(`ATTRS?\{address\}=="([^"]+)"`)
	ruleName = regexp.MustCompile(`NAME:?="([^"]+)"`)
)

// boundNames are the names that the guest gives cards by their MAC address already.
func boundNames(g Guest) map[string]string {
	bound := map[string]string{}
	for _, file := range slices.Sorted(maps.Keys(g.Files)) {
		if !Wanted(file) {
			continue
		}
		switch path.Ext(file) {
		case ".rules":
			for line := range strings.Lines(g.Files[file]) {
				mac, name := ruleMAC.FindStringSubmatch(line), ruleName.FindStringSubmatch(line)
				if !strings.HasPrefix(line, "#") && mac != nil && name != nil {
					bound[strings.ToLower(mac[1])] = name[1]
				}
			}
		case ".link":
			s := sections(g.Files[file])
			if mac, name := macOf(s.first("Match", "MACAddress")), s.first("Link", "Name"); mac != "" && name != "" {
				bound[mac] = name
			}
		}
	}
	return bound
}

// macOf is a MAC address in lower case, or "".
func macOf(text string) string {
	mac, err := net.ParseMAC(strings.TrimSpace(text))
	if err != nil || len(mac) != 6 {
		return ""
	}
	return mac.String()
}

// addressOf is the address in "192.0.2.1/24,192.0.2.254" and the like; not valid if
// there is none.
func addressOf(text string) netip.Addr {
	text = strings.TrimSpace(text)
	if at := strings.IndexAny(text, "/, \t"); at >= 0 {
		text = text[:at]
	}
	a, _ := netip.ParseAddr(text)
	return a
}

// has adds an address that a setting has, if the text is one.
func (s *setting) has(text string) {
	if a := addressOf(text); a.IsValid() {
		s.addresses = append(s.addresses, a)
	}
}

// matches sets for which names a setting is: one, or a pattern, or several.
func (s *setting) matches(names string) {
	if !strings.ContainsAny(names, "*?[!] \t|;,") {
		s.name = names
		return
	}
	s.every = true
}

// line is a line of an INI file.
type line struct{ section, key, value string }

// ini is an INI file, in its order.
type ini []line

// sections reads an INI file. Systemd and NetworkManager write them in nearly the same
// way.
func sections(text string) (out ini) {
	section := ""
	for l := range strings.Lines(text) {
		l = strings.TrimSpace(l)
		switch {
		case l == "" || l[0] == '#' || l[0] == ';':
		case l[0] == '[' && strings.HasSuffix(l, "]"):
			section = l[1 : len(l)-1]
		default:
			if key, value, ok := strings.Cut(l, "="); ok {
				out = append(out, line{section, strings.TrimSpace(key), strings.TrimSpace(value)})
			}
		}
	}
	return out
}

// first is the first value of a key, or "".
func (f ini) first(section, key string) string {
	for _, l := range f {
		if l.section == section && l.key == key {
			return l.value
		}
	}
	return ""
}
