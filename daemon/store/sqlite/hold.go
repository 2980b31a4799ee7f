package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
)

// holding is what keeps other daemons away from a state file, and knows whether
// its name still stands for what was opened.
//
// Two locks prove that there is one daemon only. That on the file beside it is
// taken before the state file is touched, and has the daemon's process number
// for the other's message. Since it can be removed like any file, a range of the
// state file itself is locked, too, far behind all that SQLite looks at.
type holding struct {
	path string
	lock *flock.Flock
	// file bears the second lock. Closing it would drop SQLite's own locks on
	// the file in this process, so it stays open until SQLite has closed.
	file *os.File

	fresh     bool // there was no state file, or an empty one
	state     fs.FileInfo
	wal       fs.FileInfo
	lockState fs.FileInfo
}

func newHolding(path string) *holding {
	return &holding{path: path, lock: flock.New(path + ".lock")}
}

// acquire takes the locks and makes the state file, should there be none.
func (h *holding) acquire() error {
	locked, err := h.lock.TryLock()
	if err != nil {
		return err
	}
	if !locked {
		holder, _ := os.ReadFile(h.lock.Path())
		return inUse(strings.TrimSpace(string(holder)))
	}
	if err := h.inspect(); err != nil {
		return err
	}
	// SQLite gives its other files the mode of this one.
	if h.file, err = os.OpenFile(h.path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	switch ours, err := lockRange(h.file); {
	case err != nil:
		return err
	case !ours:
		return inUse("")
	}
	return os.WriteFile(h.lock.Path(), fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600)
}

// inUse is [ErrLocked] for people. pid is what the holder wrote about itself.
func inUse(pid string) error {
	const advice = "stop it, or give this one another state directory"
	if pid != "" && len(pid) < 20 {
		return fmt.Errorf("%w (process %s): %s", ErrLocked, pid, advice)
	}
	return fmt.Errorf("%w: %s", ErrLocked, advice)
}

// inspect looks at the files before SQLite does, which would make a new database
// in place of one that is missing or empty, and drop what a write-ahead log
// without one holds.
func (h *holding) inspect() error {
	state, err := os.Stat(h.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	h.fresh = err != nil || state.Size() == 0
	if !h.fresh {
		return nil
	}
	if saved, _ := filepath.Glob(escapeGlob(h.path) + rescued + "*"); len(saved) > 0 {
		return fmt.Errorf("%w: an earlier daemon saved them in %s; move that to %s, or elsewhere to begin without any job",
			ErrMissing, saved[len(saved)-1], h.path)
	}
	if wal, err := os.Stat(h.path + "-wal"); err == nil && wal.Size() > 0 {
		return fmt.Errorf("%w: some are in %s-wal; restore %s together with that file, or move that away to begin without any job",
			ErrMissing, h.path, h.path)
	}
	return nil
}

// rescued stands behind the state file's name in that of its copy.
const rescued = ".rescued-"

// escapeGlob makes a pattern that matches path alone.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// opened notes what the names stand for.
func (h *holding) opened() (err error) {
	if h.state, err = os.Stat(h.path); err != nil {
		return err
	}
	if h.wal, err = os.Stat(h.path + "-wal"); err != nil {
		return err
	}
	h.lockState, err = os.Stat(h.lock.Path())
	return err
}

// present returns a *[jobs.StoreError] when a file is no longer what was opened.
// What is written then is lost at the next start, so no new work may begin; what
// has begun may go on, and is saved at the end.
func (h *holding) present() error {
	for _, f := range []struct {
		path string
		was  fs.FileInfo
	}{{h.path, h.state}, {h.path + "-wal", h.wal}} {
		is, err := os.Stat(f.path)
		what := "replaced"
		switch {
		case err == nil && os.SameFile(f.was, is):
			continue
		case errors.Is(err, fs.ErrNotExist):
			what = "deleted"
		case err != nil:
			return &jobs.StoreError{Trouble: jobs.TroubleBroken, Err: err}
		}
		return &jobs.StoreError{Trouble: jobs.TroubleGone, Err: fmt.Errorf(
			"%s was %s while the daemon uses it: put the same file back, or end the daemon with SIGTERM and follow what it then says", f.path, what)}
	}
	return nil
}

// notes reports what has been lost without harm.
func (h *holding) notes() []string {
	is, err := os.Stat(h.lock.Path())
	if err == nil && os.SameFile(h.lockState, is) {
		return nil
	}
	return []string{"the lock file " + h.lock.Path() + " was removed while the daemon runs; a lock on the database itself still keeps other daemons out"}
}

// release lets other daemons have the file. SQLite must have closed it.
func (h *holding) release() error {
	var err error
	if h.file != nil {
		err = errors.Join(unlockRange(h.file), h.file.Close())
	}
	return errors.Join(err, h.lock.Close())
}

// gone reports whether the state file's name no longer stands for it.
func (h *holding) gone() bool {
	if h.state == nil { // it was never opened
		return false
	}
	is, err := os.Stat(h.path)
	return err != nil || !os.SameFile(h.state, is)
}

// dropLog removes the write-ahead log of a state file that has gone, which SQLite
// would take for that of whatever is put in its place.
func (h *holding) dropLog() error {
	if is, err := os.Stat(h.path + "-wal"); err != nil || !os.SameFile(h.wal, is) {
		return nil
	}
	err := os.Remove(h.path + "-shm")
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.Remove(h.path+"-wal"))
}

// rescue writes what the store holds into a new file beside the one that has
// gone, and returns its name.
func (s *Store) rescue(ctx context.Context) (string, error) {
	name := s.path + rescued + time.Now().UTC().Format("20060102T150405.000Z")
	return name, s.copyTo(ctx, name)
}
