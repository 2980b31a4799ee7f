package vsphere

import (
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/vsphere/internal/collector"
)

// Devices of a survey. They are read as far as they matter to an export, into the
// types that the rest of this package judges, so that there is one judge.

// dull are types of devices that every VM has and that do not matter to an export.
func dull(kind string) bool {
	switch kind {
	case "VirtualPS2Controller", "VirtualPCIController", "VirtualSIOController", "VirtualKeyboard", "VirtualPointingDevice",
		"VirtualMachineVideoCard", "VirtualMachineVMCIDevice", "VirtualUSBXHCIController", "VirtualUSBController", "VirtualHdAudioCard", "VirtualWDT":
		return true
	}
	return false
}

// devicesOf reads an array of virtual devices.
func devicesOf(list collector.Element) []types.BaseVirtualDevice {
	var out []types.BaseVirtualDevice
	for el := range list.Children() {
		if d := deviceOf(el); d != nil {
			out = append(out, d)
		}
	}
	return out
}

// deviceOf reads one device, nil when it does not matter.
func deviceOf(el collector.Element) types.BaseVirtualDevice {
	kind := el.Kind()
	switch kind {
	case "VirtualDisk":
		return &types.VirtualDisk{
			VirtualDevice: partsOf(el), CapacityInKB: el.Number("capacityInKB"), CapacityInBytes: el.Number("capacityInBytes"),
		}
	case "VirtualTPM":
		return &types.VirtualTPM{VirtualDevice: partsOf(el)}
	case "VirtualCdrom":
		return &types.VirtualCdrom{VirtualDevice: partsOf(el)}
	case "VirtualFloppy":
		return &types.VirtualFloppy{VirtualDevice: partsOf(el)}
	}
	if d := controllerOf(kind, el); d != nil {
		return d
	}
	return cardOf(kind, el)
}

// controllerOf reads a controller of disks.
func controllerOf(kind string, el collector.Element) types.BaseVirtualDevice {
	base := types.VirtualController{VirtualDevice: types.VirtualDevice{Key: int32(el.Number("key"))}, BusNumber: int32(el.Number("busNumber"))}
	scsi := types.VirtualSCSIController{VirtualController: base, SharedBus: types.VirtualSCSISharing(el.Value("sharedBus"))}
	switch kind {
	case "ParaVirtualSCSIController":
		return &types.ParaVirtualSCSIController{VirtualSCSIController: scsi}
	case "VirtualLsiLogicSASController":
		return &types.VirtualLsiLogicSASController{VirtualSCSIController: scsi}
	case "VirtualBusLogicController":
		return &types.VirtualBusLogicController{VirtualSCSIController: scsi}
	case "VirtualLsiLogicController":
		return &types.VirtualLsiLogicController{VirtualSCSIController: scsi}
	case "VirtualSATAController", "VirtualAHCIController":
		return &types.VirtualAHCIController{VirtualSATAController: types.VirtualSATAController{VirtualController: base}}
	case "VirtualNVMEController":
		return &types.VirtualNVMEController{VirtualController: base, SharedBus: el.Value("sharedBus")}
	case "VirtualIDEController":
		return &types.VirtualIDEController{VirtualController: base}
	}
	return nil
}

// cardOf reads a network card, nil when it is none.
func cardOf(kind string, el collector.Element) types.BaseVirtualDevice {
	card := types.VirtualEthernetCard{VirtualDevice: partsOf(el), MacAddress: el.Value("macAddress")}
	switch kind {
	case "VirtualVmxnet3":
		return &types.VirtualVmxnet3{VirtualVmxnet: types.VirtualVmxnet{VirtualEthernetCard: card}}
	case "VirtualVmxnet3Vrdma":
		return &types.VirtualVmxnet3Vrdma{VirtualVmxnet3: types.VirtualVmxnet3{VirtualVmxnet: types.VirtualVmxnet{VirtualEthernetCard: card}}}
	case "VirtualVmxnet", "VirtualVmxnet2":
		return &types.VirtualVmxnet2{VirtualVmxnet: types.VirtualVmxnet{VirtualEthernetCard: card}}
	case "VirtualE1000e":
		return &types.VirtualE1000e{VirtualEthernetCard: card}
	case "VirtualE1000":
		return &types.VirtualE1000{VirtualEthernetCard: card}
	case "VirtualPCNet32":
		return &types.VirtualPCNet32{VirtualEthernetCard: card}
	case "VirtualSriovEthernetCard":
		return &types.VirtualSriovEthernetCard{VirtualEthernetCard: card}
	}
	if strings.HasSuffix(kind, "EthernetCard") {
		return &card
	}
	return nil
}

