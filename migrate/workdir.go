package migrate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/hyper2kvm/hyper2kvm/internal/atomicfile"
)

// workdir is the hidden directory in the output directory where a VM's files
// grow under part names until all of them are verified. It is locked: one run
// at a time works on a VM in an output directory. What the ledger vouches for
// survives the process; everything else in it is rubbish.
type workdir struct {
	output string // the output directory
	base   string // stem of the final file names
	dir    string

	lock *flock.Flock
	made bool // the output directory was not there before

	unread error // there is a ledger, and why it cannot be read

	mu     sync.Mutex // guards ledger, its entries, and its file
	ledger ledger
}

const (
	ledgerName = "ledger.json"
	lockName   = "lock"
)

// planWorkdir says where the work directory would be.
func planWorkdir(output, base string) *workdir {
	return &workdir{output: output, base: base, dir: filepath.Join(output, workPrefix+base)}
}

// openWorkdir creates and locks the work directory of the VM whose file stem
// is base. A ledger that cannot be read counts as none; unread says so.
func openWorkdir(output, base string) (*workdir, error) {
	w := planWorkdir(output, base)
	w.made = !exists(output)
	for {
		if err := makeDirs(w.dir); err != nil {
			return nil, fmt.Errorf("output directory: %w", storageError(err))
		}
		w.lock = flock.New(filepath.Join(w.dir, lockName))
		locked, err := w.lock.TryLock()
		if errors.Is(err, fs.ErrNotExist) {
			continue // the run before us is removing the directory
		}
		if err != nil {
			return nil, fmt.Errorf("lock the work directory: %w", err)
		}
		if !locked {
			return nil, fmt.Errorf("%w: %s", ErrLocked, w.dir)
		}
		if w.lockInPlace() {
			break
		}
		_ = w.lock.Close()
	}
	err := readJSON(w.path(ledgerName), &w.ledger)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.unread = err
	}
	if err != nil || w.ledger.Version != ledgerVersion {
		w.ledger = ledger{}
	}
	w.ledger.abandoned(time.Now())
	return w, nil
}

// lockInPlace reports whether the file we hold the lock on is still the one
// others would lock, and was not removed with its directory meanwhile.
func (w *workdir) lockInPlace() bool {
	held, err := w.lock.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(w.lock.Path())
	return err == nil && os.SameFile(held, named)
}

// path is where the file name of the work directory is.
func (w *workdir) path(name string) string { return filepath.Join(w.dir, name) }

// final is where the file name of the output directory will be.
func (w *workdir) final(name string) string { return filepath.Join(w.output, name) }

// begin makes the ledger one for id. When it already is, finished disks and
// checkpoints stay and resumed is true; when it speaks of something else, the
// work directory is emptied.
func (w *workdir) begin(id identity, jobID string) (resumed bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ledger.Version == ledgerVersion && w.ledger.VM == id {
		w.ledger.JobID = jobID
		return len(w.ledger.Disks) > 0, w.save()
	}
	// What is owed at vSphere stays known at every moment: the new ledger is
	// there before anything of the old work goes.
	w.ledger = ledger{Version: ledgerVersion, JobID: jobID, VM: id, Disks: map[string]*diskEntry{}, owed: w.ledger.owed}
	if err := w.save(); err != nil {
		return false, err
	}
	return false, w.empty()
}

// empty removes everything but the lock and the ledger.
func (w *workdir) empty() error {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != lockName && e.Name() != ledgerName {
			err = errors.Join(err, os.RemoveAll(w.path(e.Name())))
		}
	}
	return err
}

// update changes the ledger and makes the change durable.
func (w *workdir) update(change func(*ledger)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.ledger)
	return w.save()
}

func (w *workdir) save() error {
	if err := writeJSON(w.path(ledgerName), &w.ledger); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return nil
}

// entry returns a copy of what the ledger says of the disk with device key
// key.
func (w *workdir) entry(key string) (diskEntry, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.ledger.Disks[key]; e != nil {
		return *e, true
	}
	return diskEntry{}, false
}

// setEntry records e for the disk with device key key, or forgets the disk
// when e is nil.
func (w *workdir) setEntry(key string, e *diskEntry) error {
	return w.update(func(l *ledger) {
		if e == nil {
			delete(l.Disks, key)
			return
		}
		l.Disks[key] = e
	})
}

// interrupted reports whether something is unfinished beside the disks: at
// vSphere, or in giving files their names.
func (w *workdir) interrupted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	return w.ledger.Install != nil || now.Before(w.ledger.BusyUntil) || len(w.ledger.debts(now)) > 0
}

// kept counts the disks that a later run need not fetch, or not from the
// start.
func (w *workdir) kept() (done, partial int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.ledger.Disks {
		switch {
		case e.whole():
			done++
		case e.Checkpoint != nil:
			partial++
		}
	}
	return done, partial
}

// remove removes the work directory, with the ledger in it, and unlocks.
func (w *workdir) remove() error {
	defer func() { _ = w.lock.Close() }()
	if err := os.RemoveAll(w.dir); err != nil {
		return err
	}
	return atomicfile.SyncDir(w.output)
}

// close unlocks. With keep, what the ledger vouches for stays for the next
// run; otherwise, and when it vouches for nothing, the work directory goes,
// unless something at vSphere is still to be put back.
func (w *workdir) close(keep bool) error {
	defer func() { _ = w.lock.Close() }()
	if keep {
		done, partial := w.kept()
		keep = done+partial > 0 || w.interrupted()
	}
	if !keep && w.owes() {
		// What could not be put back must stay known.
		keep = true
		if err := w.update(func(l *ledger) { l.Disks = map[string]*diskEntry{} }); err != nil {
			return err
		}
	}
	if keep {
		return w.removeStray()
	}
	err := os.RemoveAll(w.dir)
	if w.made {
		_ = os.Remove(w.output) // fails when it holds anything, which is then to stay
	}
	return err
}

// removeStray removes the files that the ledger does not vouch for.
func (w *workdir) removeStray() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	vouched := map[string]bool{ledgerName: true, lockName: true}
	for key, e := range w.ledger.Disks {
		if e.useful() {
			vouched[e.Part] = true
		} else {
			delete(w.ledger.Disks, key)
		}
	}
	if w.ledger.Install != nil {
		for _, m := range w.ledger.Install.Moves {
			vouched[m.From] = true
		}
	}
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !vouched[e.Name()] {
			err = errors.Join(err, os.RemoveAll(w.path(e.Name())))
		}
	}
	return errors.Join(err, w.save())
}
