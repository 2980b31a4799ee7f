package job

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a network map.
const (
	maxNetworks = 1000
	maxNetwork  = 255 // bytes of a name
	maxBridge   = 15  // bytes of the name of a network interface of Linux
)

// AnyNetwork stands in a network map for every port group that it does not name.
const AnyNetwork = "*"

// Network returns the network for the cards on a port group, and whether the map has
// one.
func (o Options) Network(portGroup string) (network string, mapped bool) {
	if network, mapped = o.NetworkMap[portGroup]; !mapped {
		network, mapped = o.NetworkMap[AnyNetwork]
	}
	return network, mapped
}

// networkMap judges every entry, in the order of the port groups, and names it by
// its port group.
func (v *validator) networkMap(o Options) {
	const field = "options.network_map"
	if len(o.NetworkMap) > 0 && o.Format.Streams() {
		v.add(field, "needs format %s or %s: an OVF names the networks that the VM had", FormatQcow2, FormatRaw)
	}
	if len(o.NetworkMap) > maxNetworks {
		v.add(field, "has more than %d entries", maxNetworks)
		return
	}
	for _, group := range slices.Sorted(maps.Keys(o.NetworkMap)) {
		entry := fmt.Sprintf("%s[%.80q]", field, group)
		if strings.TrimSpace(group) == "" {
			v.add(field, "has an entry without the name of a port group")
			continue
		}
		v.text(entry, group, maxNetwork)
		if problem := networkProblem(o.NetworkMap[group]); problem != "" {
			v.add(entry, "%s", problem)
		}
	}
}

// networkProblem says why a network cannot be called that, or "".
func networkProblem(name string) string {
	most := maxNetwork
	bridge, isBridge := strings.CutPrefix(name, BridgePrefix)
	if isBridge {
		name, most = bridge, maxBridge
	}
	switch {
	case name == "" || strings.TrimSpace(name) != name:
		return "must be the name of a libvirt network, or " + BridgePrefix + " and the name of a bridge"
	case len(name) > most:
		return fmt.Sprintf("is longer than %d bytes", most)
	case !utf8.ValidString(name), strings.ContainsFunc(name, unicode.IsControl), strings.Contains(name, "/"),
		isBridge && strings.ContainsFunc(name, unicode.IsSpace):
		return "must not hold slashes or control characters, nor a bridge white space"
	}
	return ""
}

// ParseNetworkMap reads a network map as a command line has it: PORTGROUP=NETWORK,
// several of them with commas in between. A backslash takes the character after it
// for part of a name. The error names the entry; whether the names can be is for
// [Definition.Validate] to say.
func ParseNetworkMap(s string) (map[string]string, error) {
	out := map[string]string{}
	for _, entry := range splitEscaped(s, ',') {
		if strings.TrimSpace(entry) == "" {
			continue
		}
		sides := splitEscaped(entry, '=')
		if len(sides) != 2 {
			return nil, fmt.Errorf("%q is not of the form PORTGROUP=NETWORK; a comma or = in a name is written with a backslash before it", entry)
		}
		group, network := strings.TrimSpace(unescape(sides[0])), strings.TrimSpace(unescape(sides[1]))
		switch was, twice := out[group]; {
		case group == "":
			return nil, fmt.Errorf("%q names no port group", entry)
		case network == "":
			return nil, fmt.Errorf("%q names no network for the port group", entry)
		case twice && was != network:
			return nil, fmt.Errorf("%q: the port group has the network %q already", entry, was)
		}
		out[group] = network
	}
	if len(out) == 0 && s != "" {
		return nil, errors.New("it has no entry PORTGROUP=NETWORK")
	}
	return out, nil
}

// FormatNetworkMap writes a map so that [ParseNetworkMap] reads it, in the order of
// the port groups.
func FormatNetworkMap(m map[string]string) string {
	escape := strings.NewReplacer(`\`, `\\`, ",", `\,`, "=", `\=`)
	var entries []string
	for _, group := range slices.Sorted(maps.Keys(m)) {
		entries = append(entries, escape.Replace(group)+"="+escape.Replace(m[group]))
	}
	return strings.Join(entries, ",")
}

// splitEscaped splits s at sep, unless a backslash stands before it. The backslashes
// stay.
func splitEscaped(s string, sep byte) []string {
	var parts []string
	start := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

// unescape takes the backslashes away.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
