// Package vmsearch is how VMs are found by what one types, on every screen and page
// alike: which of their fields are searched and how they rank (package fuzzy), the words
// for their states, and their order without a search.
package vmsearch

import (
	"cmp"
	"path"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/internal/fuzzy"
	"github.com/hyper2kvm/hyper2kvm/internal/natural"
)

// VM is what is searched of a VM. Texts are as they are shown.
type VM struct {
	Name, Path  string // the path is whole, so that one may be pasted
	Guest, Host string
	Datastores  []string
	Power       string // poweredOn, poweredOff or suspended, as vSphere says it
	Firmware    string // bios or efi
	Connection  string // "connected", or "" where that is not known, unless something is wrong
	Template    bool
	Snapshots   int
}

// New returns an index of VMs. Names are searched first, and besides whatever else one
// may know of a VM.
func New(vms []VM) *fuzzy.Index {
	items := make([][]string, len(vms))
	for i, vm := range vms {
		items[i] = []string{vm.Name, vm.Path, vm.Guest, vm.Host, strings.Join(vm.Datastores, " "), vm.tags()}
	}
	return fuzzy.NewIndex(items)
}

// tags are the words by which a VM's state can be searched.
func (vm VM) tags() string {
	tags := []string{"is:" + vm.Firmware}
	switch vm.Power {
	case "poweredOn":
		tags = append(tags, "is:on", "running")
	case "poweredOff":
		tags = append(tags, "is:off", "stopped")
	case "suspended":
		tags = append(tags, "is:suspended")
	}
	if vm.Template {
		tags = append(tags, "is:template")
	}
	if vm.Snapshots > 0 {
		tags = append(tags, "is:snapshot")
	}
	if vm.Connection != "" && vm.Connection != "connected" {
		tags = append(tags, "is:down")
	}
	return strings.Join(tags, " ")
}

// Key is where a VM stands without a search. Make it with [KeyOf].
type Key struct{ name, folder, exact string }

// KeyOf returns the key of a VM with that name and path.
func KeyOf(name, vmPath string) Key {
	return Key{natural.Fold(name), natural.Fold(path.Dir(vmPath)), name}
}

// Compare orders VMs in the natural order of their names, and those of one name by
// folder.
func (k Key) Compare(o Key) int {
	return cmp.Or(natural.CompareFolded(k.name, o.name), natural.CompareFolded(k.folder, o.folder), strings.Compare(k.exact, o.exact))
}

// CompareFolders orders by folder alone.
func (k Key) CompareFolders(o Key) int { return natural.CompareFolded(k.folder, o.folder) }
