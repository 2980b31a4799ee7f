package workdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/atomicfile"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// Giving verified files their names.
//
// What is to be moved where is written down first, with what each file is known
// by, so that a run after a crash finishes it, and does not take a file of others
// that has one of the names for its own. No name is taken that is taken, unless
// overwriting was asked for. When one file cannot get its name, those that have
// theirs go back to the work directory: either an export is there, or it is not.

// Install is a list of renames to be done. The receipt's is the last.
type Install struct {
	Renames  []Rename  `json:"moves"`
	Receipt  Receipt   `json:"receipt"`
	Verified time.Time `json:"verified"`           // when every file was
	Snapshot bool      `json:"snapshot,omitempty"` // the disks are those of a temporary snapshot
	Replace  bool      `json:"replace,omitempty"`  // overwriting was asked for
	// Again: the receipt that is there is of this job, and what it names is gone.
	Again bool `json:"again,omitempty"`
}

// Rename gives a file of the work directory its final name, also a plain
// file name, in the output directory.
type Rename struct {
	From    string    `json:"from"`
	To      string    `json:"to"`
	Size    int64     `json:"size"`     // in bytes
	ModTime time.Time `json:"mod_time"` // with Size, what the file is known by under its final name
}

// Receipt is the record of a finished export. It is written beside the
// exported files as <stem>.export.json, after they have their final names.
type Receipt struct {
	JobID  string `json:"job_id,omitempty"`
	VMPath string `json:"vm_path"`
	Asked
	Files  []ReceiptFile `json:"files"`
	Result job.Result    `json:"result"`
	// Restarted is when the VM that had been stopped for the export was powered on again,
	// because a step after it failed: the disks are older than the VM since.
	Restarted time.Time `json:"restarted,omitzero"`
	// WasOn: the VM ran before it was stopped for the export.
	WasOn bool `json:"was_on,omitempty"`
	// Mark is what the source was marked with, and how it was before.
	Mark  *vsphere.Mark `json:"mark,omitempty"`
	Steps []StepDone    `json:"steps,omitempty"` // done with the files since, in their order
}

// Asked is what was exported, and what it was to become.
type Asked struct {
	InstanceUUID string        `json:"instance_uuid"`
	Format       job.Format    `json:"format"`
	Compress     bool          `json:"compress,omitempty"`
	Virtio       bool          `json:"virtio,omitempty"`
	RemoveCDROM  bool          `json:"remove_cdrom,omitempty"`
	Verify       job.Verify    `json:"verify,omitempty"`
	Transport    job.Transport `json:"transport,omitempty"`
	Networks     string        `json:"networks,omitempty"` // as job.FormatNetworkMap writes them
	For          string        `json:"for,omitempty"`      // platforms of the landing kit, as job.ParseTargets orders them
	Stopped      bool          `json:"stopped,omitempty"`  // a VM that runs is stopped first
}

// ReceiptFile is a file of an export.
type ReceiptFile struct {
	Name string `json:"name"` // in the receipt's directory
	Size int64  `json:"size"` // in bytes
}

// Lacks are those of some file names that are none of the export's.
func (r Receipt) Lacks(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return slices.ContainsFunc(r.Files, func(f ReceiptFile) bool { return f.Name == name })
	})
}

// receiptName is the receipt's file while it is in the work directory.
const receiptName = "receipt.json"

// ErrGone: a file that was verified is neither in the work directory nor under
// its final name.
var ErrGone = errors.New("a verified file is gone")

// Overwriting names the choice that replaces what is there, for people.
const Overwriting = "-overwrite, in a job options.overwrite"

// ErrExists: a final file name is taken, and overwriting was not asked for.
var ErrExists = errors.New("the output is there already")

// ReceiptPath is where the receipt of a finished export is.
func (w *Dir) ReceiptPath() string { return w.Final(w.receipt()) }

// receipt is the receipt's name in the output directory.
func (w *Dir) receipt() string { return w.base + receiptSuffix }

// HasReceipt reports whether the receipt of a finished export is there.
func (w *Dir) HasReceipt() bool { return w.exists(w.receipt()) }

// ReadReceipt reads the receipt of a finished export. Where there is none, the
// error is an fs.ErrNotExist.
func (w *Dir) ReadReceipt() (Receipt, error) {
	var receipt Receipt
	err := w.readJSON(w.receipt(), &receipt)
	return receipt, err
}

// Installing returns the renames that an earlier run has begun, or was about to.
func (w *Dir) Installing() (in Install, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ledger.Install == nil {
		return Install{}, false
	}
	return *w.ledger.Install, true
}

// Taken names the first of the final file names that is taken, or "".
func (w *Dir) Taken(names []string) string {
	for _, name := range names {
		if w.exists(name) {
			return w.Final(name)
		}
	}
	return ""
}

// Broken says which of the receipt's files is not there as it tells, or "".
func (w *Dir) Broken(receipt Receipt) string {
	for _, f := range receipt.Files {
		path := w.Final(filepath.Base(f.Name))
		switch st, err := w.out.Stat(filepath.Base(f.Name)); {
		case errors.Is(err, fs.ErrNotExist):
			return path + " is gone"
		case err != nil:
			return err.Error()
		case st.Size() != f.Size || !st.Mode().IsRegular():
			return fmt.Sprintf("%s has %d bytes, not %d as it had then", path, st.Size(), f.Size)
		}
	}
	if len(receipt.Files) == 0 {
		return w.ReceiptPath() + " names no files"
	}
	return ""
}

