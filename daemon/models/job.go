// Package models holds the wire types that job files, the REST API, the
// daemon, and the clients share, and the strict decoding and validation of job
// files. Field names are a contract with users' scripts: fields may be added,
// none changes its meaning.
//
// A job file takes three steps. [DecodeJobs] turns text into definitions and
// refuses what it does not know: YAML and JSON are first parsed into one kind
// of tree, which a small typed walk then reads, so both report the same errors
// with the same lines. [JobDefinition.WithDefaults] fills in what was left
// out. [JobDefinition.Validate] finds every reason why a definition cannot
// work. No message of any of them quotes a value, since a value in the wrong
// place may be a password; keys are quoted.
package models

import (
	"bytes"
	"encoding/json"
	"time"
)

// Format is how a VM lands on disk.
type Format string

// Formats a job can ask for. The empty string means [FormatOVF].
const (
	FormatOVF   Format = "ovf"   // VMDKs as vSphere sends them, descriptor, manifest
	FormatRaw   Format = "raw"   // sparse raw images and a libvirt domain
	FormatQcow2 Format = "qcow2" // qcow2 version 3 images and a libvirt domain
)

// Transport is how a disk's bytes leave vSphere.
type Transport string

// Transports a job can ask for. The empty string means [TransportNFC].
const (
	TransportNFC       Transport = "nfc"       // the stream of an export lease
	TransportDatastore Transport = "datastore" // ranges of the flat file on the datastore, for raw and qcow2 only
	TransportAuto      Transport = "auto"      // the datastore where it can be read, the lease otherwise
)

// How a job can ask for more verification than there is anyway. The empty
// string compares every disk with vSphere's manifest and, where that cannot be
// had, takes the checksums that the disk's own grains carry.
const (
	VerifyFull     = "full"     // every grain is inflated too; a datastore is read twice
	VerifyManifest = "manifest" // nothing but the manifest counts: without one a disk is fetched again, or the job fails
)

// Status is where a job stands.
type Status string

// Statuses of a job. Completed, failed and cancelled are final.
const (
	StatusPending   Status = "pending"
	StatusRunning   Status = "running"
	StatusCompleted Status = "completed"
	StatusFailed    Status = "failed"
	StatusCancelled Status = "cancelled"
)

// Known reports whether s is one of the statuses.
func (s Status) Known() bool {
	return s == StatusPending || s == StatusRunning || s.Final()
}

// Final reports whether a job in status s has ended.
func (s Status) Final() bool {
	return s == StatusCompleted || s == StatusFailed || s == StatusCancelled
}

// JobDefinition is one VM's export as a user asks for it: a job file, or one
// element of a batch.
type JobDefinition struct {
	ID         string     `json:"id,omitempty" yaml:"id,omitempty"`
	Name       string     `json:"name,omitempty" yaml:"name,omitempty"`
	VMPath     string     `json:"vm_path" yaml:"vm_path"`         // inventory path as `govc find` prints it, name, or UUID
	OutputPath string     `json:"output_path" yaml:"output_path"` // directory on the machine that runs the job
	Options    JobOptions `json:"options,omitzero" yaml:"options,omitempty"`

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
}

// JobOptions are the choices of a job. The zero value is a plain OVF export.
// JSON holds an option that is false or 0 as well, so that a script that reads
// it back need not know which value is the default.
type JobOptions struct {
	ParallelDownloads      int    `json:"parallel_downloads,omitempty" yaml:"parallel_downloads,omitempty"` // 1..64; 0 means 4
	RemoveCDROM            bool   `json:"remove_cdrom" yaml:"remove_cdrom,omitempty" required:"false"`
	ShowIndividualProgress bool   `json:"show_individual_progress" yaml:"show_individual_progress,omitempty" required:"false"`
	Format                 Format `json:"format,omitempty" yaml:"format,omitempty"`
	Snapshot               bool   `json:"snapshot" yaml:"snapshot,omitempty" required:"false"`   // export a running VM from a temporary snapshot
	Virtio                 bool   `json:"virtio" yaml:"virtio,omitempty" required:"false"`       // disks and NICs on virtio in the domain
	Compress               bool   `json:"compress" yaml:"compress,omitempty" required:"false"`   // compressed qcow2 clusters
	Verify                 string `json:"verify,omitempty" yaml:"verify,omitempty"`              // "", VerifyFull or VerifyManifest
	Overwrite              bool   `json:"overwrite" yaml:"overwrite,omitempty" required:"false"` // replace what an earlier export left
	Retries                int    `json:"retries" yaml:"retries,omitempty" required:"false"`     // whole-job attempts after the first, 0..20

	Transport Transport `json:"transport,omitempty" yaml:"transport,omitempty"` // how disks are read; "" means nfc
	// Limit bounds the job's bandwidth, as "200MB/s" or "1Gbit/s"; "" and "0"
	// are no limit of its own. See [ParseRate].
	Limit string `json:"limit,omitempty" yaml:"limit,omitempty"`
}

