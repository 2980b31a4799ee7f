package vsphere

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/vsphere/internal/collector"
)

// pageSize is how many objects one answer of the property collector holds.
const pageSize = 2000

// listed are the properties of a VM that a list shows. One property costs about
// as much as three fields of a structure, so few are asked for, and a whole one
// where several of its fields are of use. Devices are not among them: they are
// most of what vSphere knows of a VM.
var listed = []string{"name", "runtime.powerState", "summary.config", "summary.storage.committed"}

// named are the properties of a VM by which it can be referred to.
var named = []string{"name", "config.instanceUuid", "config.uuid"}

// containers are the types that paths and names come from, and the property
// that lists the VMs in, on or under each: one list costs a third of what a
// property of each VM does. Types and their subtypes are both named, so that no
// service need know of inheritance.
var containers = []struct{ kind, vms string }{
	{"Folder", "childEntity"}, {"VirtualApp", "vm"}, {"HostSystem", "vm"}, {"Datastore", "vm"},
	{"Network", "vm"}, {"DistributedVirtualPortgroup", "vm"}, {"OpaqueNetwork", "vm"},
	{"Datacenter", ""}, {"ComputeResource", ""}, {"ClusterComputeResource", ""}, {"ResourcePool", ""},
}

// node is an inventory object other than a VM.
type node struct {
	kind   string
	name   string
	parent string // managed object id, "" at the top
}

// inventory is what one walk has found.
type inventory struct {
	nodes  map[string]node
	vms    []VM
	up     map[string]string   // VM -> parent
	hosts  map[string]string   // VM -> host
	stores map[string][]string // VM -> datastores
	nets   map[string][]string // VM -> networks
	facts  map[string]*facts   // VM -> what a survey wants beside, nil in a list
	paths  map[string]string   // container -> path, filled as needed
	seen   func(vms int)       // is told how many VMs there are; may be nil
}

func newInventory() *inventory {
	return &inventory{
		nodes: map[string]node{}, up: map[string]string{}, hosts: map[string]string{},
		stores: map[string][]string{}, nets: map[string][]string{}, paths: map[string]string{},
	}
}

// List returns every VM that this user may see, ordered by path. It costs one
// container view and one paged walk of the property collector, and fills in
// what [VM] says a list does.
func (c *Client) List(ctx context.Context) ([]VM, error) {
	inv, err := c.walk(ctx, newInventory, listed)
	if err != nil {
		return nil, err
	}
	return inv.vms, nil
}

// maxWalks bounds how often a walk through the inventory is begun.
const maxWalks = 3

// walk reads the inventory with the given properties of VMs. When the session
// ends on the way, which takes the view and the page tokens with it, or a page
// is lost, it starts again.
func (c *Client) walk(ctx context.Context, begin func() *inventory, props []string) (*inventory, error) {
	for walks := 1; ; walks++ {
		gen := c.session.generation()
		inv := begin()
		err := c.walkOnce(ctx, inv, props)
		if err == nil {
			return inv, nil
		}
		lost := (*collector.PageError)(nil)
		again := c.session.generation() != gen || errors.As(err, &lost)
		if !again || walks == maxWalks || ctx.Err() != nil {
			return nil, translate("read the inventory", c.cfg.URL.Host, err)
		}
	}
}

