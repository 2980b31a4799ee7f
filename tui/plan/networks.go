package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// networkSteps says where the cards of the VMs will be, a sentence for each network
// and one for all port groups without one.
func networkSteps(vms []vsphere.VM, o job.Options) []string {
	if o.Format.Streams() {
		return nil
	}
	on := map[string][]string{} // network -> port groups
	var networks, rest []string
	for _, vm := range vms {
		for _, group := range vm.Networks {
			network, mapped := o.NetworkMap[group]
			if !mapped && !slices.Contains(rest, group) {
				rest = append(rest, group)
			}
			if !mapped || slices.Contains(on[network], group) {
				continue
			}
			if on[network] == nil {
				networks = append(networks, network)
			}
			on[network] = append(on[network], group)
		}
	}
	var steps []string
	for _, network := range networks {
		what := fmt.Sprintf("the libvirt network %q", network)
		if bridge, ok := strings.CutPrefix(network, job.BridgePrefix); ok {
			what = fmt.Sprintf("the bridge %q", bridge)
		}
		steps = append(steps, fmt.Sprintf("Cards on %s are on %s in the domain.", Quoted(on[network]), what))
	}
	if len(rest) > 0 {
		steps = append(steps, UnmappedText(rest))
	}
	return steps
}

// UnmappedText says what becomes of cards on port groups for which no network was
// named, once for all of them.
func UnmappedText(groups []string) string {
	slices.Sort(groups)
	return fmt.Sprintf("No libvirt network was named for %s: cards there are on \"default\" (-network-map, network_map in a job).", Quoted(slices.Compact(groups)))
}

// Quoted lists names in quotes.
func Quoted(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = fmt.Sprintf("%q", n)
	}
	return strings.Join(out, ", ")
}
