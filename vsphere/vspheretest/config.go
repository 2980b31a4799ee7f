package vspheretest

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/hyper2kvm/hyper2kvm/probe/findings"
)

// Profile is how the data plane behaves: the name of a report in profiles/.
type Profile string

const (
	// Stream is what ESXi hosts are known to do: a chunked 200 without
	// Content-Length, Range ignored, HEAD refused (F-NFC-8, F-NFC-9).
	Stream Profile = "stream"
	// Ranged is a host that answers ranges: 206, Content-Range, ETag, HEAD with a size.
	Ranged Profile = "ranged"
	// VSAN is Stream on object storage: only the first disk asked for on a lease
	// has a body, further ones are an empty 200 (F-NFC-13), and /folder has no
	// disks (F-DS-3).
	VSAN Profile = "vsan"
)

// Config describes a lab. Its zero value is a vCenter with one host, the Stream
// profile and no virtual machines.
type Config struct {
	Addr     string // of vCenter, host:port; empty means a free port of 127.0.0.1
	HostAddr string // of the first ESXi host; empty means a free port of Addr's address
	Hosts    int    // ESXi hosts, each a listener with its own certificate; 0 means 1
	Profile  Profile
	Like     *findings.Report // in place of Profile; see [Config.As]
	VMs      []VM
	BulkVMs  int // cheap VMs without data beside VMs, in nested folders

	Username, Password string   // empty means "user" and "pass"
	DeniedPrivileges   []string // that the user lacks on all objects, datastores among them
	APIVersion         string   // of vCenter and hosts; empty means "8.0.3.0"

	LeaseTimeout     time.Duration // without Progress; 0 means 300 s (F-NFC-4)
	LeaseDelay       time.Duration // spent in state initializing
	ConcurrentLeases bool          // several leases on one VM, instead of TaskInProgress
	SessionIdle      time.Duration // a session idle for longer is gone; 0 means 30 min (F-INV-2)

	Rate           int64         // bytes per second a connection; 0 means no limit
	Latency        time.Duration // added to every request, on both planes
	StreamsPerHost int           // more at a time are refused with 503, or error 5 (F-NFC-19); 0 means no limit
	Faults         []string      // as for AddFault

	// NFC902 opens port 902 of every host, on a port of its own that tickets name
	// (F-902-4). Without, vCenter gives no tickets.
	NFC902    bool
	NFCMemory int64 // bytes of a host for the buffers of all NFC sessions; 0 means no limit (F-902-6)

	DirectURLs bool   // device URLs as a host gives them: https://*/ha-nfc/… (F-NFC-5)
	NoManifest bool   // the manifest lists nothing, whatever was sent (F-NFC-12)
	NamedURLs  bool   // device URLs with the VM's name in them, unescaped (F-NFC-7)
	TempDir    string // for prepared streams; empty means the system's
}

// VM describes a virtual machine and its hardware. Only Name is needed.
type VM struct {
	Name   string // as a person wrote it: "/" and "%" are escaped as vCenter does (F-INV-1)
	Folder string // below the datacenter's vm folder, "a/b"; made when missing
	Host   int    // index of the ESXi host

	Disks []Disk
	NICs  []NIC

	CPUs           int32 // 0 means 1
	CoresPerSocket int32 // 0 means 1
	MemoryMiB      int64 // 0 means 1024
	CPUHotAdd      bool  // CPUs can be added while it runs
	MemoryHotAdd   bool  // the same for memory; the limit is told of a VM that runs, 16 times what it has
	GuestID        string
	Annotation     string
	EFI            bool
	SecureBoot     bool
	NVRAM          []byte // offered in the lease by hosts of 6.7 and later (F-NFC-14)

	ISO           []byte // content of the image in the CD drive; nil means no drive
	CDDisconnect  bool   // the drive has the image but is not connected at power on
	VTPM          bool   // export fails (F-NFC-15)
	Encrypted     bool   // export fails
	FaultTolerant bool   // export fails
	PoweredOn     bool
	CBT           bool     // changed block tracking: QueryChangedDiskAreas answers (F-DS-5)
	Snapshots     []string // taken in this order, each the child of the one before

	// Guest is what VMware Tools in the guest are; nil when there are none.
	Guest *Guest

	DisabledMethods  []string // such as "ExportVm": shown as disabledMethod, and refused
	DeniedPrivileges []string // such as "VApp.Export", on this VM: calls that need one fault NoPermission
}

