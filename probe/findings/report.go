package findings

// Format is the version of the format that this program writes, and the newest that
// it reads.
const Format = 1

// Answer is one word of a report. "" is what was not looked at.
type Answer string

// The words of a report. Which of them a field may have stands in its tag.
const (
	Yes Answer = "yes"
	No  Answer = "no"

	VCenter Answer = "vcenter"
	Host    Answer = "host"

	PoweredOn  Answer = "on"
	PoweredOff Answer = "off"
	Suspended  Answer = "suspended"

	ByName    Answer = "name"
	ByAddress Answer = "address"
	Wildcard  Answer = "wildcard"

	Open       Answer = "open"
	Closed     Answer = "closed" // refused by the machine itself
	Silent     Answer = "silent" // no answer in time: as a firewall does
	Unresolved Answer = "unresolved"

	Thumbprint  Answer = "thumbprint"
	Certificate Answer = "certificate"
	Both        Answer = "both"
	None        Answer = "none"

	Granted Answer = "granted"
	Missing Answer = "missing"
	Unknown Answer = "unknown"

	Honoured Answer = "honoured"
	Ignored  Answer = "ignored"
	Refused  Answer = "refused"
	Sized    Answer = "sized"   // a HEAD is answered with the length
	Unsized  Answer = "unsized" // and without

	Strong Answer = "strong"
	Weak   Answer = "weak"

	Length  Answer = "length"
	Chunked Answer = "chunked"

	Served Answer = "served"
	Empty  Answer = "empty"
	Locked Answer = "locked"

	Listed  Answer = "listed"
	Kept    Answer = "kept"
	Changed Answer = "changed"

	Trimmed Answer = "trimmed"
	Whole   Answer = "whole"

	AllFiles Answer = "all-files"
	OneDisk  Answer = "one-disk"

	Early Answer = "early"
	Late  Answer = "late"
)

// Reasons why something was not looked at, or failed.
const (
	PowerState    Answer = "power-state"    // the VM runs, and no snapshot was asked for
	NoPermission  Answer = "no-permission"  // a privilege is missing
	Busy          Answer = "busy"           // something else is at work on it
	NotExportable Answer = "not-exportable" // vSphere refuses to export the VM
	Unsupported   Answer = "unsupported"    // there is no such thing here
	Unreachable   Answer = "unreachable"    // no connection
	Untrusted     Answer = "certificate"    // not the certificate that was expected
	TimedOut      Answer = "timeout"        // it took longer than the probe waits
	InUse         Answer = "in-use"         // something else holds the file
	Memory        Answer = "memory"         // the host has none left for NFC
	Ticket        Answer = "ticket"         // the host does not accept the ticket
	Protocol      Answer = "protocol"       // the other side does not keep to it
	NotFound      Answer = "not-found"
	Snapshots     Answer = "snapshots" // the disk is spread over snapshots
	NoVM          Answer = "no-vm"     // there is no VM to look at
	Interrupted   Answer = "interrupted"
	Failed        Answer = "failed" // for another reason
)

// Report is what a probe has seen. Every field may be missing: then it was not looked
// at. The tag "one" has the words of a field, "all" those of each element, "text" the
// kind of a text, and "max" the largest number.
type Report struct {
	Format   int    `json:"format"`
	Program  string `json:"program,omitempty" text:"version"` // of hyper2kvm that made it
	Taken    string `json:"taken,omitempty" text:"day"`       // YYYY-MM-DD
	Complete bool   `json:"complete"`                         // false: it was interrupted

	Service    Service           `json:"service"`
	Privileges map[string]Answer `json:"privileges,omitempty" all:"granted|missing|unknown"` // by their ids
	Hosts      Hosts             `json:"hosts"`
	VM         VM                `json:"vm"`
	Lease      Lease             `json:"lease"`
	Folder     Folder            `json:"folder"`
	Port902    Port902           `json:"port_902"`
	Timings    Timings           `json:"timings"`
	Rates      []Rate            `json:"rates,omitempty"`
	Advice     *Advice           `json:"advice,omitempty"`
}

