package vspheretest

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// CIM_ResourceAllocationSettingData resource types.
const (
	rasdCPU    = 3
	rasdMemory = 4
	rasdIDE    = 5
	rasdSCSI   = 6
	rasdNIC    = 10
	rasdCD     = 15
	rasdDisk   = 17
	rasdOther  = 20 // other storage: SATA and NVMe, told apart by subtype
)

// hardware adds an item for each device, controllers before what hangs on them.
func (b *ovfBuilder) hardware(vm *simulator.VirtualMachine, hw *ovfHardware) {
	add := func(it ovfItem) int {
		b.instance++
		it.InstanceID = b.instance
		hw.Items = append(hw.Items, it)
		return b.instance
	}
	cores := int32(1)
	if c := vm.Config.Hardware.NumCoresPerSocket; c != nil && *c > 0 {
		cores = *c
	}
	cpus := int64(vm.Config.Hardware.NumCPU)
	add(ovfItem{
		ResourceType: rasdCPU, AllocationUnits: "hertz * 10^6", VirtualQuantity: cpus,
		ElementName: fmt.Sprintf("%d virtual CPU(s)", cpus), Description: "Number of Virtual CPUs",
		CoresPerSocket: &ovfCores{Required: "false", Cores: cores},
	})
	memory := int64(vm.Config.Hardware.MemoryMB)
	add(ovfItem{
		ResourceType: rasdMemory, AllocationUnits: "byte * 2^20", VirtualQuantity: memory,
		ElementName: fmt.Sprintf("%dMB of memory", memory), Description: "Memory Size",
	})
	controllers := make(map[int32]int) // device key to instance
	for _, dev := range vm.Config.Hardware.Device {
		if it, ok := controllerItem(dev); ok {
			controllers[dev.GetVirtualDevice().Key] = add(it)
		}
	}
	for _, dev := range vm.Config.Hardware.Device {
		parent := controllers[dev.GetVirtualDevice().ControllerKey]
		switch d := dev.(type) {
		case *types.VirtualDisk:
			b.diskItem(d, parent, add)
		case *types.VirtualCdrom:
			b.cdItem(d, parent, add)
		case types.BaseVirtualEthernetCard:
			b.nicItem(vm, dev, add)
		}
	}
}

// controllerItem describes a storage controller; false for every other device.
func controllerItem(dev types.BaseVirtualDevice) (ovfItem, bool) {
	it := ovfItem{}
	switch dev.(type) {
	case *types.VirtualIDEController:
		it.ResourceType, it.ElementName = rasdIDE, "IDE Controller"
	case *types.ParaVirtualSCSIController:
		it.ResourceType, it.SubType, it.ElementName = rasdSCSI, "VirtualSCSI", "SCSI Controller"
	case *types.VirtualLsiLogicSASController:
		it.ResourceType, it.SubType, it.ElementName = rasdSCSI, "lsilogicsas", "SCSI Controller"
	case *types.VirtualLsiLogicController:
		it.ResourceType, it.SubType, it.ElementName = rasdSCSI, "lsilogic", "SCSI Controller"
	case *types.VirtualAHCIController:
		it.ResourceType, it.SubType, it.ElementName = rasdOther, "vmware.sata.ahci", "SATA Controller"
	case *types.VirtualNVMEController:
		it.ResourceType, it.SubType, it.ElementName = rasdOther, "vmware.nvme.controller", "NVME Controller"
	default:
		return it, false
	}
	bus := dev.(types.BaseVirtualController).GetVirtualController().BusNumber
	it.Address, it.Description = strconv.Itoa(int(bus)), it.ElementName
	it.ElementName = fmt.Sprintf("%s %d", it.ElementName, bus)
	return it, true
}

func (b *ovfBuilder) diskItem(dev *types.VirtualDisk, parent int, add func(ovfItem) int) {
	i := slices.IndexFunc(b.items, func(it *item) bool { return it.disk != nil && it.disk.key == dev.Key })
	if i < 0 || b.fileIDs[b.items[i].key] == "" {
		return // not part of the export
	}
	d := b.items[i].disk
	add(ovfItem{
		ResourceType: rasdDisk, AddressOnParent: strconv.Itoa(int(d.unit)), Parent: parent,
		ElementName: fmt.Sprintf("Hard Disk %d", d.index+1), HostResource: "ovf:/disk/" + diskID(d),
	})
}

func (b *ovfBuilder) cdItem(dev *types.VirtualCdrom, parent int, add func(ovfItem) int) {
	it := ovfItem{
		ResourceType: rasdCD, SubType: "vmware.cdrom.iso", Parent: parent, AddressOnParent: "0",
		AutomaticAllocation: "false", ElementName: "CD/DVD drive 1", Required: "false",
	}
	if dev.UnitNumber != nil {
		it.AddressOnParent = strconv.Itoa(int(*dev.UnitNumber))
	}
	for _, x := range b.items {
		if id := b.fileIDs[x.key]; x.object == b.guest.iso && id != "" {
			it.HostResource = "ovf:/file/" + id
		}
	}
	add(it)
}

func (b *ovfBuilder) nicItem(vm *simulator.VirtualMachine, dev types.BaseVirtualDevice, add func(ovfItem) int) {
	const network = "VM Network"
	if len(b.envelope.Networks.Networks) == 0 {
		b.envelope.Networks = ovfNetworks{
			Info: "The list of logical networks", Networks: []ovfNetwork{{Name: network, Description: "The " + network + " network"}},
		}
	}
	card := dev.(types.BaseVirtualEthernetCard).GetVirtualEthernetCard()
	it := ovfItem{
		ResourceType: rasdNIC, AutomaticAllocation: "true", Connection: network,
		ElementName: card.DeviceInfo.GetDescription().Label, SubType: "VmxNet3",
		AddressOnParent: strconv.Itoa(int(card.Key - keyNIC + nicUnitOff)),
	}
	switch dev.(type) {
	case *types.VirtualE1000e:
		it.SubType = "E1000e"
	case *types.VirtualE1000:
		it.SubType = "E1000"
	}
	if slices.Contains(b.params.ExportOption, "mac") {
		it.Address = card.MacAddress
	}
	add(it)
}
