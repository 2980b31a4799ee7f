// Package job is the vocabulary of the engine: what an export is asked for
// ([Definition], [Options]), what it left ([Result], [DiskResult]), and why a run
// was ended before its time ([ErrShutdown], [ErrClaimLost], [Cancelled]). Job
// files and the REST API write it as JSON or YAML; field names are a contract
// with users' scripts: fields may be added, none changes its meaning.
//
// [Definition.WithDefaults] fills in what was left out. [Definition.Validate]
// finds every reason why a definition cannot work. No message quotes a value,
// because a value in the wrong place may be a password. Package jobfile reads job
// files.
package job

import "time"

// Format is how a VM lands on disk.
type Format string

// Formats a job can ask for. The empty string means [FormatOVF].
const (
	FormatOVF   Format = "ovf"   // VMDKs as vSphere sends them, descriptor, manifest
	FormatOVA   Format = "ova"   // the same in one tar file
	FormatRaw   Format = "raw"   // sparse raw images and a libvirt domain
	FormatQcow2 Format = "qcow2" // qcow2 version 3 images and a libvirt domain
)

// Streams reports whether the disks stay as vSphere sends them, in an OVF package, and
// are not made into images for KVM.
func (f Format) Streams() bool { return f == FormatOVF || f == FormatOVA || f == "" }

// Transport is how a disk's bytes leave vSphere.
type Transport string

// Transports a job can ask for. The empty string means [TransportNFC].
const (
	TransportNFC       Transport = "nfc"       // the stream of an export lease
	TransportDatastore Transport = "datastore" // ranges of the flat file on the datastore, for raw and qcow2 only
	TransportNFC902    Transport = "nfc902"    // random reads over port 902 of the ESXi host, for raw and qcow2 only
	TransportVDDK      Transport = "vddk"      // random reads by nbdkit with the user's VDDK, for raw and qcow2 only
	TransportAuto      Transport = "auto"      // the datastore where it can be read, then port 902, the lease otherwise
)

// Verify is how much verification a job asks for. The empty string compares every
// disk with vSphere's manifest and, where that cannot be had, takes the checksums
// that the disk's own grains carry. How it went is a [Verification].
type Verify string

// More verification than there is anyway.
const (
	VerifyFull     Verify = "full"     // every grain is inflated too; a datastore is read twice
	VerifyManifest Verify = "manifest" // nothing but the manifest counts: without one a disk is fetched again, or the job fails
)

// Definition is one VM's export as a user asks for it: a job file, or one
// element of a batch.
type Definition struct {
	ID         string  `json:"id,omitempty" yaml:"id,omitempty"`
	Name       string  `json:"name,omitempty" yaml:"name,omitempty"`
	VMPath     string  `json:"vm_path" yaml:"vm_path"`         // inventory path as `govc find` prints it, name, or UUID
	OutputPath string  `json:"output_path" yaml:"output_path"` // directory on the machine that runs the job
	Options    Options `json:"options,omitzero" yaml:"options,omitempty"`

	// VCenter names a vCenter of the daemon's configuration. It excludes
	// VCenterURL, Username, Password and Thumbprint.
	VCenter    string `json:"vcenter,omitempty" yaml:"vcenter,omitempty"`
	VCenterURL string `json:"vcenter_url,omitempty" yaml:"vcenter_url,omitempty"`
	Username   string `json:"username,omitempty" yaml:"username,omitempty"`
	Password   string `json:"password,omitempty" yaml:"password,omitempty"` // accepted, never given back: see Redacted
	// Insecure leaves the certificate at VCenterURL unchecked. Without
	// VCenterURL it changes nothing: how the daemon's own vCenters are trusted
	// is for the daemon's configuration to say.
	Insecure   bool   `json:"insecure" yaml:"insecure,omitempty" required:"false"`
	Thumbprint string `json:"thumbprint,omitempty" yaml:"thumbprint,omitempty"` // SHA-1 or SHA-256 of the vCenter's certificate

	Priority  int       `json:"priority,omitempty" yaml:"priority,omitempty"` // -100..100, higher runs first
	CreatedAt time.Time `json:"created_at,omitzero" yaml:"created_at,omitempty"`

	// Constraint says which daemons may run the job, of several on one store: those
	// whose labels have all of it, as site: dc1.
	Constraint Labels `json:"constraint,omitempty" yaml:"constraint,omitempty"`
}