func (c *Client) walkOnce(ctx context.Context, inv *inventory, props []string) error {
	content := c.session.vim.ServiceContent
	kinds := []string{"VirtualMachine"}
	sets := []types.PropertySpec{{Type: "VirtualMachine", PathSet: props}}
	for _, k := range containers {
		paths := []string{"name", "parent"}
		if k.vms != "" {
			paths = append(paths, k.vms)
		}
		kinds = append(kinds, k.kind)
		sets = append(sets, types.PropertySpec{Type: k.kind, PathSet: paths})
	}
	view, err := methods.CreateContainerView(ctx, c.vim(), &types.CreateContainerView{
		This:      *content.ViewManager,
		Container: content.RootFolder,
		Type:      kinds,
		Recursive: true,
	})
	if err != nil {
		return err
	}
	defer func() {
		call, cancel := bounded(ctx, grace)
		defer cancel()
		_, _ = methods.DestroyView(call, c.vim(), &types.DestroyView{This: view.Returnval}) // it ends with the session at the latest
	}()

	err = c.pages(ctx, types.RetrievePropertiesEx{
		This: content.PropertyCollector,
		SpecSet: []types.PropertyFilterSpec{{
			PropSet: sets,
			ObjectSet: []types.ObjectSpec{{
				Obj:  view.Returnval,
				Skip: types.NewBool(true),
				SelectSet: []types.BaseSelectionSpec{&types.TraversalSpec{
					SelectionSpec: types.SelectionSpec{Name: "view"},
					Type:          "ContainerView",
					Path:          "view",
				}},
			}},
		}},
		Options: types.RetrieveOptions{MaxObjects: pageSize},
	}, inv.add)
	if err != nil {
		return err
	}
	if err := c.askStrays(ctx, inv); err != nil {
		return err
	}
	inv.finish()
	return nil
}

// askStrays asks for parents and hosts of VMs that no container has listed:
// those right below the root of what this user may see, for one.
func (c *Client) askStrays(ctx context.Context, inv *inventory) error {
	var objects []types.ObjectSpec
	for i := range inv.vms {
		if ref := inv.vms[i].Ref; inv.up[ref] == "" || inv.hosts[ref] == "" {
			objects = append(objects, types.ObjectSpec{Obj: vmRef(ref)})
		}
	}
	if len(objects) == 0 {
		return nil
	}
	return c.pages(ctx, types.RetrievePropertiesEx{
		This: c.session.vim.ServiceContent.PropertyCollector,
		SpecSet: []types.PropertyFilterSpec{{
			PropSet:   []types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{"parent", "parentVApp", "runtime.host"}}},
			ObjectSet: objects,
		}},
		Options: types.RetrieveOptions{MaxObjects: pageSize},
	}, func(o collector.Object) {
		for name, val := range o.Properties() {
			switch ref := val.Text(); {
			case name == "runtime.host":
				inv.hosts[o.Ref] = ref
			case inv.up[o.Ref] == "":
				inv.up[o.Ref] = ref
			}
		}
	})
}

// pages runs a paged query of the property collector and gives each object to
// take, in order. A page that vSphere has refused is that refusal; one that did
// not come is a [*collector.PageError].
func (c *Client) pages(ctx context.Context, query types.RetrievePropertiesEx, take func(collector.Object)) error {
	err := collector.Walk(ctx, c.session.post, query, dull, take)
	if page := (*collector.PageError)(nil); errors.As(err, &page) && outcomeOf(page.Err, true) == answered {
		return page.Err
	}
	return err
}

// add takes in one object.
func (inv *inventory) add(o collector.Object) {
	if o.Kind == "VirtualMachine" {
		vm := VM{Ref: o.Ref}
		for name, val := range o.Properties() {
			vm.set(name, val)
		}
		if inv.facts != nil {
			inv.facts[vm.Ref] = factsOf(o, &vm)
		}
		inv.vms = append(inv.vms, vm)
		if inv.seen != nil {
			inv.seen(len(inv.vms))
		}
		return
	}
	n := node{kind: o.Kind}
	for name, val := range o.Properties() {
		switch name {
		case "name":
			n.name = val.Text()
		case "parent":
			n.parent = val.Text()
		default:
			inv.link(o, val)
		}
	}
	inv.nodes[o.Ref] = n
}

// link takes in which VMs a container lists.
func (inv *inventory) link(container collector.Object, list collector.Element) {
	for child := range list.Children() {
		switch vm := child.Text(); {
		case child.RefType() != "VirtualMachine":
		case container.Kind == "HostSystem":
			inv.hosts[vm] = container.Ref
		case container.Kind == "Datastore":
			inv.stores[vm] = append(inv.stores[vm], container.Ref)
		case container.Kind == "Network", container.Kind == "DistributedVirtualPortgroup", container.Kind == "OpaqueNetwork":
			inv.nets[vm] = append(inv.nets[vm], container.Ref)
		default:
			inv.up[vm] = container.Ref
		}
	}
}

