package picker

import (
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/tui/cell"
	"github.com/hyper2kvm/hyper2kvm/tui/fuzzy"
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

// finder searches names first, and besides whatever else one may know of a VM. The
// path is whole, so that one may be pasted.
func finder(vms []vsphere.VM, rows []row) *fuzzy.Finder {
	items := make([][]string, len(vms))
	for i, vm := range vms {
		items[i] = []string{
			rows[i].name, cell.Safe(vm.Path), rows[i].guest, cell.Safe(vm.HostName), cell.Safe(strings.Join(vm.Datastores, " ")), stateTags(vm),
		}
	}
	return fuzzy.NewIndex(items).Finder()
}

// stateTags are the words by which a VM's state can be searched.
func stateTags(vm vsphere.VM) string {
	tags := []string{"is:" + vm.Firmware}
	switch vm.Power {
	case vsphere.PoweredOn:
		tags = append(tags, "is:on", "running")
	case vsphere.PoweredOff:
		tags = append(tags, "is:off", "stopped")
	case vsphere.Suspended:
		tags = append(tags, "is:suspended")
	}
	if vm.Template {
		tags = append(tags, "is:template")
	}
	if vm.Snapshots > 0 {
		tags = append(tags, "is:snapshot")
	}
	if vm.ConnectionState != "" && vm.ConnectionState != "connected" {
		tags = append(tags, "is:down")
	}
	return strings.Join(tags, " ")
}
