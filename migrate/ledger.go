package migrate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/internal/atomicfile"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// ledgerVersion is raised whenever an older ledger cannot be gone on from.
const ledgerVersion = 1

// identity is what must be unchanged for finished disks of an earlier run to
// be used again.
type identity struct {
	VCenter       string     `json:"vcenter"` // host of its URL
	InstanceUUID  string     `json:"instance_uuid"`
	ChangeVersion string     `json:"change_version"` // of the VM's configuration
	Format        job.Format `json:"format"`
	Compress      bool       `json:"compress,omitempty"`
}

// ledger is what a run writes down so that the next one can go on. It lives in
// the work directory, beside the part files it speaks of.
type ledger struct {
	Version int      `json:"version"`
	JobID   string   `json:"job_id,omitempty"`
	VM      identity `json:"vm"`
	owed
	Disks   map[string]*diskEntry `json:"disks"`             // by device key
	Install *install              `json:"install,omitempty"` // set once everything is verified
}

// diskEntry tells how far one disk is.
type diskEntry struct {
	Part       string         `json:"part"` // file name in the work directory
	Capacity   int64          `json:"capacity"`
	LeaseKey   string         `json:"lease_key,omitempty"`  // of the item under the lease that Done is owed to
	Checkpoint *checkpoint    `json:"checkpoint,omitempty"` // where to go on
	Arrived    bool           `json:"arrived,omitempty"`    // complete and on stable storage; its manifest was not read yet
	Inflated   bool           `json:"inflated,omitempty"`   // when Arrived: every grain was inflated on the way
	Done       bool           `json:"done,omitempty"`       // Arrived, and verified
	SHA256     string         `json:"sha256,omitempty"`     // when Arrived or Done: "sha256:<hex>" of the stream as it came
	Result     job.DiskResult `json:"result,omitzero"`      // when Arrived or Done
}

// whole reports whether every byte of the disk is here.
func (e *diskEntry) whole() bool { return e.Arrived || e.Done }

// useful reports whether the next run has something of the part file.
func (e *diskEntry) useful() bool { return e.whole() || e.Checkpoint != nil }

// checkpoint is a place in a stream at which another process can go on. It is
// of use only while the server honours ranges and its entity tag and size are
// the same.
//
// It is written down after a sync that succeeded, and never after one that
// failed. So it can be gone on from after an error of the file system too: what
// was written since, and may be lost, is fetched and written again (a raw image),
// or cut away first (a stream as it comes, the clusters of a qcow2).
type checkpoint struct {
	ETag     string         `json:"etag"`
	Size     int64          `json:"size"` // of the stream, in bytes
	Hash     hashState      `json:"hash"` // at or before Position.StreamOffset
	Position *disk.Position `json:"position"`

	// Datastore is set instead of Position when the disk was read from its
	// datastore; Size is the disk's then, and Hash counts packed bytes.
	Datastore *areaPosition `json:"datastore,omitempty"`
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// writeJSON replaces path atomically and durably.
func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(data, '\n'))
}

// Modes of what a run makes, less the umask: the part files become the images,
// and whoever may read the descriptor may read those.
const (
	fileMode fs.FileMode = 0o666
	dirMode  fs.FileMode = 0o777
)

// writeFile replaces path by a file that holds data, whole and durable.
func writeFile(path string, data []byte) error {
	return storageError(atomicfile.Write(path, data, fileMode))
}

// exists reports whether something has that name, as far as can be told.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR)
}