// Options are the choices of a job. The zero value is a plain OVF export.
// JSON holds an option that is false or 0 as well, so that a script that reads
// it back need not know which value is the default.
type Options struct {
	ParallelDownloads      int    `json:"parallel_downloads,omitempty" yaml:"parallel_downloads,omitempty"` // 1..64; 0 means 4
	RemoveCDROM            bool   `json:"remove_cdrom" yaml:"remove_cdrom,omitempty" required:"false"`
	ShowIndividualProgress bool   `json:"show_individual_progress" yaml:"show_individual_progress,omitempty" required:"false"`
	Format                 Format `json:"format,omitempty" yaml:"format,omitempty"`
	Snapshot               bool   `json:"snapshot" yaml:"snapshot,omitempty" required:"false"`   // export a running VM from a temporary snapshot
	Shutdown               bool   `json:"shutdown" yaml:"shutdown,omitempty" required:"false"`   // shut the guest of a running VM down first
	PowerOff               bool   `json:"power_off" yaml:"power_off,omitempty" required:"false"` // power a running VM off: with Shutdown, where that does not succeed
	Virtio                 bool   `json:"virtio" yaml:"virtio,omitempty" required:"false"`       // disks and NICs on virtio in the domain
	Convert                bool   `json:"convert" yaml:"convert,omitempty" required:"false"`     // the guest made ready for KVM, by virt-v2v; see Converted
	KeepIP                 bool   `json:"keep_ip" yaml:"keep_ip,omitempty" required:"false"`     // the guest keeps its addresses on its new cards; see NetworkKept
	Compress               bool   `json:"compress" yaml:"compress,omitempty" required:"false"`   // compressed qcow2 clusters
	Verify                 Verify `json:"verify,omitempty" yaml:"verify,omitempty"`              // "", VerifyFull or VerifyManifest
	Overwrite              bool   `json:"overwrite" yaml:"overwrite,omitempty" required:"false"` // replace what an earlier export left
	Retries                int    `json:"retries" yaml:"retries,omitempty" required:"false"`     // whole-job attempts after the first, 0..20

	Transport Transport `json:"transport,omitempty" yaml:"transport,omitempty"` // how disks are read; "" means nfc
	// Limit bounds the job's bandwidth, as "200MB/s" or "1Gbit/s"; "" and "0"
	// are no limit of its own. See [units.ParseRate].
	Limit string `json:"limit,omitempty" yaml:"limit,omitempty"`
	// ShutdownTimeout is how long a guest may take to shut down, as "10m"; "" is
	// [DefaultShutdownTimeout].
	ShutdownTimeout string `json:"shutdown_timeout,omitempty" yaml:"shutdown_timeout,omitempty"`
	// Finish is what is done to the source once the whole job has succeeded: see [Finish].
	Finish string `json:"finish,omitempty" yaml:"finish,omitempty"`
	// NetworkMap says where the domain's network cards are attached: for a port
	// group of vSphere, or [AnyNetwork] for all that it does not name, the libvirt
	// network, or with [BridgePrefix] a bridge of the host. Port groups without
	// either are on libvirt's network "default".
	NetworkMap map[string]string `json:"network_map,omitempty" yaml:"network_map,omitempty"`
	// For names the platforms for which a landing kit is written beside the images,
	// with commas in between: see [Targets].
	For string `json:"for,omitempty" yaml:"for,omitempty"`

	Landing  `yaml:",inline"`
	Rollback `yaml:",inline"`
}

// BridgePrefix begins what a [Options].NetworkMap names when it is a bridge of the
// host, as bridge:br0, and not a libvirt network.
const BridgePrefix = "bridge:"

// Redacted returns d without its password, for storing, showing and logging.
func (d Definition) Redacted() Definition {
	d.Password = ""
	return d
}
