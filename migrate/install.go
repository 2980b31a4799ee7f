package migrate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/atomicfile"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// Giving verified files their names.
//
// What is to be moved where is written down first, with what each file is known
// by, so that a run after a crash finishes it, and does not take a file of others
// that has one of the names for its own. No name is taken that is taken, unless
// overwriting was asked for. When one file cannot get its name, those that have
// theirs go back to the work directory: either an export is there, or it is not.

// install is a list of renames to be done. The receipt's is the last.
type install struct {
	Moves    []move    `json:"moves"`
	Receipt  Receipt   `json:"receipt"`
	Verified time.Time `json:"verified"`           // when every file was
	Snapshot bool      `json:"snapshot,omitempty"` // the disks are those of a temporary snapshot
	Replace  bool      `json:"replace,omitempty"`  // overwriting was asked for
	// Again: the receipt that is there is of this job, and what it names is gone.
	Again bool `json:"again,omitempty"`
}

// move renames a file of the work directory to its final name, also a plain
// file name, in the output directory.
type move struct {
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
}

// Asked is what was exported, and what it was to become.
type Asked struct {
	InstanceUUID string        `json:"instance_uuid"`
	Format       job.Format    `json:"format"`
	Compress     bool          `json:"compress,omitempty"`
	Virtio       bool          `json:"virtio,omitempty"`
	RemoveCDROM  bool          `json:"remove_cdrom,omitempty"`
	Verify       string        `json:"verify,omitempty"`
	Transport    job.Transport `json:"transport,omitempty"`
}

// ReceiptFile is a file of an export.
type ReceiptFile struct {
	Name string `json:"name"` // in the receipt's directory
	Size int64  `json:"size"` // in bytes
}

// receiptName is the receipt's file while it is in the work directory.
const receiptName = "receipt.json"

// errGone: a file that was verified is neither in the work directory nor under
// its final name.
var errGone = errors.New("a verified file is gone")

func (w *workdir) receiptPath() string { return w.final(w.base + ".export.json") }

// conflict names the first of the final file names that is taken, or "".
func (w *workdir) conflict(names []string) string {
	for _, name := range names {
		if exists(w.final(name)) {
			return w.final(name)
		}
	}
	return ""
}

// broken says which of the receipt's files is not there as it tells, or "".
func (w *workdir) broken(receipt Receipt) string {
	for _, f := range receipt.Files {
		path := w.final(filepath.Base(f.Name))
		switch st, err := os.Stat(path); {
		case errors.Is(err, fs.ErrNotExist):
			return path + " is gone"
		case err != nil:
			return err.Error()
		case st.Size() != f.Size || !st.Mode().IsRegular():
			return fmt.Sprintf("%s has %d bytes, not %d as it had then", path, st.Size(), f.Size)
		}
	}
	if len(receipt.Files) == 0 {
		return w.receiptPath() + " names no files"
	}
	return ""
}

// installAll gives the files of in, and the receipt, their final names.
func (w *workdir) installAll(in install) error {
	if err := writeJSON(w.path(receiptName), in.Receipt); err != nil {
		return fmt.Errorf("receipt: %w", err)
	}
	in.Moves = append(in.Moves, move{From: receiptName, To: filepath.Base(w.receiptPath())})
	for i := range in.Moves {
		m := &in.Moves[i]
		st, err := os.Lstat(w.path(m.From))
		if err != nil {
			return err
		}
		m.Size, m.ModTime = st.Size(), st.ModTime()
	}
	if err := w.update(func(l *ledger) { l.Install = &in }); err != nil {
		return err
	}
	return w.finishInstall(in.Replace)
}

// finishInstall does what the ledger's install asks for and is not done yet.
// The ledger stays until remove, for it names what is still to be put back at
// vSphere. The error is errGone, or ErrExists when replace is false and others
// have one of the names; the files are in the work directory then.
func (w *workdir) finishInstall(replace bool) error {
	w.mu.Lock()
	in := *w.ledger.Install
	w.mu.Unlock()
	err := w.moveAll(in, replace)
	if err != nil {
		w.takeBack(in.Moves)
	}
	return err
}

