package job

import "time"

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
