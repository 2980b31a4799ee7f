package vspheretest

import (
	"cmp"
	"fmt"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
)

// Device keys as vSphere hands them out.
const (
	keyPCI     = 100
	keyIDE     = 200
	keySCSI    = 1000
	keySATA    = 15000
	keyNVMe    = 31000
	keyTPM     = 11000
	keyNIC     = 4000
	scsiUnits  = 16
	scsiOwn    = 7 // the unit that the SCSI controller itself takes
	sataUnits  = 30
	nvmeUnits  = 15
	ideUnits   = 2
	nicUnitOff = 7
)

// board collects a VM's devices with keys, buses and units like the real ones.
type board struct {
	devices  object.VirtualDeviceList
	slots    map[Controller]*slot
	scsi     int32 // SCSI buses in use, shared by all kinds of SCSI controller
	sata     int32
	nvme     int32
	ide      int32
	datapath string // "[datastore] dir/name", without extension
}

// slot is the controller of a kind that still has room.
type slot struct {
	key, bus, next int32
	typeName       string
}

// addDisk hangs d on the next free unit of its controller.
func (b *board) addDisk(d *disk) error {
	kind := cmp.Or(d.spec.Controller, PVSCSI)
	s := b.slots[kind]
	if s == nil || s.next >= unitsOf(kind) {
		var err error
		if s, err = b.addController(kind); err != nil {
			return err
		}
		b.slots[kind] = s
	}
	if isSCSI(kind) && s.next == scsiOwn {
		s.next++
	}
	d.unit, d.bus, d.controller = s.next, s.bus, s.typeName
	s.next++
	d.key = diskKey(kind, d.bus, d.unit)

	file := b.datapath + ".vmdk"
	if d.index > 0 {
		file = fmt.Sprintf("%s_%d.vmdk", b.datapath, d.index)
	}
	mode := types.VirtualDiskModePersistent
	if d.spec.Independent {
		mode = types.VirtualDiskModeIndependent_persistent
	}
	b.devices = append(b.devices, &types.VirtualDisk{
		VirtualDevice: types.VirtualDevice{
			Key: d.key, ControllerKey: s.key, UnitNumber: types.NewInt32(d.unit),
			DeviceInfo: &types.Description{Label: fmt.Sprintf("Hard disk %d", d.index+1)},
			Backing: &types.VirtualDiskFlatVer2BackingInfo{
				VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: file},
				DiskMode:                     string(mode), ThinProvisioned: types.NewBool(true),
			},
		},
		CapacityInKB:    (d.capacity + 1023) / 1024,
		CapacityInBytes: d.capacity,
	})
	return nil
}

func (b *board) addController(kind Controller) (*slot, error) {
	base := types.VirtualController{VirtualDevice: types.VirtualDevice{ControllerKey: keyPCI}}
	scsi := func(c *types.VirtualSCSIController) *slot {
		base.Key, base.BusNumber = keySCSI+b.scsi, b.scsi
		c.VirtualController, c.ScsiCtlrUnitNumber = base, scsiOwn
		c.SharedBus, c.HotAddRemove = types.VirtualSCSISharingNoSharing, types.NewBool(true)
		b.scsi++
		return &slot{key: base.Key, bus: base.BusNumber}
	}
	var s *slot
	var dev types.BaseVirtualDevice
	switch kind {
	case LSILogic:
		c := new(types.VirtualLsiLogicController)
		s, dev = scsi(&c.VirtualSCSIController), c
	case LSILogicSAS:
		c := new(types.VirtualLsiLogicSASController)
		s, dev = scsi(&c.VirtualSCSIController), c
	case SATA:
		base.Key, base.BusNumber = keySATA+b.sata, b.sata
		s = &slot{key: base.Key, bus: b.sata}
		dev = &types.VirtualAHCIController{VirtualSATAController: types.VirtualSATAController{VirtualController: base}}
		b.sata++
	case NVMe:
		base.Key, base.BusNumber = keyNVMe+b.nvme, b.nvme
		s = &slot{key: base.Key, bus: b.nvme}
		dev = &types.VirtualNVMEController{VirtualController: base}
		b.nvme++
	case IDE: // every VM has its two IDE controllers; the second one holds the CD drive
		if b.ide > 0 {
			return nil, fmt.Errorf("more than %d IDE disks: hang the others on another controller", ideUnits)
		}
		b.ide++
		return &slot{key: keyIDE, typeName: "VirtualIDEController"}, nil
	default:
		c := new(types.ParaVirtualSCSIController)
		s, dev = scsi(&c.VirtualSCSIController), c
	}
	s.typeName = b.devices.TypeName(dev)
	b.devices = append(b.devices, dev)
	return s, nil
}

// addCD adds a drive with an image on a datastore and returns its key.
func (b *board) addCD(store types.ManagedObjectReference, iso string, connect bool) int32 {
	const key = 3002 // IDE 1:0
	b.devices = append(b.devices, &types.VirtualCdrom{VirtualDevice: types.VirtualDevice{
		Key: key, ControllerKey: keyIDE + 1, UnitNumber: types.NewInt32(0),
		DeviceInfo: &types.Description{Label: "CD/DVD drive 1"},
		Connectable: &types.VirtualDeviceConnectInfo{
			StartConnected: connect, Connected: connect, AllowGuestControl: true,
		},
		Backing: &types.VirtualCdromIsoBackingInfo{
			VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: iso, Datastore: &store},
		},
	}})
	return key
}

func (b *board) addNIC(i int32, n NIC, backing types.BaseVirtualDeviceBackingInfo) error {
	dev, err := b.devices.CreateEthernetCard(cmp.Or(n.Type, "vmxnet3"), backing)
	if err != nil {
		return err
	}
	card := dev.(types.BaseVirtualEthernetCard).GetVirtualEthernetCard()
	card.Key, card.ControllerKey, card.UnitNumber = keyNIC+i, keyPCI, types.NewInt32(nicUnitOff+i)
	card.DeviceInfo = &types.Description{Label: fmt.Sprintf("Network adapter %d", i+1)}
	if n.MAC != "" {
		card.MacAddress, card.AddressType = n.MAC, string(types.VirtualEthernetCardMacTypeManual)
	}
	b.devices = append(b.devices, dev)
	return nil
}

func isSCSI(kind Controller) bool {
	return kind == PVSCSI || kind == LSILogic || kind == LSILogicSAS
}

func unitsOf(kind Controller) int32 {
	switch kind {
	case SATA:
		return sataUnits
	case NVMe:
		return nvmeUnits
	case IDE:
		return ideUnits
	}
	return scsiUnits
}

func diskKey(kind Controller, bus, unit int32) int32 {
	switch kind {
	case SATA:
		return 16000 + bus*sataUnits + unit
	case NVMe:
		return 32000 + bus*nvmeUnits + unit
	case IDE:
		return 3000 + unit
	}
	return 2000 + bus*scsiUnits + unit
}

// changes returns the specification that adds every device under its own key.
func (b *board) changes() []types.BaseVirtualDeviceConfigSpec {
	var changes []types.BaseVirtualDeviceConfigSpec
	for _, dev := range b.devices {
		spec := &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: dev}
		if _, ok := dev.(*types.VirtualDisk); ok {
			spec.FileOperation = types.VirtualDeviceConfigSpecFileOperationCreate
		}
		changes = append(changes, spec)
	}
	return changes
}
