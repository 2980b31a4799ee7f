// Package workdir is the hidden directory beside an export's final files, where
// they grow until all of them are verified, and the ledger in it: what a run has
// written down for the next one.
//
// One run at a time works on a VM in an output directory: the directory is locked.
// What the ledger vouches for survives the process; everything else in the
// directory is rubbish. The ledger says how far each disk is, what is owed at
// vSphere (a lease, a snapshot, drives that are out), and, once everything is
// verified, which files are to get which names.
//
// Every change of the ledger is a method that says what has happened, and is on
// stable storage when the method returns. A method that notes what is about to be
// asked of vSphere fails when that cannot be written; one that strikes something
// out succeeds where somebody has removed the directory meanwhile.
//
// Not promised: that a part file is what its entry says. Whoever writes it makes
// it durable before it is entered here.
package workdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/atomicfile"
	"github.com/hyper2kvm/hyper2kvm/internal/directio"
	"github.com/hyper2kvm/hyper2kvm/internal/volume"
	"github.com/hyper2kvm/hyper2kvm/migrate/outdir"
)

// ErrLocked: another process works in the directory.
var ErrLocked = errors.New("another run is exporting this VM into this directory")

const (
	prefix     = ".hyper2kvm-" // of the names of work directories
	ledgerName = "ledger.json"
	lockName   = "lock"
)

// Dir is the work directory of a VM in an output directory. Its methods may be
// called from several goroutines.
type Dir struct {
	output string // path of the output directory, for people
	base   string
	out    *outdir.Dir // nil when there is none; every file is reached through it
	lock   *os.File    // nil when it was not opened
	closed atomic.Bool
	left   bool // once closed: whether the work directory stays

	unread error // there is a ledger, and why it cannot be read

	mu     sync.Mutex // guards ledger, its entries, and its file
	ledger ledger
}

// maxTries is how often a directory is opened that others remove meanwhile.
const maxTries = 1000

// errRemoved: the work directory was removed before it was locked.
var errRemoved = errors.New("the work directory was removed")

// Open makes and locks the work directory for a VM whose files begin with base, in
// the output directory at the path output, which it makes, too, where roots allow.
// A ledger that cannot be read counts as none; Unread says so. The error may be
// [ErrLocked] or [outdir.ErrOutside].
func Open(roots outdir.Roots, output, base string) (*Dir, error) {
	w := &Dir{output: output, base: base}
	for tries := 0; ; tries++ {
		err := w.open(roots)
		if err == nil {
			break
		}
		w.Release()
		if tries < maxTries && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, errRemoved)) {
			w.out, w.lock = nil, nil // the run before us is removing the directory
			continue
		}
		return nil, err
	}
	err := w.readJSON(w.in(ledgerName), &w.ledger)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.unread = err
	}
	if err != nil || w.ledger.Version != ledgerVersion {
		w.ledger = ledger{}
	}
	w.ledger.abandoned(time.Now())
	return w, nil
}

// open makes and locks the directories once.
func (w *Dir) open(roots outdir.Roots) (err error) {
	if w.out, err = roots.Make(w.output); err == nil {
		err = w.makeWork()
	}
	if err != nil {
		return fmt.Errorf("output directory: %w", Storage(err))
	}
	if w.lock, err = w.out.OpenFile(w.in(lockName), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return fmt.Errorf("lock the work directory: %w", err)
	}
	locked, err := tryLock(w.lock)
	switch {
	case err != nil:
		return fmt.Errorf("lock the work directory: %w", err)
	case !locked:
		return fmt.Errorf("%w: %s", ErrLocked, w.Path())
	case !w.lockInPlace():
		return errRemoved
	}
	return nil
}

// Peek reads the ledger of the work directory for files that begin with base,
// whoever works in it, and locks nothing: only methods that ask may be called, and
// Release. It speaks of nothing when there is no such directory. The error says why
// the ledger cannot be read, or that another version of this program wrote it.
func Peek(roots outdir.Roots, output, base string) (*Dir, error) {
	w := &Dir{output: output, base: base}
	out, err := roots.Open(output)
	if err == nil {
		w.out = out
		err = w.readJSON(w.in(ledgerName), &w.ledger)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return w, nil
	case err != nil:
		return w, err
	case w.ledger.Version != 0 && w.ledger.Version != ledgerVersion:
		return w, &VersionError{Version: w.ledger.Version}
	}
	return w, nil
}

