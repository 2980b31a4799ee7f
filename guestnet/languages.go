package guestnet

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// readNetplan reads a file of netplan.
func readNetplan(file, text string) (out []setting) {
	type device struct {
		Match *struct {
			MAC    string `yaml:"macaddress"`
			Name   string `yaml:"name"`
			Driver any    `yaml:"driver"`
		} `yaml:"match"`
		SetName   string `yaml:"set-name"`
		DHCP4     bool   `yaml:"dhcp4"`
		DHCP6     bool   `yaml:"dhcp6"`
		Addresses []any  `yaml:"addresses"`
	}
	var f struct {
		Network struct {
			Ethernets map[string]device `yaml:"ethernets"`
			Bonds     map[string]device `yaml:"bonds"`
			Bridges   map[string]device `yaml:"bridges"`
			VLANs     map[string]device `yaml:"vlans"`
		} `yaml:"network"`
	}
	if yaml.Unmarshal([]byte(text), &f) != nil {
		return nil // netplan does not take it either
	}
	add := func(devices map[string]device, above string) {
		for _, id := range sortedKeys(devices) {
			d := devices[id]
			s := setting{file: file, language: netplan, name: id, above: above, dhcp: d.DHCP4 || d.DHCP6}
			if m := d.Match; m != nil {
				s.name, s.mac = "", macOf(m.MAC)
				if m.Name != "" {
					s.matches(m.Name)
				}
				if m.Driver != nil {
					s.hardware = "driver"
				}
				s.every = s.every || s.name == "" && s.mac == "" && s.hardware == ""
			}
			for _, a := range d.Addresses {
				switch a := a.(type) {
				case string:
					s.has(a)
				case map[string]any: // with options
					for text := range a {
						s.has(text)
					}
				}
			}
			out = append(out, s)
		}
	}
	add(f.Network.Ethernets, "")
	add(f.Network.Bonds, "bond")
	add(f.Network.Bridges, "bridge")
	add(f.Network.VLANs, "VLAN")
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// virtual are the beginnings of names of cards that are none, with what they are.
var virtual = regexp.MustCompile(`^(bond|br|team|vlan)[-_0-9]`)

// aboveByName guesses from its name what a device is where only another file says so.
func aboveByName(name string) string {
	switch m := virtual.FindStringSubmatch(name); {
	case m != nil && m[1] == "br":
		return "bridge"
	case m != nil && m[1] == "vlan":
		return "VLAN"
	case m != nil:
		return m[1]
	case strings.Contains(name, "."):
		return "VLAN"
	}
	return ""
}

// readNetworkd reads a .network file of systemd.
func readNetworkd(file, text string) []setting {
	f := sections(text)
	s := setting{file: file, language: networkd}
	matched := false
	for _, l := range f {
		switch l.section + "." + l.key {
		case "Match.Name":
			matched = true
			s.matches(l.value)
			s.above = aboveByName(s.name)
		case "Match.MACAddress", "Match.PermanentMACAddress":
			matched = true
			s.mac = macOf(l.value)
		case "Match.Driver", "Match.Path":
			matched = true
			s.hardware = strings.ToLower(l.key)
		case "Network.DHCP":
			s.dhcp = !slices.Contains([]string{"no", "false", "none", "0", ""}, l.value)
		case "Network.Address", "Address.Address":
			s.has(l.value)
		}
	}
	s.every = s.every || s.name == "" && s.mac == "" && s.hardware == ""
	if !matched && len(f) == 0 {
		return nil
	}
	return []setting{s}
}

// readKeyfile reads a keyfile of NetworkManager.
func readKeyfile(file, text string) []setting {
	f := sections(text)
	s := setting{file: file, language: networkManager, name: f.first("connection", "interface-name")}
	switch f.first("connection", "type") {
	case "ethernet", "802-3-ethernet":
	case "bond", "bridge", "team":
		s.above = f.first("connection", "type")
	case "vlan":
		s.above = "VLAN"
	default:
		return nil // no card
	}
	for _, section := range []string{"ethernet", "802-3-ethernet"} {
		if mac := macOf(f.first(section, "mac-address")); mac != "" {
			s.mac = mac
		}
	}
	if names := f.first("match", "interface-name"); names != "" && s.name == "" {
		s.matches(strings.TrimSuffix(names, ";"))
	}
	for _, key := range []string{"driver", "path"} {
		if f.first("match", key) != "" {
			s.hardware = key
		}
	}
	s.every = s.every || s.name == "" && s.mac == "" && s.hardware == ""
	for _, l := range f {
		if l.section != "ipv4" && l.section != "ipv6" {
			continue
		}
		switch {
		case l.key == "method" && l.section == "ipv4":
			s.dhcp = l.value == "auto"
		case strings.HasPrefix(l.key, "address"):
			for part := range strings.SplitSeq(l.value, ";") {
				s.has(part)
			}
		}
	}
	return []setting{s}
}

// readInterfaces reads /etc/network/interfaces.
func readInterfaces(file, text string) (out []setting) {
	var s *setting
	for l := range strings.Lines(text) {
		words := strings.Fields(l)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		switch words[0] {
		case "iface":
			s = nil
			if len(words) < 2 || words[1] == "lo" {
				continue
			}
			name, _, _ := strings.Cut(words[1], ":") // of a second address
			out = append(out, setting{file: file, language: interfaces, name: name, above: aboveByName(name), dhcp: len(words) > 3 && words[3] == "dhcp"})
			s = &out[len(out)-1]
		case "auto", "mapping", "source", "source-directory", "no-auto-down", "no-scripts", "rename", "template":
			s = nil
		case "address":
			if s != nil && len(words) > 1 {
				s.has(words[1])
			}
		default:
			switch {
			case strings.HasPrefix(words[0], "allow-"):
				s = nil
			case s == nil:
			case strings.HasPrefix(words[0], "bond-slaves"), strings.HasPrefix(words[0], "bond_slaves"), words[0] == "slaves":
				s.above = "bond"
			case strings.HasPrefix(words[0], "bridge_ports"), strings.HasPrefix(words[0], "bridge-ports"):
				s.above = "bridge"
			case strings.HasPrefix(words[0], "vlan"):
				s.above = "VLAN"
			}
		}
	}
	return out
}

// ifcfgAddress is a key of an ifcfg file that has an address.
var ifcfgAddress = regexp.MustCompile(`^(IPADDR(_?[0-9A-Za-z]+)?|IPV6ADDR|IPV6ADDR_SECONDARIES)$`)

// readIfcfg reads an ifcfg file, of RHEL's kind or of SUSE's.
func readIfcfg(file, text string, l language) []setting {
	suffix := strings.TrimPrefix(path.Base(file), "ifcfg-")
	for _, end := range []string{".bak", ".orig", ".old", ".rpmsave", ".rpmnew", ".template"} {
		if strings.HasSuffix(suffix, end) {
			return nil
		}
	}
	if suffix == "lo" {
		return nil
	}
	s := setting{file: file, language: l}
	if l == ifcfgSUSE {
		s.name = suffix
	}
	for row := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(row), "=")
		if !ok || strings.HasPrefix(key, "#") {
			continue
		}
		value = strings.Trim(value, `"'`)
		switch {
		case key == "DEVICE" && value != "":
			s.name, _, _ = strings.Cut(value, ":") // of a second address
		case key == "HWADDR" || key == "LLADDR" && l == ifcfgSUSE:
			s.mac = macOf(value)
		case key == "BOOTPROTO":
			s.dhcp = strings.Contains(value, "dhcp")
		case key == "TYPE" || key == "DEVICETYPE":
			if t := strings.ToLower(value); t == "bond" || t == "bridge" || t == "team" {
				s.above = t
			}
		case key == "BONDING_OPTS" || key == "BONDING_MASTER" && value == "yes":
			s.above = "bond"
		case key == "BRIDGE" && value == "yes" && l == ifcfgSUSE:
			s.above = "bridge"
		case key == "VLAN" && value == "yes" || key == "ETHERDEVICE" || key == "VLAN_ID":
			s.above = "VLAN"
		case ifcfgAddress.MatchString(key):
			for part := range strings.FieldsSeq(value) {
				s.has(part)
			}
		}
	}
	if s.above == "" {
		s.above = aboveByName(s.name)
	}
	s.every = s.name == "" && s.mac == ""
	return []setting{s}
}