// Service is the vCenter or ESXi host that was asked.
type Service struct {
	Kind       Answer `json:"kind,omitempty" one:"vcenter|host"`
	Version    string `json:"version,omitempty" text:"number"`
	APIVersion string `json:"api_version,omitempty" text:"number"`
	Build      string `json:"build,omitempty" text:"number"`
}

// Hosts are the ESXi hosts that this user sees, and the way to the one that the VM
// is on.
type Hosts struct {
	Count    int      `json:"count,omitempty" max:"64"` // 64 is that many or more
	Versions []string `json:"versions,omitempty" text:"number"`
	Known    Answer   `json:"known,omitempty" one:"name|address"` // what vSphere calls the VM's host by
	Resolves Answer   `json:"resolves,omitempty" one:"yes|no"`    // the name, from here
	Port443  Answer   `json:"port_443,omitempty" one:"open|closed|silent|unresolved"`
}

// VM is the one that was looked at.
type VM struct {
	Power     Answer `json:"power,omitempty" one:"on|off|suspended"`
	Disks     int    `json:"disks,omitempty" max:"256"`
	Snapshots Answer `json:"snapshots,omitempty" one:"yes|no"` // that were there before
	Tracking  Answer `json:"change_tracking,omitempty" one:"yes|no"`
	Datastore Answer `json:"datastore,omitempty" one:"vmfs|nfs|nfs41|vsan|vvol|other"` // of the first disk
	Frozen    Answer `json:"frozen,omitempty" one:"yes|no"`                            // by a temporary snapshot of the probe
}

// HTTP is how files are served over HTTP.
type HTTP struct {
	Range       Answer `json:"range,omitempty" one:"honoured|ignored|refused"`
	RangeStatus int    `json:"range_status,omitempty" max:"599"` // of a refusal
	Head        Answer `json:"head,omitempty" one:"sized|unsized|refused"`
	HeadStatus  int    `json:"head_status,omitempty" max:"599"` // of a refusal
	ETag        Answer `json:"etag,omitempty" one:"strong|weak|none"`
	Modified    Answer `json:"last_modified,omitempty" one:"yes|no"`
	Body        Answer `json:"body,omitempty" one:"length|chunked"` // of the whole object
	KeepAlive   Answer `json:"keep_alive,omitempty" one:"yes|no"`
}

// Lease is what an export lease gives, and how.
type Lease struct {
	Opened   Answer `json:"opened,omitempty" one:"yes|no"`
	Why      Answer `json:"why,omitempty" one:"reason"`
	URLs     Answer `json:"urls,omitempty" one:"name|address|wildcard"` // what device URLs name the host by
	Pinned   Answer `json:"pinned,omitempty" one:"thumbprint|certificate|both|none"`
	TimeoutS int    `json:"timeout_s,omitempty" max:"86400"`
	HTTP
	SecondFetch Answer `json:"second_fetch,omitempty" one:"served|empty|refused"` // of one URL
	SecondDisk  Answer `json:"second_disk,omitempty" one:"served|empty|refused"`  // under one lease
	SecondLease Answer `json:"second_lease,omitempty" one:"granted|refused"`      // on the same VM
	Manifest    Answer `json:"manifest,omitempty" one:"listed|empty|refused"`
	Matches     Answer `json:"manifest_matches,omitempty" one:"yes|no"` // size and checksum of what arrived
	SHA256      Answer `json:"sha256,omitempty" one:"honoured|ignored|refused"`
	SHA256Late  Answer `json:"sha256_late,omitempty" one:"honoured|ignored|refused"` // asked for after the first byte
	Version     Answer `json:"change_version,omitempty" one:"kept|changed"`          // of the VM, by a lease
}