// Split returns the output directory and the beginning of the final file names of
// a work directory at path. ok is false when path does not look like one.
func Split(path string) (output, base string, ok bool) {
	base, ok = strings.CutPrefix(filepath.Base(path), prefix)
	return filepath.Dir(path), base, ok
}

// List returns, for each work directory in an output directory, how its final
// file names begin.
func List(roots outdir.Roots, output string) (bases []string, err error) {
	out, err := roots.Open(output)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	entries, err := fs.ReadDir(out.FS(), ".")
	for _, e := range entries {
		if _, base, ok := Split(e.Name()); ok && e.IsDir() {
			bases = append(bases, base)
		}
	}
	return bases, err
}

// receiptSuffix ends the name of an export's receipt.
const receiptSuffix = ".export.json"

// Receipts returns, for each receipt in an output directory, how the final names of its
// export begin.
func Receipts(roots outdir.Roots, output string) (bases []string, err error) {
	out, err := roots.Open(output)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	entries, err := fs.ReadDir(out.FS(), ".")
	for _, e := range entries {
		if base, ok := strings.CutSuffix(e.Name(), receiptSuffix); ok && e.Type().IsRegular() {
			bases = append(bases, base)
		}
	}
	return bases, err
}

// Find lists the paths of work directories at and below dir. skipped says which
// directories cannot be read.
func Find(dir string) (found []string, skipped []error, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, nil, err
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && path == dir:
			return err
		case err != nil:
			skipped = append(skipped, err)
			return fs.SkipDir
		case d.IsDir() && strings.HasPrefix(d.Name(), prefix):
			found = append(found, path)
			return fs.SkipDir
		}
		return nil
	})
	return found, skipped, err
}

// lockInPlace reports whether the file we hold the lock on is still the one
// others would lock, and was not removed with its directory meanwhile.
func (w *Dir) lockInPlace() bool {
	held, err := w.lock.Stat()
	if err != nil {
		return false
	}
	named, err := w.out.Stat(w.in(lockName))
	return err == nil && os.SameFile(held, named)
}

// InUse reports whether another process works in the directory.
func (w *Dir) InUse() bool {
	if !w.exists(w.in(lockName)) {
		return false
	}
	lock, err := w.out.OpenFile(w.in(lockName), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unlock(lock) }()
	locked, err := tryLock(lock)
	return err == nil && !locked
}

// Unread is why the ledger that was there cannot be read; nil when it can, or
// there was none.
func (w *Dir) Unread() error { return w.unread }

// Path is where the directory is.
func (w *Dir) Path() string { return filepath.Join(w.output, prefix+w.base) }

// Base is how the final file names begin.
func (w *Dir) Base() string { return w.base }

// File is where the file name of the work directory is.
func (w *Dir) File(name string) string { return filepath.Join(w.Path(), name) }

// At is the same place, reached through the output directory as it is open.
func (w *Dir) At(name string) directio.At { return directio.At{Dir: w.out.Root, Name: w.in(name)} }

// Stat describes the file name of the work directory.
func (w *Dir) Stat(name string) (fs.FileInfo, error) { return w.out.Stat(w.in(name)) }

// Allocated returns the bytes that the files of the work directory take of their
// file system; none where it is not there, or was closed.
func (w *Dir) Allocated() int64 {
	if w.out == nil {
		return 0
	}
	entries, err := fs.ReadDir(w.out.FS(), w.in("."))
	if err != nil {
		return 0
	}
	var n int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			n += volume.Allocated(info)
		}
	}
	return n
}

// Final is where the file name of the output directory will be.
func (w *Dir) Final(name string) string { return filepath.Join(w.output, name) }

// Here reports whether the directory is there, or was when it was closed.
func (w *Dir) Here() bool {
	if w.closed.Load() {
		return w.left
	}
	return w.exists(w.in("."))
}

// Has reports whether the work directory has something of that name.
func (w *Dir) Has(name string) bool { return w.exists(w.in(name)) }

// WriteFile makes a file of the work directory, whole and durable.
func (w *Dir) WriteFile(name string, data []byte) error { return w.writeFile(w.in(name), data) }