// Install gives the files of in, and the receipt, their final names.
func (w *Dir) Install(in Install) error {
	if err := w.writeJSON(w.in(receiptName), in.Receipt); err != nil {
		return fmt.Errorf("receipt: %w", err)
	}
	in.Renames = append(in.Renames, Rename{From: receiptName, To: w.receipt()})
	for i := range in.Renames {
		m := &in.Renames[i]
		st, err := w.out.Lstat(w.in(m.From))
		if err != nil {
			return err
		}
		m.Size, m.ModTime = st.Size(), st.ModTime()
	}
	if err := w.update(func(l *ledger) { l.Install = &in }); err != nil {
		return err
	}
	return w.FinishInstall(in.Replace)
}

// FinishInstall does what the ledger's install asks for and is not done yet.
// The ledger stays until [Dir.Retire], because it names what is still to be put back at
// vSphere. The error is [ErrGone], or [ErrExists] when replace is false and others
// have one of the names; the files are in the work directory then.
func (w *Dir) FinishInstall(replace bool) error {
	w.mu.Lock()
	in := *w.ledger.Install
	w.mu.Unlock()
	err := w.renameAll(in, replace)
	if err != nil {
		w.takeBack(in.Renames)
	}
	return err
}

func (w *Dir) renameAll(in Install, replace bool) error {
	todo, err := w.outstanding(in.Renames)
	if err != nil {
		return err
	}
	replaces := func(m Rename) bool { return replace || in.Again && m.To == w.receipt() }
	for _, m := range todo { // all of them before the first is moved
		if !replaces(m) && w.exists(m.To) && !w.sameFile(m) {
			return appeared(w.Final(m.To))
		}
	}
	for _, m := range todo {
		if m.From == receiptName { // not before what it vouches for
			if err := atomicfile.SyncDir(w.out.Root, "."); err != nil {
				return err
			}
		}
		if err := w.rename(m, replaces(m)); err != nil {
			return err
		}
	}
	return atomicfile.SyncDir(w.out.Root, ".")
}

// rename gives one file its final name.
func (w *Dir) rename(m Rename, replace bool) error {
	rename := atomicfile.Rename
	if replace && !w.sameFile(m) {
		rename = (*os.Root).Rename
	}
	err := rename(w.out.Root, w.in(m.From), m.To)
	if errors.Is(err, fs.ErrExist) && !replace {
		return appeared(w.Final(m.To))
	}
	if err != nil {
		return fmt.Errorf("give %s its final name: %w", m.To, Storage(err))
	}
	return nil
}

// appeared is the error of a final name that others have taken meanwhile.
func appeared(path string) error {
	return fault.Permanent(fault.WithHint(fmt.Errorf("%w: %s appeared while the VM was exported", ErrExists, path),
		"move it away, or ask to overwrite ("+Overwriting+"), and run the same again: every file is here and verified, and nothing is fetched again"))
}

// outstanding lists the renames that are still to be done: none once the receipt, the
// last, has its name, whatever has become of the others since.
func (w *Dir) outstanding(renames []Rename) ([]Rename, error) {
	if receipt := renames[len(renames)-1]; !w.exists(w.in(receipt.From)) && w.renamed(receipt) {
		return nil, nil
	}
	var todo []Rename
	for _, m := range renames {
		st, err := w.out.Lstat(w.in(m.From))
		switch {
		case err == nil && st.Size() == m.Size:
			todo = append(todo, m)
		case err == nil:
			return nil, fmt.Errorf("%w: %s has %d bytes, not %d as it had", ErrGone, w.File(m.From), st.Size(), m.Size)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		case !w.renamed(m):
			return nil, fmt.Errorf("%w: %s is not in %s, and not the file that is to be there", ErrGone, m.To, w.output)
		}
	}
	return todo, nil
}

// renamed reports whether what has the final name is the file that was to get it.
func (w *Dir) renamed(m Rename) bool {
	st, err := w.out.Lstat(m.To)
	return err == nil && st.Mode().IsRegular() && st.Size() == m.Size && st.ModTime().Equal(m.ModTime)
}

// sameFile reports whether the file has its final name already, beside the one
// that it has in the work directory.
func (w *Dir) sameFile(m Rename) bool { return w.sameName(w.in(m.From), m.To) }

// takeBack moves the files that have their final names back into the work
// directory, as far as that can be done: a run that resumes from there finds
// them at either place.
func (w *Dir) takeBack(renames []Rename) {
	for _, m := range renames {
		if !w.exists(w.in(m.From)) && w.renamed(m) {
			_ = w.out.Rename(m.To, w.in(m.From))
		}
	}
}

// Installed forgets an install that is complete and of another export than the
// one to come: of that one nothing is here, and the drives that it took out stay
// out.
func (w *Dir) Installed() error {
	return w.update(func(l *ledger) { l.Install, l.Disks, l.CDROM = nil, map[string]*Disk{}, nil })
}

// DropInstall forgets what was to be renamed, and the disks whose files are not
// as they were: the others need not be fetched again.
func (w *Dir) DropInstall() error {
	return w.update(func(l *ledger) {
		for _, m := range l.Install.Renames {
			if st, err := w.out.Lstat(w.in(m.From)); err == nil && st.Size() == m.Size {
				continue
			}
			for key, e := range l.Disks {
				if e.Part == m.From {
					delete(l.Disks, key)
				}
			}
		}
		l.Install = nil
	})
}
