package vsphere

import (
	"context"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Config says which vCenter or ESXi host to speak to, as whom, and how its
// certificate is judged. Only URL is needed; see [ConfigFromEnv].
//
// A Config holds a password: String, GoString and LogValue leave it out.
type Config struct {
	// URL of the service. A missing scheme is https, a missing path is /sdk.
	// User info in it is used where Username and Password are empty.
	URL      *url.URL
	Username string
	Password string

	// Insecure accepts any certificate of the service that Thumbprint does not
	// pin. Thumbprints that a lease carries for ESXi hosts are checked even so.
	Insecure bool
	// Thumbprint, when set, pins the service's certificate: the SHA-1 or
	// SHA-256 of its DER form in hex, with or without colons.
	Thumbprint string
	// CAFile lists PEM files of certificate authorities, separated as in PATH.
	// They replace the system's.
	CAFile string
	// KnownHosts lists files of "host[:port] thumbprint" lines, separated as
	// in PATH. A listed certificate is accepted where no authority vouches for it.
	KnownHosts string

	// Datacenter is where relative inventory paths start: a datacenter's
	// inventory path or name.
	Datacenter string

	// KeepAlive is how long the session may be idle before it is refreshed; 0
	// is ten minutes, negative is never. Sessions end after 30 (F-INV-2).
	KeepAlive time.Duration
	// Timeouts bounds how long one attempt at a call may go without its answer.
	Timeouts Timeouts
	// Outage is for how long a call that gets no answer is repeated, counted
	// from its beginning; 0 is two minutes, negative is not at all. Calls that
	// must not be done twice are only repeated while it is certain that none
	// has arrived: see [ErrUncertain].
	Outage time.Duration
	// DialOutage is the same for [Dial]: 0 is not at all, so that a person who
	// mistyped an address is told at once. A refused password, a certificate,
	// and a name that does not exist are never waited on.
	DialOutage time.Duration
	// OnOutage is told when calls begin to wait for the service, and when none
	// does any more. It is called from several goroutines, one at a time, and
	// must return soon, without calling the Client. Nil is told nothing.
	OnOutage func(Outage)
	// OnTask is called with each task that changes a VM as soon as vSphere has
	// named it, so that it can be written down: it goes on when this process
	// dies. Nil is nobody.
	OnTask func(Task)
	// OnWait is called when something is waited for that may take vSphere long;
	// what it returns is called when that is over. Nil is nobody. Both may be
	// called from any goroutine.
	OnWait func(Wait) (over func())
	// OnRenewal is called with the outcome of each renewal that [Lease.Keep] asks
	// for, nil when it was answered.
	OnRenewal func(error)
	// Gate, when not nil, is called for each login, the later ones of a session
	// too, and decides whether and when to try it by calling login. It returns
	// login's error, or one of its own, which is an [ErrLogin] when no other
	// password will be tried either. So logins of several Clients can be kept
	// from locking an account (F-INV-5).
	Gate func(ctx context.Context, login func(context.Context) error) error
	// Allow, when not nil, is asked about each address before the service is
	// connected to there, and says why not: a name may stand for others at any
	// moment. A proxy is not asked about. Its error is best an [*AddressError].
	//
	// ESXi hosts, which vSphere names, are never connected to at addresses of this
	// machine or its link, unless the service itself is there.
	Allow func(netip.Addr) error
	// Logger gets what a person may want to look up later. Nil discards.
	Logger *slog.Logger
}

// About describes the service at the other end.
type About struct {
	Name         string `json:"name"`      // "VMware vCenter Server"
	FullName     string `json:"full_name"` // with version and build
	Version      string `json:"version"`
	Build        string `json:"build"`
	APIVersion   string `json:"api_version"`
	InstanceUUID string `json:"instance_uuid"`
	Host         string `json:"host"`    // host[:port] that was dialled
	VCenter      bool   `json:"vcenter"` // false: an ESXi host
}

// Power states of a [VM].
const (
	PoweredOn  = "poweredOn"
	PoweredOff = "poweredOff"
	Suspended  = "suspended"
)

// Firmware of a [VM].
const (
	BIOS = "bios"
	EFI  = "efi"
)

// VM is one virtual machine as the inventory has it. [Client.Find] fills
// everything in; [Client.List] leaves the second half empty, from
// ConnectionState on.
type VM struct {
	Ref  string `json:"ref"`  // managed object id, as vm-12
	Path string `json:"path"` // inventory path as `govc find` prints it
	Name string `json:"name"` // as vSphere stores it: / is %2f (F-INV-1); see DisplayName

	InstanceUUID string `json:"instance_uuid"`
	BIOSUUID     string `json:"bios_uuid"`
	Datacenter   string `json:"datacenter"` // inventory path of the datacenter

	Power          string   `json:"power"`    // PoweredOn, PoweredOff or Suspended
	GuestID        string   `json:"guest_id"` // as debian12_64Guest
	GuestFullName  string   `json:"guest_full_name"`
	Host           string   `json:"host"` // managed object id of the ESXi host
	HostName       string   `json:"host_name"`
	Datastores     []string `json:"datastores"` // names
	Networks       []string `json:"networks"`   // names of port groups, in order
	CPUs           int      `json:"cpus"`
	MemoryMiB      int64    `json:"memory_mib"`
	DiskCount      int      `json:"disk_count"`
	CommittedBytes int64    `json:"committed_bytes"` // used on datastores
	Template       bool     `json:"template"`

	ConnectionState  string `json:"connection_state,omitempty"` // "connected" unless something is wrong
	CoresPerSocket   int    `json:"cores_per_socket,omitempty"`
	CPUHotAdd        bool   `json:"cpu_hot_add,omitempty"`       // CPUs can be added while it runs
	MemoryHotAdd     bool   `json:"memory_hot_add,omitempty"`    // the same for memory
	MaxMemoryMiB     int64  `json:"max_memory_mib,omitempty"`    // to which it can be added; 0 when vSphere does not say, as of a VM that is off
	ProvisionedBytes int64  `json:"provisioned_bytes,omitempty"` // used, and promised to thin disks
	Firmware         string `json:"firmware,omitempty"`          // BIOS or EFI
	SecureBoot       bool   `json:"secure_boot,omitempty"`
	Disks            []Disk `json:"disks,omitempty"`
	NICs             []NIC  `json:"nics,omitempty"`
	Snapshots        int    `json:"snapshots,omitempty"`
	ToolsRunning     bool   `json:"tools_running,omitempty"`
	ChangeTracking   bool   `json:"change_tracking,omitempty"` // CBT is on
	ChangeVersion    string `json:"change_version,omitempty"`  // changes whenever the configuration does
	Annotation       string `json:"annotation,omitempty"`

	Guest *GuestNetwork `json:"-"` // what VMware Tools have said of the network; nil when nothing
}

// Controller types of a [Disk].
const (
	PVSCSI   = "scsi-pvscsi"
	LSILogic = "scsi-lsilogic"
	LSISAS   = "scsi-lsisas"
	BusLogic = "scsi-buslogic"
	SATA     = "sata"
	NVMe     = "nvme"
	IDE      = "ide"
)

// Disk is one virtual disk of a [VM].
type Disk struct {
	Key        int32  `json:"key"`   // device key, stable for the life of the disk
	Label      string `json:"label"` // "Hard disk 1"
	Capacity   int64  `json:"capacity"`
	Controller string `json:"controller"` // PVSCSI and so on
	Bus        int    `json:"bus"`        // number of the controller among those of its kind
	Unit       int    `json:"unit"`

	Datastore string `json:"datastore"`
	File      string `json:"file"` // path inside the datastore, of the descriptor
	UUID      string `json:"uuid,omitempty"`
	Mode      string `json:"mode"`          // "persistent", "independent_persistent", …
	RDM       string `json:"rdm,omitempty"` // "physicalMode" or "virtualMode" for a raw device mapping
	Shared    bool   `json:"shared"`        // multi-writer, or on a controller with a shared bus
	Thin      bool   `json:"thin"`
	Encrypted bool   `json:"encrypted"`
	Parent    bool   `json:"parent"`              // has a parent: the file is a snapshot's delta
	ChangeID  string `json:"change_id,omitempty"` // with CBT
}

// Independent says that no snapshot includes the disk.
func (d Disk) Independent() bool { return strings.HasPrefix(d.Mode, "independent") }

// NIC is one network adapter of a [VM].
type NIC struct {
	Key       int32  `json:"key"`
	Label     string `json:"label"`
	Type      string `json:"type"` // "vmxnet3", "e1000e", "e1000", "vmxnet2", "pcnet32", "sriov"
	MAC       string `json:"mac"`
	Network   string `json:"network"`
	Connected bool   `json:"connected"` // connected now or at power-on
}

// Severity of an [Obstacle].
type Severity string

// An obstacle of severity SeverityError makes an export impossible; with a
// SeverityWarning it may work.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Obstacle is one reason why an export cannot, or may not, work.
type Obstacle struct {
	Code     string   `json:"code"` // one of the Code constants
	Severity Severity `json:"severity"`
	Text     string   `json:"text"` // what is the matter, and with what
	Hint     string   `json:"hint"` // what to do about it
}

// Codes of an [Obstacle] (F-INV-3).
const (
	CodePower        = "power-state"
	CodeTools        = "vmware-tools"
	CodeMark         = "mark"
	CodeDisabled     = "method-disabled"
	CodeVTPM         = "vtpm"
	CodeEncrypted    = "encrypted"
	CodeFT           = "fault-tolerance"
	CodeRDM          = "rdm"
	CodeIndependent  = "independent-disk"
	CodeShared       = "shared-disk"
	CodeNoDisks      = "no-disks"
	CodeImage        = "connected-image"
	CodeTask         = "running-task"
	CodeQuestion     = "pending-question"
	CodeTemplate     = "template"
	CodePrivilege    = "missing-privilege"
	CodeInaccessible = "inaccessible"
	CodeHost         = "host-unreachable"
	CodeStray        = "stray-snapshot"
)

// PreflightOptions says what the export that [Client.Preflight] judges will do.
type PreflightOptions struct {
	Snapshot    bool // a running VM is exported from a temporary snapshot
	RemoveCDROM bool // CD/DVD drives are taken out first
	// Shutdown says that the guest of a running VM is shut down first, and PowerOff that
	// the VM is powered off where that cannot be done, or without Shutdown at once.
	Shutdown, PowerOff bool
	// Mark is how the VM is marked afterwards.
	Mark   MarkOptions
	NFC902 bool // disks are read over port 902
	// Datastore says that disks are read from their datastores, and OrLease that
	// they come through the lease where that is not possible.
	Datastore, OrLease bool
	// Known are names of temporary snapshots that somebody looks after: those
	// of the VM that begin with [SnapshotPrefix] and are not among them are told
	// of as left behind.
	Known []string
	// Reach tries to reach an ESXi host on a TCP port. Nil resolves the name
	// and connects.
	Reach func(ctx context.Context, host string, port int) error
}

// SnapshotRef names a snapshot.
type SnapshotRef struct {
	Ref      string    `json:"ref"` // managed object id, as snapshot-34
	Name     string    `json:"name"`
	Created  time.Time `json:"created"`  // by the service's clock
	Quiesced bool      `json:"quiesced"` // the guest flushed its file systems first; otherwise as after a power cut
}

// SnapshotPrefix begins the name of every temporary snapshot, so that those of
// a run that died can be found.
const SnapshotPrefix = "hyper2kvm-"

// Target is what is exported: a powered-off VM, or a snapshot of one (F-NFC-3).
type Target struct {
	VM       VM
	Snapshot SnapshotRef // the zero value exports the VM itself
}

// Item is one file that a lease offers.
type Item struct {
	Key      string `json:"key"`  // of the lease; [Manifest] entries and [OVFFile] refer to it
	Name     string `json:"name"` // a base name such as disk-0.vmdk, safe as a file name
	TargetID string `json:"target_id,omitempty"`
	Host     string `json:"host"` // host:port that serves it: limits are per host (F-NFC-19)

	Disk bool `json:"disk"`
	// DiskKey is the Key of the VM's [Disk], 0 when the item is no disk or
	// could not be matched with one.
	DiskKey int32 `json:"disk_key,omitempty"`
	// Assumed says that DiskKey comes of the order of the lease's items, because
	// their keys name no place on a controller. The disks in question differ in
	// Capacity: whoever reads the stream holds its header against it.
	Assumed bool `json:"assumed,omitempty"`
	// Capacity is the disk's size in bytes as its device has it, 0 when
	// unknown. The lease itself does not tell it (F-NFC-11).
	Capacity int64 `json:"capacity,omitempty"`
	// Size is the file's size in bytes, -1 when unknown, as it is for disks.
	Size int64 `json:"size"`
}

// ManifestEntry is what the host says it sent for one item (F-NFC-12).
type ManifestEntry struct {
	Key       string `json:"key"` // of the [Item]
	Disk      bool   `json:"disk"`
	Size      int64  `json:"size"` // bytes of the stream as sent
	Capacity  int64  `json:"capacity"`
	Populated int64  `json:"populated"` // bytes of the disk that hold data
	Algorithm string `json:"algorithm"` // "sha1" or "sha256"; "" when there is no checksum
	Sum       string `json:"sum"`       // lower-case hex
}

// OVFFile is a file as it was written, for the descriptor (F-NFC-16).
type OVFFile struct {
	Key  string // of the [Item]
	Path string // relative to the descriptor, with forward slashes
	Size int64  // bytes on disk
	// Capacity is the virtual disk's size in bytes, 0 for other files.
	Capacity int64
}

// Descriptor is an OVF descriptor.
type Descriptor struct {
	XML      string
	Warnings []string // what the service could not express
}
