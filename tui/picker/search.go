package picker

import (
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/internal/fuzzy"
	"github.com/hyper2kvm/hyper2kvm/internal/vmsearch"
	"github.com/hyper2kvm/hyper2kvm/tui/cell"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// selectedTag is the word for what is marked.
const selectedTag = "is:selected"

// Filter returns those of vms that a search for query finds, in the order that they
// come in. Unlike on the screen, where the best come first, letters are not spread:
// words must stand as they are.
func Filter(vms []vsphere.VM, query string) []vsphere.VM {
	rows := make([]row, len(vms))
	for i, vm := range vms {
		rows[i] = rowOf(vm)
	}
	found := slices.Sorted(slices.Values(finder(vms, rows).Literally().Find(query)))
	out := make([]vsphere.VM, len(found))
	for i, at := range found {
		out[i] = vms[at]
	}
	return out
}

// finder searches what the rows show, and more of the VMs.
func finder(vms []vsphere.VM, rows []row) *fuzzy.Finder {
	searched := make([]vmsearch.VM, len(vms))
	for i, vm := range vms {
		searched[i] = vmsearch.VM{
			Name: rows[i].name, Path: cell.Safe(vm.Path), Guest: rows[i].guest, Host: cell.Safe(vm.HostName),
			Datastores: []string{cell.Safe(strings.Join(vm.Datastores, " "))},
			Power:      vm.Power, Firmware: vm.Firmware, Connection: vm.ConnectionState, Template: vm.Template, Snapshots: vm.Snapshots,
		}
	}
	return vmsearch.New(searched).Finder()
}
