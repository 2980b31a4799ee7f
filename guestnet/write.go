package guestnet

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// linkSince is the first systemd that names a card anew which the initial RAM disk has
// named (240), and tells a card from a VLAN with the same MAC address (243).
const linkSince = 243

const header = "# Written by hyper2kvm, so that the card keeps what it had at vSphere.\n"

// naming is the file that gives the card with a MAC address a name.
func naming(mac, name string, systemd int) File {
	id := strings.ReplaceAll(mac, ":", "")
	if systemd >= linkSince {
		return File{"/etc/systemd/network/10-" + mark + "-" + id + ".link", 0o644, header + fmt.Sprintf("[Match]\nMACAddress=%s\nType=ether\n\n[Link]\nName=%s\n", mac, name)}
	}
	return File{"/etc/udev/rules.d/79-" + mark + "-" + id + ".rules", 0o644, header + fmt.Sprintf(
		"SUBSYSTEM==\"net\", ACTION==\"add\", DRIVERS==\"?*\", ATTR{address}==\"%s\", NAME=\"%s\"\n", mac, name)}
}

// write sets up a card by its MAC address, with the addresses that it has by hand.
func (p *planner) write(c card, why string) error {
	s := newSettings(c)
	var files []File
	switch l := p.language(); l {
	case netplan:
		files = []File{s.netplan()}
	case networkManager:
		files = []File{s.keyfile()}
	case networkd:
		files = []File{s.networkd()}
	case ifcfgRHEL:
		files = []File{s.ifcfgRHEL()}
	case interfaces, ifcfgSUSE:
		if l == interfaces && !p.includes() {
			return errors.New("/etc/network/interfaces takes no other files in, and is not to be changed: have it say \"source /etc/network/interfaces.d/*\"")
		}
		// They know cards by their names only.
		name := "lan" + strings.ReplaceAll(c.mac, ":", "")
		p.taken = append(p.taken, name)
		p.out.Files = append(p.out.Files, naming(c.mac, name, p.guest.Systemd))
		if files = s.ifcfgSUSE(name); l == interfaces {
			files = []File{s.interfaces(name)}
		}
	default:
		return fmt.Errorf("%s, and it is not known by what the guest sets up the card %s", why, c.mac)
	}
	p.out.Files = append(p.out.Files, files...)
	p.say("%s: set up as reported in %s, because %s", c.mac, files[0].Path, why)
	return nil
}

// language is that in which the guest's settings are written, or that of what is started
// at boot.
func (p *planner) language() language {
	best := noLanguage
	for _, s := range p.settings {
		if best == noLanguage || s.language < best {
			best = s.language
		}
	}
	if best != noLanguage {
		return best
	}
	for _, unit := range []struct {
		name string
		is   language
	}{{"NetworkManager.service", networkManager}, {"systemd-networkd.service", networkd}, {"networking.service", interfaces}} {
		if slices.Contains(p.guest.Enabled, unit.name) {
			return unit.is
		}
	}
	return noLanguage
}

// includes reports whether /etc/network/interfaces takes in /etc/network/interfaces.d.
func (p *planner) includes() bool {
	for l := range strings.Lines(p.guest.Files["/etc/network/interfaces"]) {
		if w := strings.Fields(l); len(w) == 2 && (w[0] == "source" || w[0] == "source-directory") && strings.HasPrefix(path.Join("/etc/network", strings.TrimPrefix(w[1], "/etc/network")), "/etc/network/interfaces.d") {
			return true
		}
	}
	return false
}

// settings are those of one card, to be written.
type settings struct {
	mac      string
	dhcp     bool // for IPv4
	v4, v6   []netip.Prefix
	gateways []netip.Addr
	dns      []netip.Addr
	search   []string
}

func newSettings(c card) settings {
	s := settings{mac: c.mac, dhcp: c.dhcp, gateways: c.gateways, dns: c.dns}
	for _, a := range c.byHand {
		if a.Addr().Is4() {
			s.v4 = append(s.v4, a)
		} else {
			s.v6 = append(s.v6, a)
		}
	}
	for _, d := range c.search {
		if domain(d) {
			s.search = append(s.search, d)
		}
	}
	if s.dhcp && len(c.byHand) == 0 { // the server tells these
		s.gateways, s.dns, s.search = nil, nil, nil
	}
	return s
}

