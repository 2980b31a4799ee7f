package workdir

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/job"
)

// ledgerVersion is raised whenever an older ledger cannot be resumed from.
const ledgerVersion = 1

// VersionError: the ledger is of a version that this program does not know.
type VersionError struct{ Version int }

// Error names both versions.
func (e *VersionError) Error() string {
	return fmt.Sprintf("the ledger is of version %d; this program knows version %d", e.Version, ledgerVersion)
}

// Identity is what must be unchanged for finished disks of an earlier run to
// be used again.
type Identity struct {
	VCenter       string     `json:"vcenter"` // host of its URL
	InstanceUUID  string     `json:"instance_uuid"`
	ChangeVersion string     `json:"change_version"` // of the VM's configuration
	Format        job.Format `json:"format"`
	Compress      bool       `json:"compress,omitempty"`
}

// ledger is what a run writes down so that the next one can resume. It lives in
// the work directory, beside the part files it speaks of.
type ledger struct {
	Version int      `json:"version"`
	JobID   string   `json:"job_id,omitempty"`
	VM      Identity `json:"vm"`
	Owed
	Disks   map[string]*Disk `json:"disks"`             // by device key
	Install *Install         `json:"install,omitempty"` // set once everything is verified
	Step    *Step            `json:"step,omitempty"`    // that follows the export, and has no end yet

	// Network is what the guest's Tools said last, for they say nothing once it is off.
	Network *job.GuestNetwork `json:"network,omitempty"`
}

// Disk tells how far one disk is.
type Disk struct {
	Part       string         `json:"part"` // file name in the work directory
	Capacity   int64          `json:"capacity"`
	LeaseKey   string         `json:"lease_key,omitempty"` // of the item under the lease by which it came
	Checkpoint *Checkpoint    `json:"resume,omitempty"`    // where to resume
	Arrived    bool           `json:"arrived,omitempty"`   // complete and on stable storage; its manifest was not read yet
	Inflated   bool           `json:"inflated,omitempty"`  // when Arrived: every grain was inflated on the way
	Done       bool           `json:"done,omitempty"`      // Arrived, and verified
	SHA256     string         `json:"sha256,omitempty"`    // when Arrived or Done: "sha256:<hex>" of the stream as it came
	Result     job.DiskResult `json:"result,omitzero"`     // when Arrived or Done
}

// Whole reports whether every byte of the disk is here.
func (e *Disk) Whole() bool { return e.Arrived || e.Done }

// useful reports whether the next run has something of the part file.
func (e *Disk) useful() bool { return e.Whole() || e.Checkpoint != nil }

// Checkpoint is a place in a disk at which another process can resume.
//
// It is written down after a sync that succeeded, and never after one that
// failed. So a run can resume from it after an error of the file system too: what
// was written since, and may be lost, is fetched and written again (a raw image),
// or cut away first (a stream as it comes, the clusters of a qcow2).
type Checkpoint struct {
	Kind  string          `json:"kind"`  // which way of reading it is of: no other understands State
	State json.RawMessage `json:"state"` // what that way needs to resume, and to know that the disk is still the same
}

// VM is the VM that the ledger speaks of, the zero value when it has not begun.
func (w *Dir) VM() Identity {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ledger.VM
}

// JobID is the job whose run has written the ledger; "" when it had none.
func (w *Dir) JobID() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ledger.JobID
}

// IsOf reports whether the ledger is of the VM that is called so: its path, its
// name, its UUID, or its managed object id.
func (w *Dir) IsOf(vm string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := &w.ledger
	return vm == l.VMPath || vm == l.JobVM || strings.EqualFold(vm, l.VM.InstanceUUID) || vm == l.VMRef ||
		vm == path.Base(l.VMPath)
}

// NoteVM records where the VM is and how the job calls it, so that it is found
// again when it was renamed.
func (w *Dir) NoteVM(ref, path, jobVM string) error {
	return w.update(func(l *ledger) { l.VMRef, l.VMPath, l.JobVM = ref, path, jobVM })
}

// NoteChangeVersion takes the VM as it is after a change of our own as the one
// that the ledger speaks of.
func (w *Dir) NoteChangeVersion(version string) error {
	return w.strike(func(l *ledger) { l.VM.ChangeVersion = version })
}

// NoteNetwork records what the guest's Tools have said of its network.
func (w *Dir) NoteNetwork(n *job.GuestNetwork) error {
	return w.update(func(l *ledger) { l.Network = n })
}

// Network is what the guest's Tools said last, in this run or an earlier one; nil when
// nothing. It is not to be changed.
func (w *Dir) Network() *job.GuestNetwork {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ledger.Network
}

// Restart makes the ledger one of the VM id, of which nothing was fetched yet.
func (w *Dir) Restart(id Identity) error {
	return w.update(func(l *ledger) { l.VM, l.Disks = id, map[string]*Disk{} })
}

// Disk returns what the ledger says of the disk with device key key.
func (w *Dir) Disk(key string) (Disk, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.ledger.Disks[key]; e != nil {
		return *e, true
	}
	return Disk{}, false
}

// SetDisk records e for the disk with device key key.
func (w *Dir) SetDisk(key string, e Disk) error {
	return w.update(func(l *ledger) { l.Disks[key] = &e })
}

// ForgetDisk makes the ledger vouch for nothing of the disk with device key key.
func (w *Dir) ForgetDisk(key string) error {
	return w.update(func(l *ledger) { delete(l.Disks, key) })
}

// Kept counts the disks that a later run need not fetch, or not from the
// start.
func (w *Dir) Kept() (whole, partial int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.ledger.Disks {
		switch {
		case e.Whole():
			whole++
		case e.Checkpoint != nil:
			partial++
		}
	}
	return whole, partial
}