// partsOf reads what all devices have.
func partsOf(el collector.Element) types.VirtualDevice {
	d := types.VirtualDevice{
		Key: int32(el.Number("key")), ControllerKey: int32(el.Number("controllerKey")), Backing: backingOf(el.Find("backing")),
	}
	if info := el.Find("deviceInfo"); info.Exists() {
		d.DeviceInfo = &types.Description{Label: info.Value("label")}
	}
	if unit := el.Find("unitNumber"); unit.Exists() {
		d.UnitNumber = types.NewInt32(int32(unit.Int()))
	}
	if c := el.Find("connectable"); c.Exists() {
		d.Connectable = &types.VirtualDeviceConnectInfo{Connected: c.Value("connected") == "true", StartConnected: c.Value("startConnected") == "true"}
	}
	return d
}

// backingOf reads what is behind a device.
func backingOf(el collector.Element) types.BaseVirtualDeviceBackingInfo {
	if !el.Exists() {
		return nil
	}
	file := types.VirtualDeviceFileBackingInfo{FileName: el.Value("fileName")}
	mode, uuid, change := el.Value("diskMode"), el.Value("uuid"), el.Value("changeId")
	var key *types.CryptoKeyId
	if el.Find("keyId").Exists() {
		key = &types.CryptoKeyId{}
	}
	child := el.Find("parent").Exists()
	switch kind := el.Kind(); kind {
	case "VirtualDiskFlatVer2BackingInfo":
		b := &types.VirtualDiskFlatVer2BackingInfo{
			VirtualDeviceFileBackingInfo: file, DiskMode: mode, Uuid: uuid, ChangeId: change, KeyId: key, Sharing: el.Value("sharing"),
			ThinProvisioned: types.NewBool(el.Value("thinProvisioned") == "true"),
		}
		if child {
			b.Parent = &types.VirtualDiskFlatVer2BackingInfo{}
		}
		return b
	case "VirtualDiskSeSparseBackingInfo":
		b := &types.VirtualDiskSeSparseBackingInfo{VirtualDeviceFileBackingInfo: file, DiskMode: mode, Uuid: uuid, ChangeId: change, KeyId: key}
		if child {
			b.Parent = &types.VirtualDiskSeSparseBackingInfo{}
		}
		return b
	case "VirtualDiskSparseVer2BackingInfo":
		b := &types.VirtualDiskSparseVer2BackingInfo{VirtualDeviceFileBackingInfo: file, DiskMode: mode, Uuid: uuid, ChangeId: change, KeyId: key}
		if child {
			b.Parent = &types.VirtualDiskSparseVer2BackingInfo{}
		}
		return b
	case "VirtualDiskFlatVer1BackingInfo":
		return &types.VirtualDiskFlatVer1BackingInfo{VirtualDeviceFileBackingInfo: file, DiskMode: mode}
	case "VirtualDiskSparseVer1BackingInfo":
		return &types.VirtualDiskSparseVer1BackingInfo{VirtualDeviceFileBackingInfo: file, DiskMode: mode}
	case "VirtualDiskRawDiskMappingVer1BackingInfo":
		b := &types.VirtualDiskRawDiskMappingVer1BackingInfo{
			VirtualDeviceFileBackingInfo: file, DiskMode: mode, Uuid: uuid, ChangeId: change, Sharing: el.Value("sharing"),
			CompatibilityMode: el.Value("compatibilityMode"),
		}
		if child {
			b.Parent = &types.VirtualDiskRawDiskMappingVer1BackingInfo{}
		}
		return b
	case "VirtualDiskRawDiskVer2BackingInfo":
		return &types.VirtualDiskRawDiskVer2BackingInfo{}
	case "VirtualDiskPartitionedRawDiskVer2BackingInfo":
		return &types.VirtualDiskPartitionedRawDiskVer2BackingInfo{}
	case "VirtualEthernetCardDistributedVirtualPortBackingInfo":
		return &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{
			Port: types.DistributedVirtualSwitchPortConnection{PortgroupKey: el.Find("port").Value("portgroupKey")},
		}
	case "VirtualEthernetCardOpaqueNetworkBackingInfo":
		return &types.VirtualEthernetCardOpaqueNetworkBackingInfo{OpaqueNetworkId: el.Value("opaqueNetworkId")}
	}
	if file.FileName != "" {
		return &file
	}
	if name := el.Find("deviceName"); name.Exists() {
		return &types.VirtualDeviceDeviceBackingInfo{DeviceName: name.Text()}
	}
	return nil
}
