package job

import (
	"errors"
	"slices"
	"strings"
)

// Targets are the platforms that [Options].For can name. A libvirt domain is written in any
// case; for libvirt there is a script that brings it to another machine.
var Targets = [...]string{"libvirt", "proxmox", "openstack", "kubevirt", "incus"}

// ParseTargets takes a list of platforms apart, each once, in the order of [Targets].
func ParseTargets(s string) ([]string, error) {
	named := map[string]bool{}
	for part := range strings.SplitSeq(s, ",") {
		name := strings.ToLower(strings.TrimSpace(part))
		if name != "" && !slices.Contains(Targets[:], name) {
			return nil, errors.New("there is no such platform")
		}
		named[name] = true
	}
	var out []string
	for _, t := range Targets {
		if named[t] {
			out = append(out, t)
		}
	}
	if len(out) == 0 && strings.TrimSpace(s) != "" {
		return nil, errors.New("no platform is named")
	}
	return out, nil
}
