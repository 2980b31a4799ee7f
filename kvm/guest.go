package kvm

import "fmt"

// Firmware is what starts the guest.
type Firmware string

// The firmwares. An empty Firmware means [BIOS], as in vSphere.
const (
	BIOS Firmware = "bios"
	UEFI Firmware = "efi"
)

// Bus is the kind of controller a disk was attached to, as package vsphere
// names them.
type Bus string

// The kinds of disk controller vSphere offers. An empty Bus means the guest's
// controller is not known; the disk is then put on SATA.
const (
	PVSCSI   Bus = "scsi-pvscsi"   // VMware paravirtual SCSI
	LSILogic Bus = "scsi-lsilogic" // LSI 53C1030, parallel SCSI
	LSISAS   Bus = "scsi-lsisas"   // LSI SAS 1068
	BusLogic Bus = "scsi-buslogic"
	SATA     Bus = "sata"
	NVMe     Bus = "nvme"
	IDE      Bus = "ide"
)

// Format is the format of a disk image.
type Format string

// The image formats. An empty Format means [Raw].
const (
	Raw   Format = "raw"
	QCOW2 Format = "qcow2"
)

// Guest is the hardware of one VM and where its images are. MemoryMiB and CPUs
// are required; every other zero value has a meaning given at the field.
type Guest struct {
	Name        string // as shown to people; [DomainName] makes libvirt's name of it
	UUID        string // BIOS UUID, kept so that licences and inventories still match; empty: libvirt makes one
	Description string // annotation, free text of any length

	MemoryMiB      int64 // in MiB, 1 to [MaxMemoryMiB]
	CPUs           int   // virtual CPUs in all, 1 to [MaxCPUs]
	CoresPerSocket int   // 0 means 1
	ThreadsPerCore int   // 0 means 1

	// CPUHotAdd and MemoryHotAdd say that CPUs and memory can be added while the guest
	// runs. MaxMemoryMiB bounds the latter, in MiB, where it is more than MemoryMiB; any
	// other value is no bound of the source's.
	CPUHotAdd, MemoryHotAdd bool
	MaxMemoryMiB            int64

	Firmware   Firmware
	SecureBoot bool // only with UEFI
	// NVRAMPath is the absolute path at which libvirt is to keep the UEFI
	// variables; it creates the file from OVMF's template when it does not exist.
	// Empty: libvirt chooses. A vSphere .nvram file (F-NFC-14) has another format
	// and must not be given here.
	NVRAMPath string

	Disks []Disk // in boot order: the guest boots from the first
	NICs  []NIC

	GuestID       string // vSphere's guestId, such as "debian12_64Guest"
	GuestFullName string // vSphere's guestFullName, for people

	Source Source
}

// Disk is one disk image and the place it had in the guest.
type Disk struct {
	Path   string // absolute path of the image
	Format Format
	Bus    Bus
	// Controller and Unit are the bus number of the controller among its kind and
	// the unit on it, as vSphere counts them, both from 0. On SCSI, vSphere keeps
	// unit 7 for the controller itself.
	Controller int
	Unit       int
}

// NIC is one network card.
type NIC struct {
	MAC string // kept when it is a valid unicast address; empty: libvirt makes one
	// Model is "vmxnet3", "e1000", "e1000e" or "pcnet", as package vsphere names
	// them; any other model is replaced by e1000, with a [Note].
	Model   string
	Network string // name of the port group it was attached to; see [Options].NetworkMap
}

// Source says where the guest came from. It becomes metadata of the domain and has
// no other effect. Empty fields are left out. It must not hold secrets: URLs are
// given without user information.
type Source struct {
	VCenter      string // host name or URL
	Path         string // inventory path
	Moref        string // managed object reference, such as "vm-42"
	InstanceUUID string
}

// Note is one place where the domain is not what the guest had, or where a person
// should know more.
type Note struct {
	Device string `json:"device"` // what it is about: "disk 0", "nic 1", "name", "firmware", …
	Text   string `json:"text"`   // what was done, why, and what to try
}

// String returns the note as one line.
func (n Note) String() string { return fmt.Sprintf("%s: %s", n.Device, n.Text) }

// Options are choices about the domain that the guest's hardware does not make.
// The zero value is usable.
type Options struct {
	// Virtio puts every disk on virtio-scsi and every NIC on virtio-net instead of
	// the nearest equal of what the guest had. It is faster, but the guest must
	// have the drivers. virtio-scsi rather than virtio-blk: disks stay SCSI disks,
	// so Linux still calls them sda, sdb, …, their order on the bus is kept, and
	// one PCI slot holds all of them.
	Virtio bool

	// VirtioBlk puts every disk on virtio-blk, which is what virt-v2v makes guests boot
	// from: their disks are called vda, vdb, … then. It goes before Virtio.
	VirtioBlk bool
	// VirtioNet puts every NIC on virtio-net, as Virtio does.
	VirtioNet bool

	// Emulate makes a domain for QEMU's own emulation (TCG) in place of KVM, for
	// machines without usable hardware virtualization. It is many times slower.
	Emulate bool

	// Name is the domain's name, where the guest's own is taken by another domain;
	// "" makes it of the guest's.
	Name string
	// NetworkMap gives the libvirt network for a port group by its name, or by
	// [AnyNetwork] for those that it does not name, or with
	// [BridgePrefix] a bridge of the host.
	NetworkMap map[string]string
	// DefaultNetwork is the libvirt network for the other NICs; empty means
	// "default", the NAT network that libvirt comes with.
	DefaultNetwork string
}