// Disk is a virtual disk and where its data comes from.
type Disk struct {
	// Path is a raw file, or a stream-optimized VMDK, which is served as it is.
	// A raw file must not change while the lab runs.
	Path       string
	Controller Controller // empty means PVSCSI
	// Independent puts the disk into mode independent_persistent: a snapshot leaves it out.
	Independent bool
	RDM         RDM
}

// Controller is the kind of controller a disk hangs on.
type Controller string

// The controllers that a disk can hang on.
const (
	PVSCSI      Controller = "pvscsi"
	LSILogic    Controller = "lsilogic"
	LSILogicSAS Controller = "lsilogic-sas"
	SATA        Controller = "sata"
	NVMe        Controller = "nvme"
	IDE         Controller = "ide"
)

// RDM is the compatibility mode of a raw device mapping.
type RDM string

// The modes of a raw device mapping; NotRDM is an ordinary disk.
const (
	NotRDM      RDM = ""
	RDMVirtual  RDM = "virtual"
	RDMPhysical RDM = "physical"
)

// NIC is a virtual network card.
type NIC struct {
	Type string // vmxnet3 (default), e1000e, e1000
	MAC  string // empty means one made up by the simulator
	// Network is the port group, made on a standard switch when missing; empty means
	// one of a distributed switch, DC0_DVPG0.
	Network string
}

func (c Config) withDefaults() Config {
	c.Addr = cmp.Or(c.Addr, "127.0.0.1:0")
	c.Hosts = cmp.Or(c.Hosts, 1)
	c.Profile = cmp.Or(c.Profile, Stream)
	c.Username = cmp.Or(c.Username, "user")
	c.Password = cmp.Or(c.Password, "pass")
	c.APIVersion = cmp.Or(c.APIVersion, "8.0.3.0")
	c.LeaseTimeout = cmp.Or(c.LeaseTimeout, 300*time.Second)
	c.SessionIdle = cmp.Or(c.SessionIdle, 30*time.Minute)
	return c
}

// validate says everything that is wrong with c, at once.
func (c Config) validate() error {
	var errs []error
	if c.Like != nil {
		errs = append(errs, c.Like.Check())
	} else if _, err := c.Profile.Report(); err != nil {
		errs = append(errs, err)
	}
	seen := make(map[string]bool)
	for _, vm := range c.VMs {
		id := vm.Folder + "/" + vm.Name
		switch {
		case vm.Name == "":
			errs = append(errs, errors.New("a VM has no name"))
		case seen[id]:
			errs = append(errs, fmt.Errorf("two VMs are called %q in one folder", id))
		}
		seen[id] = true
		if vm.Host < 0 || vm.Host >= c.Hosts {
			errs = append(errs, fmt.Errorf("VM %q is on host %d of %d", vm.Name, vm.Host, c.Hosts))
		}
		for i, d := range vm.Disks {
			switch cmp.Or(d.Controller, PVSCSI) {
			case PVSCSI, LSILogic, LSILogicSAS, SATA, NVMe, IDE:
			default:
				errs = append(errs, fmt.Errorf("VM %q disk %d: unknown controller %q", vm.Name, i, d.Controller))
			}
			switch d.RDM {
			case NotRDM, RDMVirtual, RDMPhysical:
			default:
				errs = append(errs, fmt.Errorf("VM %q disk %d: unknown RDM mode %q", vm.Name, i, d.RDM))
			}
		}
	}
	return errors.Join(errs...)
}