// Begin makes the ledger one for id. When it already is, finished disks and
// checkpoints stay and resumed is true; when it speaks of something else, the
// work directory is emptied.
func (w *Dir) Begin(id Identity, jobID string) (resumed bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ledger.Version == ledgerVersion && w.ledger.VM == id {
		w.ledger.JobID = jobID
		return len(w.ledger.Disks) > 0, w.save()
	}
	// What is owed at vSphere stays known at every moment: the new ledger is
	// there before anything of the old work goes.
	next := ledger{Version: ledgerVersion, JobID: jobID, VM: id, Disks: map[string]*Disk{}, Owed: w.ledger.Owed, Step: w.ledger.Step}
	if w.ledger.VM.InstanceUUID == id.InstanceUUID {
		next.Network = w.ledger.Network
	}
	w.ledger = next
	if err := w.save(); err != nil {
		return false, err
	}
	return false, w.empty()
}

// empty removes everything but the lock, the ledger, and what a step without an end needs.
func (w *Dir) empty() error {
	stays := map[string]bool{lockName: true, ledgerName: true}
	w.keepStep(stays)
	return w.removeBut(stays)
}

// keepStep adds the files of a step without an end to what stays. w.mu is held.
func (w *Dir) keepStep(stays map[string]bool) {
	if w.ledger.Step != nil {
		for _, name := range w.ledger.Step.Files {
			stays[name] = true
		}
	}
}

func (w *Dir) removeBut(stays map[string]bool) error {
	entries, err := fs.ReadDir(w.out.FS(), w.in("."))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !stays[e.Name()] {
			err = errors.Join(err, w.out.RemoveAll(w.in(e.Name())))
		}
	}
	return err
}

// update changes the ledger and makes the change durable.
func (w *Dir) update(change func(*ledger)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.ledger)
	return w.save()
}

// strike makes a change by which less is owed. Where the work directory was
// removed by somebody, there is nothing to strike it from.
func (w *Dir) strike(change func(*ledger)) error {
	if !w.Here() {
		return nil
	}
	return w.update(change)
}

func (w *Dir) save() error {
	if err := w.writeJSON(w.in(ledgerName), &w.ledger); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return nil
}

// Unlock gives the directory up, as it is.
func (w *Dir) Unlock() error {
	if w.closed.Load() {
		return nil
	}
	w.left = w.Here()
	w.closed.Store(true)
	err := unlock(w.lock)
	w.out.Close()
	return err
}

// Release closes what is open, as after [Peek].
func (w *Dir) Release() {
	if w.lock != nil {
		_ = unlock(w.lock)
	}
	w.out.Close()
}

// Close unlocks. With keep, what the ledger vouches for stays for the next run;
// otherwise, and when it vouches for nothing, the work directory goes, unless
// something at vSphere is still to be put back, or a step has no end.
func (w *Dir) Close(keep bool) error {
	defer func() { _ = w.Unlock() }()
	if keep {
		whole, partial := w.Kept()
		keep = whole+partial > 0 || w.Interrupted()
	}
	if _, begun := w.Step(); !keep && (begun || w.Owes()) {
		// What could not be put back must stay known.
		keep = true
		if err := w.update(func(l *ledger) { l.Disks = map[string]*Disk{} }); err != nil {
			return err
		}
	}
	if keep {
		return w.removeStray()
	}
	err := w.remove()
	w.out.RemoveMade()
	return err
}

// Retire ends the work directory of an export that is complete, and unlocks. A
// ledger that owes something, or has a step without an end, stays.
func (w *Dir) Retire() error {
	defer func() { _ = w.Unlock() }()
	if _, begun := w.Step(); begun || w.Owes() {
		if err := w.update(func(l *ledger) { l.Install, l.Disks = nil, map[string]*Disk{} }); err != nil {
			return err
		}
		return w.removeStray()
	}
	if err := w.remove(); err != nil {
		return err
	}
	return atomicfile.SyncDir(w.out.Root, ".")
}

func (w *Dir) remove() error {
	if runtime.GOOS == "windows" {
		return w.removeLockLast()
	}
	return w.out.RemoveAll(w.in("."))
}

// removeLockLast removes the work directory where no file can be removed that is
// open, as on Windows: when everything else is gone it unlocks, and a run that
// comes in between keeps the lock and the directory.
func (w *Dir) removeLockLast() error {
	err := w.removeBut(map[string]bool{lockName: true})
	_ = unlock(w.lock)
	if w.out.Remove(w.in(lockName)) == nil {
		_ = w.out.Remove(w.in("."))
	}
	return err
}

// removeStray removes the files that the ledger does not vouch for.
func (w *Dir) removeStray() error {
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
		for _, m := range w.ledger.Install.Renames {
			vouched[m.From] = true
		}
	}
	w.keepStep(vouched)
	return errors.Join(w.removeBut(vouched), w.save())
}
