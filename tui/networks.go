package tui

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/tui/form"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// maxNamed is how many VMs of a port group are named.
const maxNamed = 6

// networkFields are questions of the options' page: each port group of the chosen
// VMs once, with the VMs that are on it. The answer is the network of the libvirt
// domain.
func (w *wizard) networkFields() []*form.Field {
	on := map[string][]string{}
	for _, vm := range w.chosen {
		for _, group := range vm.Networks {
			if names := on[group]; len(names) == 0 || names[len(names)-1] != vm.DisplayName() {
				on[group] = append(names, vm.DisplayName())
			}
		}
	}
	w.groups = sortedGroups(w.chosen)
	var fields []*form.Field
	for _, group := range w.groups {
		if w.networks[group] == nil {
			w.networks[group] = new(string)
		}
		f := form.Text("Network "+group, w.networks[group],
			"VMs: "+few(on[group])+". The libvirt network for their cards, or bridge:NAME; left empty it is \"default\".")
		f.Hidden = func() bool { return job.Format(w.format).Streams() }
		fields = append(fields, f)
	}
	return fields
}

// sortedGroups lists the port groups of vms, each once.
func sortedGroups(vms []vsphere.VM) []string {
	var out []string
	for _, vm := range vms {
		out = append(out, vm.Networks...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// few names the first of many.
func few(names []string) string {
	if more := len(names) - maxNamed; more > 0 {
		return strings.Join(names[:maxNamed], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(names, ", ")
}

// networkMap is what was answered for the port groups of the chosen VMs.
func (w *wizard) networkMap() map[string]string {
	var out map[string]string
	for _, group := range w.groups {
		if network := strings.TrimSpace(*w.networks[group]); network != "" {
			if out == nil {
				out = map[string]string{}
			}
			out[group] = network
		}
	}
	return out
}
