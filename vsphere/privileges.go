package vsphere

import (
	"context"
	"fmt"
	"slices"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// privilege is a right that an export needs, beside seeing the inventory, which
// every role of vSphere includes (System.Anonymous, System.View, System.Read).
type privilege struct {
	id string
	// on says which objects it is needed on; none where it is not needed.
	on func(x *examination) []object
	// step is what the export cannot do without it.
	step string
	// spare says what is done in its place, and that it is done without asking:
	// then its absence is a warning. "" where there is nothing.
	spare func(o PreflightOptions) string
}

// object is one on which a privilege is asked for.
type object struct {
	ref  types.ManagedObjectReference
	name string // for people: "the VM", or "the datastore"
}

// privileges is every privilege that any export needs (F-PRIV-1 to F-PRIV-5). It
// is what docs/vsphere-permissions.md and the scripts in deploy/vsphere say, which
// a test compares.
var privileges = []privilege{
	{id: "VApp.Export", step: "open the export lease",
		on: func(x *examination) []object { return x.onVM() }},
	{id: "VirtualMachine.Interact.PowerOff", step: "shut the guest down or power the VM off",
		on: func(x *examination) []object { return x.onVM(x.stops) }},
	{id: "VirtualMachine.Interact.PowerOn", step: "power the VM on again when the export fails",
		on: func(x *examination) []object { return x.onVM(x.stops) }},
	{id: "VirtualMachine.State.CreateSnapshot", step: "take the temporary snapshot",
		on: func(x *examination) []object { return x.onVM(x.bySnap) }},
	{id: "VirtualMachine.State.RemoveSnapshot", step: "remove the temporary snapshot",
		on: func(x *examination) []object { return x.onVM(x.bySnap) }},
	{id: "VirtualMachine.Config.AddRemoveDevice", step: "take CD/DVD drives out and put them back",
		on: func(x *examination) []object { return x.onVM(x.removesDrives(), !x.on) }},
	{id: "VirtualMachine.Interact.SetCDMedia", step: "eject the CD/DVD image and put it back",
		on: func(x *examination) []object { return x.onVM(x.ejects()) }},
	{id: "VirtualMachine.Interact.DeviceConnection", step: "disconnect CD/DVD drives and connect them again",
		on: func(x *examination) []object { return x.onVM(x.ejects(), x.on) }},
	{id: "VirtualMachine.Config.EditDevice", step: "disconnect CD/DVD drives and connect them again",
		on: func(x *examination) []object { return x.onVM(x.ejects(), x.on) }},
	{id: "Datastore.Browse", step: "put the CD/DVD image back",
		on: func(x *examination) []object { return x.datastores(x.ejects(), cdromDevice) }},
	{id: "Datastore.Browse", step: "read disks from the datastore",
		on:    func(x *examination) []object { return x.datastores(x.opts.Datastore, diskDevice) },
		spare: throughTheLease},
	{id: "Datastore.FileManagement", step: "read disks from the datastore",
		on:    func(x *examination) []object { return x.datastores(x.opts.Datastore, diskDevice) },
		spare: throughTheLease},
	{id: "VirtualMachine.Provisioning.DiskRandomRead", step: "learn which areas of the disks hold data",
		on:    func(x *examination) []object { return x.onVM(x.opts.Datastore, x.tracksChanges()) },
		spare: func(PreflightOptions) string { return "the disks are read whole, with their holes" }},
	{id: "Global.ManageCustomFields", step: "make the custom attribute " + MarkAttribute,
		on: func(x *examination) []object { return x.root(x.opts.Mark.Attribute != "" && !x.attribute) }},
	{id: "Global.SetCustomField", step: "set the custom attribute " + MarkAttribute,
		on: func(x *examination) []object { return x.onVM(x.opts.Mark.Attribute != "") }},
	{id: "VirtualMachine.Config.Rename", step: "rename the VM once it is migrated",
		on: func(x *examination) []object { return x.onVM(x.opts.Mark.Rename != "") }},
	{id: "VirtualMachine.Config.EditDevice", step: "keep network cards from connecting at power-on",
		on: func(x *examination) []object { return x.onVM(x.opts.Mark.Disconnect) }},
	{id: "VirtualMachine.Interact.DeviceConnection", step: "keep network cards from connecting at power-on",
		on: func(x *examination) []object { return x.onVM(x.opts.Mark.Disconnect) }},
	{id: "VirtualMachine.Provisioning.GetVmFiles", step: "get a ticket to read disks over port 902",
		on: func(x *examination) []object { return x.onVM(x.opts.NFC902) },
		spare: func(PreflightOptions) string {
			return "a ticket is asked for by VirtualMachine.Provisioning.DiskRandomRead"
		}},
}

func throughTheLease(o PreflightOptions) string {
	if o.OrLease {
		return "the disks come through the export lease"
	}
	return ""
}

// root is the root folder of the inventory, if wanted.
func (x *examination) root(wanted bool) []object {
	if !wanted {
		return nil
	}
	return []object{{x.rootFolder, "the root of the inventory"}}
}

// onVM is the VM, if all conditions hold.
func (x *examination) onVM(conditions ...bool) []object {
	if slices.Contains(conditions, false) {
		return nil
	}
	return []object{{x.vm.Self, "the VM"}}
}

// removesDrives says whether there are CD/DVD drives to take out.
func (x *examination) removesDrives() bool { return x.opts.RemoveCDROM && len(cdroms(&x.vm)) > 0 }

// ejects says whether a CD/DVD drive with an image or a connection is among them.
func (x *examination) ejects() bool {
	return x.opts.RemoveCDROM && slices.ContainsFunc(cdroms(&x.vm), func(d *types.VirtualCdrom) bool { return hasImage(&d.VirtualDevice) })
}

func (x *examination) tracksChanges() bool {
	return x.vm.Config != nil && x.vm.Config.ChangeTrackingEnabled != nil && *x.vm.Config.ChangeTrackingEnabled
}

func diskDevice(d types.BaseVirtualDevice) bool {
	_, is := d.(*types.VirtualDisk)
	return is
}

func cdromDevice(d types.BaseVirtualDevice) bool {
	_, is := d.(*types.VirtualCdrom)
	return is
}

// datastores lists those that hold the files of the devices that which chooses, each
// once.
func (x *examination) datastores(wanted bool, which func(types.BaseVirtualDevice) bool) []object {
	if !wanted || x.vm.Config == nil {
		return nil
	}
	var out []object
	for _, dev := range x.vm.Config.Hardware.Device {
		file, is := dev.GetVirtualDevice().Backing.(types.BaseVirtualDeviceFileBackingInfo)
		if !which(dev) || !is {
			continue
		}
		ref := file.GetVirtualDeviceFileBackingInfo().Datastore
		if ref == nil || slices.ContainsFunc(out, func(o object) bool { return o.ref == *ref }) {
			continue
		}
		out = append(out, object{*ref, "the datastore"})
	}
	return out
}

// checkPrivileges asks for the rights that the export needs, and lists each that is
// missing with its object. A service that does not tell is given the benefit of the
// doubt.
func (c *Client) checkPrivileges(ctx context.Context, x *examination, vm VM) error {
	x.vm.Self = vmRef(vm.Ref)
	needs := make(map[object][]privilege)
	var objects []object // in the order of the table
	for _, p := range privileges {
		for _, o := range p.on(x) {
			if needs[o] == nil {
				objects = append(objects, o)
			}
			needs[o] = append(needs[o], p)
		}
	}
	for _, o := range objects { // one by one, for one that the user may not see must not hide the others
		missing, err := c.missing(ctx, o.ref, needs[o])
		if faultOf(err) != nil {
			c.log.Debug("privileges cannot be checked", "vm", vm.Path, "on", o.ref.String(), "reason", plainFault(err).Error())
			continue
		}
		if err != nil {
			return err
		}
		for _, p := range missing {
			c.tellMissing(ctx, x, p, o)
		}
	}
	return nil
}

// missing returns those of the privileges that the user lacks on an object.
func (c *Client) missing(ctx context.Context, on types.ManagedObjectReference, needed []privilege) (lacks []privilege, err error) {
	manager := c.session.vim.ServiceContent.AuthorizationManager
	if manager == nil {
		return nil, nil
	}
	req := types.HasPrivilegeOnEntities{This: *manager, Entity: []types.ManagedObjectReference{on}, SessionId: c.session.sessionKey()}
	for _, p := range needed {
		req.PrivId = append(req.PrivId, p.id)
	}
	res, err := methods.HasPrivilegeOnEntities(ctx, c.vim(), &req)
	if err != nil {
		return nil, err
	}
	granted := make(map[string]bool)
	for _, entity := range res.Returnval {
		for _, p := range entity.PrivAvailability {
			granted[p.PrivId] = p.IsGranted
		}
	}
	for _, p := range needed {
		if ok, told := granted[p.id]; told && !ok {
			lacks = append(lacks, p)
		}
	}
	return lacks, nil
}

// tellMissing adds the obstacle that a privilege is missing on an object.
func (c *Client) tellMissing(ctx context.Context, x *examination, p privilege, o object) {
	if o.ref.Type == "Datastore" {
		var store mo.Datastore
		if err := c.properties(ctx, o.ref, []string{"name"}, &store); err == nil {
			o.name += " " + store.Name
		}
	}
	text := fmt.Sprintf("this user lacks the privilege %s on %s, without which it cannot %s", p.id, o.name, p.step)
	const hint = "ask an administrator for a role that includes it (docs/vsphere-permissions.md)"
	if p.spare != nil {
		if instead := p.spare(x.opts); instead != "" {
			x.warn(CodePrivilege, text+"; "+instead, hint)
			return
		}
	}
	x.fail(CodePrivilege, text, hint)
}
