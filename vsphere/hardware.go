package vsphere

import (
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// portgroupMark begins NIC.Network while it holds the key of a distributed
// port group whose name is still to be looked up.
const portgroupMark = "portgroup:"

// controller is where a disk is attached.
type controller struct {
	kind   string // PVSCSI and so on
	bus    int
	shared bool // several VMs may be attached
}

// controllersOf finds the disk controllers among devices, by device key.
func controllersOf(devices []types.BaseVirtualDevice) map[int32]controller {
	out := map[int32]controller{}
	for _, d := range devices {
		var kind string
		switch d.(type) {
		case *types.ParaVirtualSCSIController:
			kind = PVSCSI
		case *types.VirtualLsiLogicSASController:
			kind = LSISAS
		case *types.VirtualBusLogicController:
			kind = BusLogic
		case *types.VirtualLsiLogicController:
			kind = LSILogic
		case types.BaseVirtualSATAController:
			kind = SATA
		case *types.VirtualNVMEController:
			kind = NVMe
		case *types.VirtualIDEController:
			kind = IDE
		default:
			continue
		}
		base := d.(types.BaseVirtualController).GetVirtualController()
		ctl := controller{kind: kind, bus: int(base.BusNumber)}
		switch v := d.(type) {
		case types.BaseVirtualSCSIController:
			sharing := v.GetVirtualSCSIController().SharedBus
			ctl.shared = sharing != "" && sharing != types.VirtualSCSISharingNoSharing
		case *types.VirtualNVMEController:
			ctl.shared = v.SharedBus != "" && v.SharedBus != string(types.VirtualNVMEControllerSharingNoSharing)
		}
		out[base.Key] = ctl
	}
	return out
}

// disksOf lists the virtual disks among devices, in their order.
func disksOf(devices []types.BaseVirtualDevice) []Disk {
	controllers := controllersOf(devices)
	var out []Disk
	for _, dev := range devices {
		v, ok := dev.(*types.VirtualDisk)
		if !ok {
			continue
		}
		d := Disk{Key: v.Key, Label: label(&v.VirtualDevice), Capacity: v.CapacityInBytes}
		if d.Capacity == 0 {
			d.Capacity = v.CapacityInKB * 1024
		}
		if v.UnitNumber != nil {
			d.Unit = int(*v.UnitNumber)
		}
		ctl := controllers[v.ControllerKey]
		d.Controller, d.Bus, d.Shared = ctl.kind, ctl.bus, ctl.shared
		d.setBacking(v.Backing)
		out = append(out, d)
	}
	return out
}

// setBacking takes in what lies behind a disk.
func (d *Disk) setBacking(backing types.BaseVirtualDeviceBackingInfo) {
	if f, ok := backing.(types.BaseVirtualDeviceFileBackingInfo); ok {
		d.Datastore, d.File = splitDatastorePath(f.GetVirtualDeviceFileBackingInfo().FileName)
	}
	switch b := backing.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		d.Mode, d.Thin, d.UUID, d.ChangeID = b.DiskMode, isTrue(b.ThinProvisioned), b.Uuid, b.ChangeId
		d.Shared = d.Shared || multiWriter(b.Sharing)
		d.Encrypted, d.Parent = b.KeyId != nil, b.Parent != nil
	case *types.VirtualDiskSeSparseBackingInfo:
		d.Mode, d.Thin, d.UUID, d.ChangeID = b.DiskMode, true, b.Uuid, b.ChangeId
		d.Encrypted, d.Parent = b.KeyId != nil, b.Parent != nil
	case *types.VirtualDiskSparseVer2BackingInfo:
		d.Mode, d.Thin, d.UUID, d.ChangeID = b.DiskMode, true, b.Uuid, b.ChangeId
		d.Encrypted, d.Parent = b.KeyId != nil, b.Parent != nil
	case *types.VirtualDiskFlatVer1BackingInfo:
		d.Mode, d.Parent = b.DiskMode, b.Parent != nil
	case *types.VirtualDiskSparseVer1BackingInfo:
		d.Mode, d.Thin, d.Parent = b.DiskMode, true, b.Parent != nil
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
		d.Mode, d.UUID, d.ChangeID = b.DiskMode, b.Uuid, b.ChangeId
		d.RDM, d.Parent = b.CompatibilityMode, b.Parent != nil
		d.Shared = d.Shared || multiWriter(b.Sharing)
		if d.RDM == "" {
			d.RDM = string(types.VirtualDiskCompatibilityModePhysicalMode)
		}
	case *types.VirtualDiskRawDiskVer2BackingInfo:
		d.RDM = string(types.VirtualDiskCompatibilityModePhysicalMode)
	case *types.VirtualDiskPartitionedRawDiskVer2BackingInfo:
		d.RDM = string(types.VirtualDiskCompatibilityModePhysicalMode)
	}
}

func multiWriter(sharing string) bool {
	return sharing == string(types.VirtualDiskSharingSharingMultiWriter)
}

// splitDatastorePath splits "[datastore] folder/file.vmdk". The datastore's
// name ends at the first bracket that a space or the end follows.
func splitDatastorePath(s string) (datastore, file string) {
	rest, ok := strings.CutPrefix(s, "[")
	if !ok {
		return "", s
	}
	if ds, f, ok := strings.Cut(rest, "] "); ok {
		return ds, f
	}
	return strings.TrimSuffix(rest, "]"), ""
}

// label is what a person calls the device.
func label(d *types.VirtualDevice) string {
	if d.DeviceInfo != nil {
		return d.DeviceInfo.GetDescription().Label
	}
	return ""
}

// nicsOf lists the network adapters among devices, in their order.
func nicsOf(devices []types.BaseVirtualDevice) []NIC {
	var out []NIC
	for _, dev := range devices {
		v, ok := dev.(types.BaseVirtualEthernetCard)
		if !ok {
			continue
		}
		card := v.GetVirtualEthernetCard()
		n := NIC{
			Key: card.Key, Label: label(&card.VirtualDevice), Type: nicType(dev),
			MAC: strings.ToLower(card.MacAddress), Network: networkOf(card.Backing),
		}
		if c := card.Connectable; c != nil {
			n.Connected = c.Connected || c.StartConnected
		}
		out = append(out, n)
	}
	return out
}

func nicType(dev types.BaseVirtualDevice) string {
	switch dev.(type) {
	case types.BaseVirtualVmxnet3: // its PVRDMA variant too
		return "vmxnet3"
	case types.BaseVirtualVmxnet:
		return "vmxnet2"
	case *types.VirtualE1000e:
		return "e1000e"
	case *types.VirtualE1000:
		return "e1000"
	case *types.VirtualPCNet32:
		return "pcnet32"
	case *types.VirtualSriovEthernetCard:
		return "sriov"
	}
	return "unknown"
}

func networkOf(backing types.BaseVirtualDeviceBackingInfo) string {
	switch b := backing.(type) {
	case types.BaseVirtualDeviceDeviceBackingInfo:
		return unescapeName(b.GetVirtualDeviceDeviceBackingInfo().DeviceName)
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		return portgroupMark + b.Port.PortgroupKey
	case *types.VirtualEthernetCardOpaqueNetworkBackingInfo:
		return b.OpaqueNetworkId
	}
	return ""
}