// domain reports whether a name may be written into any of the files.
func domain(name string) bool {
	return name != "" && len(name) <= 253 && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	})
}

// gateway is the first default gateway for IPv4, or for IPv6; not valid if there is none.
func (s settings) gateway(v4 bool) netip.Addr {
	for _, g := range s.gateways {
		if g.Is4() == v4 {
			return g.WithZone("")
		}
	}
	return netip.Addr{}
}

func (s settings) all() []netip.Prefix { return slices.Concat(s.v4, s.v6) }

// joined are values, with a separator.
func joined[T fmt.Stringer](values []T, separator string) string {
	var out []string
	for _, v := range values {
		out = append(out, v.String())
	}
	return strings.Join(out, separator)
}

// of are the name servers that are reached by IPv4, or by IPv6.
func of(addresses []netip.Addr, v4 bool) (out []netip.Addr) {
	for _, a := range addresses {
		if a.Is4() == v4 {
			out = append(out, a.WithZone(""))
		}
	}
	return out
}

func (s settings) id() string { return mark + "-" + strings.ReplaceAll(s.mac, ":", "") }

func (s settings) netplan() File {
	var b strings.Builder
	b.WriteString(header)
	fmt.Fprintf(&b, "network:\n  version: 2\n  ethernets:\n    %s:\n      match:\n        macaddress: \"%s\"\n", s.id(), s.mac)
	if s.dhcp {
		b.WriteString("      dhcp4: true\n")
	}
	if len(s.all()) > 0 {
		b.WriteString("      addresses:\n")
	}
	for _, a := range s.all() {
		fmt.Fprintf(&b, "        - \"%s\"\n", a)
	}
	routes := ""
	for _, v4 := range []bool{true, false} {
		if g := s.gateway(v4); g.IsValid() {
			routes += fmt.Sprintf("        - to: \"%s\"\n          via: \"%s\"\n", map[bool]string{true: "0.0.0.0/0", false: "::/0"}[v4], g)
		}
	}
	if routes != "" {
		b.WriteString("      routes:\n" + routes)
	}
	if len(s.dns) > 0 {
		fmt.Fprintf(&b, "      nameservers:\n        addresses: [\"%s\"]\n", joined(s.dns, `", "`))
		if len(s.search) > 0 {
			fmt.Fprintf(&b, "        search: [\"%s\"]\n", strings.Join(s.search, `", "`))
		}
	}
	return File{"/etc/netplan/90-" + s.id() + ".yaml", 0o600, b.String()}
}

func (s settings) networkd() File {
	var b strings.Builder
	fmt.Fprintf(&b, "%s[Match]\nMACAddress=%s\n\n[Network]\n", header, s.mac)
	if s.dhcp {
		b.WriteString("DHCP=ipv4\n")
	}
	for _, a := range s.all() {
		fmt.Fprintf(&b, "Address=%s\n", a)
	}
	for _, v4 := range []bool{true, false} {
		if g := s.gateway(v4); g.IsValid() {
			fmt.Fprintf(&b, "Gateway=%s\n", g)
		}
	}
	for _, d := range s.dns {
		fmt.Fprintf(&b, "DNS=%s\n", d)
	}
	if len(s.search) > 0 {
		fmt.Fprintf(&b, "Domains=%s\n", strings.Join(s.search, " "))
	}
	return File{"/etc/systemd/network/05-" + s.id() + ".network", 0o644, b.String()}
}

func (s settings) keyfile() File {
	var b strings.Builder
	fmt.Fprintf(&b, "%s[connection]\nid=%s\nuuid=%s\ntype=ethernet\nautoconnect-priority=100\n\n[ethernet]\nmac-address=%s\n",
		header, s.id(), uuid.NewSHA1(uuid.NameSpaceOID, []byte(s.id())), strings.ToUpper(s.mac))
	for _, v4 := range []bool{true, false} {
		addresses, method := s.v4, map[bool]string{true: "disabled", false: "auto"}[v4]
		section := "ipv4"
		if !v4 {
			addresses, section = s.v6, "ipv6"
		}
		if len(addresses) > 0 {
			method = "manual"
		}
		if v4 && s.dhcp {
			method = "auto"
		}
		fmt.Fprintf(&b, "\n[%s]\nmethod=%s\n", section, method)
		for i, a := range addresses {
			fmt.Fprintf(&b, "address%d=%s\n", i+1, a)
		}
		if len(addresses) == 0 {
			continue
		}
		if g := s.gateway(v4); g.IsValid() {
			fmt.Fprintf(&b, "gateway=%s\n", g)
		}
		if servers := of(s.dns, v4); len(servers) > 0 {
			fmt.Fprintf(&b, "dns=%s;\n", joined(servers, ";"))
		}
		if len(s.search) > 0 {
			fmt.Fprintf(&b, "dns-search=%s;\n", strings.Join(s.search, ";"))
		}
	}
	return File{"/etc/NetworkManager/system-connections/" + s.id() + ".nmconnection", 0o600, b.String()}
}