// Folder is how a datastore's files are served under /folder, and what is known of
// their holes.
type Folder struct {
	Why    Answer `json:"why,omitempty" one:"reason"` // it was not looked at
	Answer Answer `json:"answer,omitempty" one:"served|refused"`
	Status int    `json:"status,omitempty" max:"599"` // of a refusal
	HTTP
	UnderLease Answer `json:"under_lease,omitempty" one:"served|refused"` // while a lease on the VM is open
	Beside902  Answer `json:"beside_902,omitempty" one:"served|refused"`  // while the disk is open on port 902
	Areas      Answer `json:"areas,omitempty" one:"trimmed|whole|refused"`
}

// Port902 is how a disk is read over port 902 of its host.
type Port902 struct {
	Why         Answer   `json:"why,omitempty" one:"reason"` // there is no session, or the disk was not opened
	Ticket      Answer   `json:"ticket,omitempty" one:"all-files|one-disk|refused|none"`
	Pinned      Answer   `json:"pinned,omitempty" one:"thumbprint|certificate|both|none"`
	Port        Answer   `json:"port,omitempty" one:"open|closed|silent|unresolved"`
	Daemon      string   `json:"daemon,omitempty" text:"number"` // of the greeting
	Announces   []string `json:"announces,omitempty" text:"word"`
	Protocol    int      `json:"protocol,omitempty" max:"1000"`                // version of NFC
	Status      Answer   `json:"status,omitempty" one:"early|late"`            // message 36, before or after 51
	BufferKiB   int      `json:"buffer_kib,omitempty" max:"16384"`             // that the host allows; 0 with an open disk is its own choice
	Opened      Answer   `json:"opened,omitempty" one:"yes|no"`                // the disk
	Blocks      Answer   `json:"blocks,omitempty" one:"trimmed|whole|refused"` // allocated blocks
	SecondConn  Answer   `json:"second_connection,omitempty" one:"yes|no"`     // for the same disk
	UnderLease  Answer   `json:"under_lease,omitempty" one:"served|refused"`   // while a lease on the VM is open
	BesideFiles Answer   `json:"beside_folder,omitempty" one:"served|refused"` // while /folder serves the disk
}

// Timings are in milliseconds; of several attempts they are the median.
type Timings struct {
	ConnectMS   int `json:"connect_ms,omitempty" max:"3600000"`      // TCP to the service
	CallMS      int `json:"call_ms,omitempty" max:"3600000"`         // of the API
	HostMS      int `json:"host_connect_ms,omitempty" max:"3600000"` // TCP to port 443 of the host
	Port902MS   int `json:"port_902_ms,omitempty" max:"3600000"`     // from a ticket to an open disk
	LeaseMS     int `json:"lease_ms,omitempty" max:"3600000"`        // until a lease is ready
	FirstByteMS int `json:"first_byte_ms,omitempty" max:"3600000"`   // of a stream
	ManifestMS  int `json:"manifest_ms,omitempty" max:"3600000"`     // from the last byte until it lists the disk
	SnapshotMS  int `json:"snapshot_ms,omitempty" max:"3600000"`
}

// Channels of a [Rate].
const (
	ByLease  Answer = "lease"
	ByFolder Answer = "folder"
	By902    Answer = "port-902"
)

// Rate is what came over some streams at a time.
type Rate struct {
	Channel Answer `json:"channel" one:"lease|folder|port-902"`
	Streams int    `json:"streams" max:"64"`
	Served  int    `json:"served" max:"64"` // of the streams, those that brought data
	Bytes   int64  `json:"bytes"`           // in all
	PerSec  int64  `json:"bytes_per_second"`
}

// Advice is how exports should read here.
type Advice struct {
	Transport Answer `json:"transport" one:"nfc|datastore|nfc902|none"` // as -transport takes it
	Parallel  int    `json:"parallel" max:"64"`                         // streams at a time from one host
	PerSec    int64  `json:"bytes_per_second"`                          // that came with as many
	Because   Answer `json:"because,omitempty" one:"fastest|alone|manifest"`
}