func (w *workdir) moveAll(in install, replace bool) error {
	todo, err := w.unmoved(in.Moves)
	if err != nil {
		return err
	}
	replaces := func(m move) bool { return replace || in.Again && w.final(m.To) == w.receiptPath() }
	for _, m := range todo { // all of them before the first is moved
		if !replaces(m) && exists(w.final(m.To)) && !w.sameFile(m) {
			return appeared(w.final(m.To))
		}
	}
	for _, m := range todo {
		if m.From == receiptName { // not before what it vouches for
			if err := atomicfile.SyncDir(w.output); err != nil {
				return err
			}
		}
		if err := w.move(m, replaces(m)); err != nil {
			return err
		}
	}
	return atomicfile.SyncDir(w.output)
}

// move gives one file its final name.
func (w *workdir) move(m move, replace bool) error {
	from, to := w.path(m.From), w.final(m.To)
	rename := atomicfile.Rename
	if replace && !w.sameFile(m) {
		rename = os.Rename
	}
	err := rename(from, to)
	if errors.Is(err, fs.ErrExist) && !replace {
		return appeared(to)
	}
	if err != nil {
		return fmt.Errorf("give %s its final name: %w", m.To, storageError(err))
	}
	return nil
}

// appeared is the error of a final name that others have taken meanwhile.
func appeared(path string) error {
	return permanent{withHint(fmt.Errorf("%w: %s appeared while the VM was exported", ErrExists, path),
		"move it away, or ask to overwrite, and run the same again: every file is here and verified, and nothing is fetched again")}
}

// unmoved lists the moves that are still to be done: none once the receipt, the
// last, has its name, whatever has become of the others since.
func (w *workdir) unmoved(moves []move) ([]move, error) {
	if receipt := moves[len(moves)-1]; !exists(w.path(receipt.From)) && w.moved(receipt) {
		return nil, nil
	}
	var todo []move
	for _, m := range moves {
		st, err := os.Lstat(w.path(m.From))
		switch {
		case err == nil && st.Size() == m.Size:
			todo = append(todo, m)
		case err == nil:
			return nil, fmt.Errorf("%w: %s has %d bytes, not %d as it had", errGone, w.path(m.From), st.Size(), m.Size)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		case !w.moved(m):
			return nil, fmt.Errorf("%w: %s is not in %s, and not the file that is to be there", errGone, m.To, w.output)
		}
	}
	return todo, nil
}

// moved reports whether what has the final name is the file that was to get it.
func (w *workdir) moved(m move) bool {
	st, err := os.Lstat(w.final(m.To))
	return err == nil && st.Mode().IsRegular() && st.Size() == m.Size && st.ModTime().Equal(m.ModTime)
}

// sameFile reports whether the file has its final name already, beside the one
// that it has in the work directory.
func (w *workdir) sameFile(m move) bool {
	from, err := os.Lstat(w.path(m.From))
	if err != nil {
		return false
	}
	to, err := os.Lstat(w.final(m.To))
	return err == nil && os.SameFile(from, to)
}

// takeBack moves the files that have their final names back into the work
// directory, as far as that can be done: a run that goes on from there finds
// them at either place.
func (w *workdir) takeBack(moves []move) {
	for _, m := range moves {
		if !exists(w.path(m.From)) && w.moved(m) {
			_ = os.Rename(w.final(m.To), w.path(m.From))
		}
	}
}

// dropInstall forgets what was to be renamed, and the disks whose files are not
// as they were: the others need not be fetched again.
func (w *workdir) dropInstall() error {
	return w.update(func(l *ledger) {
		for _, m := range l.Install.Moves {
			if st, err := os.Lstat(w.path(m.From)); err == nil && st.Size() == m.Size {
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
