package migrate

import (
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/kvm"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// maxDomainStem bounds what is kept of a VM's name, in bytes, where something is
// appended to it: libvirt makes file names of the whole.
const maxDomainStem = 180

// domainName is what vm is called at libvirt, among all VMs of the inventory. Two
// that are called alike would be one domain there, so each of them has the beginning
// of its instance UUID in its name: that is the same whichever of them is exported,
// and when.
func domainName(vm vsphere.VM, all []vsphere.VM) string {
	name := kvm.DomainName(vm.DisplayName())
	if !slices.ContainsFunc(all, func(other vsphere.VM) bool {
		return other.Ref != vm.Ref && kvm.DomainName(other.DisplayName()) == name
	}) {
		return name
	}
	id := vm.Ref
	if first, _, ok := strings.Cut(vm.InstanceUUID, "-"); ok {
		id = first
	}
	for len(name) > maxDomainStem {
		runes := []rune(name)
		name = string(runes[:len(runes)-1])
	}
	return name + "-" + id
}

// unmapped lists the port groups of the VM's network cards for which the job names
// no network, each once, in the order of the cards.
func (r *run) unmapped() []string {
	var out []string
	for _, n := range r.vm.NICs {
		if _, mapped := r.def.Options.Network(n.Network); !mapped && n.Network != "" && !slices.Contains(out, n.Network) {
			out = append(out, n.Network)
		}
	}
	return out
}
