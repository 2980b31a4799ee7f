package job

import "time"

// Result is what an export left on disk.
type Result struct {
	VMName    string        `json:"vm_name"`
	OutputDir string        `json:"output_dir"`
	OVFPath   string        `json:"ovf_path"`              // empty for all formats but ovf
	OVAPath   string        `json:"ova_path,omitempty"`    // empty for all formats but ova
	DomainXML string        `json:"domain_path,omitempty"` // libvirt domain XML, empty for ovf
	Files     []string      `json:"files"`                 // absolute paths
	TotalSize int64         `json:"total_size"`            // bytes of all files as ls shows them
	Duration  time.Duration `json:"duration"`              // nanoseconds
	Success   bool          `json:"success"`
	Earlier   bool          `json:"earlier,omitempty"` // all of it was there: an earlier run had finished the same export
	Disks     []DiskResult  `json:"disks,omitempty"`
	Owed      []string      `json:"owed,omitempty"` // what is left at vSphere, and is put back later
	// Unmapped are the port groups of the VM's network cards that the job's
	// network map does not name: those cards are on libvirt's network "default".
	Unmapped []string `json:"unmapped_networks,omitempty"`
	// Network is what VMware Tools reported while the guest ran; nil when nothing. The
	// file NAME.network.json holds the same.
	Network *GuestNetwork `json:"network,omitempty"`
	Notes   []string      `json:"notes,omitempty"` // what a person should know: fallbacks, what could not be verified
	// Converted is what a guest conversion came to, where one was asked for.
	Converted *Converted `json:"converted,omitempty"`
	// NetworkKept says for each of the guest's cards how it keeps its addresses, where
	// that was asked for.
	NetworkKept []string `json:"network_kept,omitempty"`
	Landed      *Landed  `json:"landed,omitempty"` // at libvirt, where that was asked for
}

// Verification is how a disk was verified. A result may come from a newer daemon
// or an older run, so there can be others than the ones below: see
// [Verification.Known].
type Verification string

// Ways in which a disk is verified. Where no manifest vouches for the stream of a
// lease, its structure and the checksum of every grain do.
const (
	ByManifest    Verification = "manifest"        // size and hash are those of the lease's manifest
	ByEndOfStream Verification = "end-of-stream"   // by the grains: the host's manifest has no checksum of it
	ByGrains      Verification = "grain-checksums" // by the grains: the host's manifest could not be read any more
	BySize        Verification = "size"            // from a datastore, over port 902 or out of a file, which have no checksum
	BySecondRead  Verification = "second-read"     // from a datastore, read twice with the same hash
)

// Known reports whether v is one of the ways that this version knows.
func (v Verification) Known() bool {
	switch v {
	case ByManifest, ByEndOfStream, ByGrains, BySize, BySecondRead:
		return true
	}
	return false
}

// Transports of disks that were converted: out of a file that was here already, and from
// an NBD server.
const (
	FromFile = "file"
	FromNBD  = "nbd"
)

// DiskResult tells how one disk arrived and how it was verified.
type DiskResult struct {
	File        string       `json:"file"`        // absolute path; of format ova, that of the tar it is in
	Capacity    int64        `json:"capacity"`    // bytes
	Transferred int64        `json:"transferred"` // bytes off the wire in this run, 0 when it was there already
	StreamSize  int64        `json:"stream_size"` // bytes of the stream as sent; of the areas that were read, from a datastore
	Digest      string       `json:"digest"`      // "sha256:<hex>" or "sha1:<hex>" of the stream as sent; may be empty from a datastore
	Verified    Verification `json:"verified"`
	Transport   string       `json:"transport"` // "stream" or "ranges" under a lease, "datastore", "nfc902", "vddk", [FromFile], [FromNBD]
	Retries     int64        `json:"retries"`   // attempts after the first
	Resumed     bool         `json:"resumed"`   // part or all of it came from an earlier run
}