func (s settings) ifcfgRHEL() File {
	var b strings.Builder
	fmt.Fprintf(&b, "%sTYPE=Ethernet\nNAME=%s\nHWADDR=%s\nONBOOT=yes\nBOOTPROTO=%s\n", header, s.id(), strings.ToUpper(s.mac), map[bool]string{true: "dhcp", false: "none"}[s.dhcp])
	for i, a := range s.v4 {
		fmt.Fprintf(&b, "IPADDR%d=%s\nPREFIX%d=%d\n", i, a.Addr(), i, a.Bits())
	}
	if g := s.gateway(true); g.IsValid() {
		fmt.Fprintf(&b, "GATEWAY=%s\n", g)
	}
	if len(s.v6) > 0 {
		fmt.Fprintf(&b, "IPV6INIT=yes\nIPV6_AUTOCONF=no\nIPV6ADDR=%s\n", s.v6[0])
		if len(s.v6) > 1 {
			fmt.Fprintf(&b, "IPV6ADDR_SECONDARIES=\"%s\"\n", joined(s.v6[1:], " "))
		}
		if g := s.gateway(false); g.IsValid() {
			fmt.Fprintf(&b, "IPV6_DEFAULTGW=%s\n", g)
		}
	}
	for i, d := range s.dns {
		fmt.Fprintf(&b, "DNS%d=%s\n", i+1, d)
	}
	if len(s.search) > 0 {
		fmt.Fprintf(&b, "DOMAIN=\"%s\"\n", strings.Join(s.search, " "))
	}
	return File{"/etc/sysconfig/network-scripts/ifcfg-" + s.id(), 0o644, b.String()}
}

// ifcfgSUSE has no name servers, which SUSE keeps in a file for all cards.
func (s settings) ifcfgSUSE(name string) []File {
	var b strings.Builder
	fmt.Fprintf(&b, "%sSTARTMODE='auto'\nBOOTPROTO='%s'\n", header, map[bool]string{true: "dhcp4+static", false: "static"}[s.dhcp])
	for i, a := range s.all() {
		fmt.Fprintf(&b, "IPADDR_%d='%s'\n", i, a)
	}
	files := []File{{"/etc/sysconfig/network/ifcfg-" + name, 0o644, b.String()}}
	routes := ""
	for _, v4 := range []bool{true, false} {
		if g := s.gateway(v4); g.IsValid() {
			routes += fmt.Sprintf("default %s - %s\n", g, name)
		}
	}
	if routes != "" {
		files = append(files, File{"/etc/sysconfig/network/ifroute-" + name, 0o644, header + routes})
	}
	return files
}

func (s settings) interfaces(name string) File {
	var b strings.Builder
	fmt.Fprintf(&b, "%sauto %s\n", header, name)
	for i, a := range s.all() {
		family := "inet"
		if !a.Addr().Is4() {
			family = "inet6"
		}
		fmt.Fprintf(&b, "iface %s %s static\n\taddress %s\n", name, family, a)
		first := i == 0 || i == len(s.v4)
		if g := s.gateway(a.Addr().Is4()); first && g.IsValid() {
			fmt.Fprintf(&b, "\tgateway %s\n", g)
		}
		if i == 0 && len(s.dns) > 0 {
			fmt.Fprintf(&b, "\tdns-nameservers %s\n", joined(s.dns, " "))
		}
		if i == 0 && len(s.search) > 0 {
			fmt.Fprintf(&b, "\tdns-search %s\n", strings.Join(s.search, " "))
		}
	}
	if s.dhcp {
		fmt.Fprintf(&b, "iface %s inet dhcp\n", name)
	}
	return File{"/etc/network/interfaces.d/" + mark + "-" + name, 0o644, b.String()}
}