// Redacted returns d without its password, for storing, showing and logging.
func (d JobDefinition) Redacted() JobDefinition {
	d.Password = ""
	return d
}

// Job is a job as the API gives it back. Result, Error, StartedAt and
// CompletedAt are there from the beginning, as null until there is something to
// tell.
type Job struct {
	Definition  JobDefinition `json:"definition"`
	Status      Status        `json:"status"`
	Progress    *Progress     `json:"progress"`
	Result      *Result       `json:"result"`
	Error       string        `json:"error" nullable:"true"`
	StartedAt   *time.Time    `json:"started_at"`
	CompletedAt *time.Time    `json:"completed_at"`
	UpdatedAt   time.Time     `json:"updated_at"`

	Attempts    int        `json:"attempts,omitempty"`        // failed attempts so far
	NextAttempt *time.Time `json:"next_attempt_at,omitempty"` // pending after a failure: when it is tried again
	Cancelling  bool       `json:"cancelling,omitempty"`      // a cancel was asked for and is not done yet

	// WaitingFor says what a job waits for that is pending or being cancelled,
	// as "waiting for vCenter prod since 2026-01-02T03:04:05Z: …".
	WaitingFor string `json:"waiting_for,omitempty"`
}

// MarshalJSON writes an empty Error as null.
func (j Job) MarshalJSON() ([]byte, error) {
	type fields Job
	shown := struct {
		fields
		Error *string `json:"error"`
	}{fields: fields(j)}
	if j.Error != "" {
		shown.Error = &j.Error
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // left to whoever writes the whole
	err := enc.Encode(shown)
	return b.Bytes(), err
}

// Progress is how far a job is; present in every job.
type Progress struct {
	Phase              string  `json:"phase"`
	CurrentFile        string  `json:"current_file"`
	FilesDownloaded    int     `json:"files_downloaded"`
	TotalFiles         int     `json:"total_files"`
	BytesDownloaded    int64   `json:"bytes_downloaded"`    // off the wire
	TotalBytes         int64   `json:"total_bytes"`         // capacity of the disks and size of the other files
	PercentComplete    float64 `json:"percent_complete"`    // 0..100, by position in the disks
	EstimatedRemaining string  `json:"estimated_remaining"` // Go duration, empty when it cannot be told
	Activity           string  `json:"activity,omitempty"`  // what the run waits for or reads again, while no counter moves
}

// Result is what an export left on disk.
type Result struct {
	VMName    string        `json:"vm_name"`
	OutputDir string        `json:"output_dir"`
	OVFPath   string        `json:"ovf_path"`              // empty for raw and qcow2
	DomainXML string        `json:"domain_path,omitempty"` // libvirt domain XML, empty for ovf
	Files     []string      `json:"files"`                 // absolute paths
	TotalSize int64         `json:"total_size"`            // bytes of all files as ls shows them
	Duration  time.Duration `json:"duration"`              // nanoseconds
	Success   bool          `json:"success"`
	Disks     []DiskResult  `json:"disks,omitempty"`
	Owed      []string      `json:"owed,omitempty"`  // what is left at vSphere, and is put back later
	Notes     []string      `json:"notes,omitempty"` // what a person should know: fallbacks, what could not be verified
}

// DiskResult tells how one disk arrived and how it was verified.
type DiskResult struct {
	File        string `json:"file"`        // absolute path
	Capacity    int64  `json:"capacity"`    // bytes
	Transferred int64  `json:"transferred"` // bytes off the wire in this run, 0 when it was there already
	StreamSize  int64  `json:"stream_size"` // bytes of the stream as sent; of the areas that were read, from a datastore
	Digest      string `json:"digest"`      // "sha256:<hex>" or "sha1:<hex>" of the stream as sent; may be empty from a datastore
	// Verified is "manifest" as a rule. Where no manifest vouches for a disk, its
	// structure and the checksum of every grain do: "end-of-stream" where the host's
	// manifest has no checksum of it, "grain-checksums" where the manifest could not
	// be read any more. From a datastore it is "size" or "second-read".
	Verified  string `json:"verified"`
	Transport string `json:"transport"` // "stream" or "ranges" under a lease, "datastore"
	Retries   int64  `json:"retries"`   // attempts after the first
	Resumed   bool   `json:"resumed"`   // part or all of it came from an earlier run
}