// set takes in one property of [listed] or [named].
func (vm *VM) set(name string, val collector.Element) {
	switch name {
	case "name":
		vm.Name = val.Text()
	case "config.instanceUuid":
		vm.InstanceUUID = val.Text()
	case "config.uuid":
		vm.BIOSUUID = val.Text()
	case "runtime.powerState":
		vm.Power = val.Text()
	case "summary.storage.committed":
		vm.CommittedBytes = val.Int()
	case "summary.config":
		vm.InstanceUUID, vm.BIOSUUID = val.Value("instanceUuid"), val.Value("uuid")
		vm.GuestID, vm.GuestFullName = val.Value("guestId"), val.Value("guestFullName")
		vm.CPUs, vm.MemoryMiB = int(val.Number("numCpu")), val.Number("memorySizeMB")
		vm.DiskCount, vm.Template = int(val.Number("numVirtualDisks")), val.Value("template") == "true"
	}
}

func countSnapshots(trees []types.VirtualMachineSnapshotTree) int {
	n := len(trees)
	for i := range trees {
		n += countSnapshots(trees[i].ChildSnapshotList)
	}
	return n
}

// finish gives every VM its path and the names of what it refers to.
func (inv *inventory) finish() {
	for i := range inv.vms {
		inv.complete(&inv.vms[i])
	}
	slices.SortFunc(inv.vms, func(a, b VM) int {
		if d := strings.Compare(a.Path, b.Path); d != 0 {
			return d
		}
		return strings.Compare(a.Ref, b.Ref)
	})
}

func (inv *inventory) complete(vm *VM) {
	up := inv.up[vm.Ref]
	vm.Path = inv.path(up, 0) + "/" + vm.Name
	vm.Datacenter = inv.datacenter(up)
	vm.Host = inv.hosts[vm.Ref]
	vm.HostName = inv.nodes[vm.Host].name
	vm.Datastores = nil
	for _, ref := range inv.stores[vm.Ref] {
		vm.Datastores = append(vm.Datastores, inv.nodes[ref].name)
	}
	slices.Sort(vm.Datastores)
	vm.Networks = nil
	for _, ref := range inv.nets[vm.Ref] {
		vm.Networks = append(vm.Networks, unescapeName(inv.nodes[ref].name))
	}
	slices.Sort(vm.Networks)
}

// maxDepth stops a walk up an inventory that goes in circles.
const maxDepth = 100

// path is the inventory path of a container: the names from below the root
// folder on, each as vSphere stores it (F-INV-1).
func (inv *inventory) path(ref string, depth int) string {
	n, ok := inv.nodes[ref]
	if !ok || depth > maxDepth { // the root folder is no part of a path
		return ""
	}
	if p, ok := inv.paths[ref]; ok {
		return p
	}
	p := inv.path(n.parent, depth+1) + "/" + n.name
	inv.paths[ref] = p
	return p
}

// datacenter is the path of the datacenter above ref.
func (inv *inventory) datacenter(ref string) string {
	for range maxDepth {
		n, ok := inv.nodes[ref]
		if !ok {
			break
		}
		if n.kind == "Datacenter" {
			return inv.path(ref, 0)
		}
		ref = n.parent
	}
	return ""
}

// DisplayName is the name as people know it: / for %2f, \ for %5c, % for %25
// (F-INV-1).
func (vm VM) DisplayName() string { return unescapeName(vm.Name) }

var nameUnescaper = strings.NewReplacer("%2f", "/", "%2F", "/", "%5c", `\`, "%5C", `\`, "%25", "%")

func unescapeName(s string) string { return nameUnescaper.Replace(s) }
