package workdir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"

	"github.com/hyper2kvm/hyper2kvm/internal/atomicfile"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/volume"
)

// Modes of what a run makes, less the umask: the part files become the images,
// and whoever may read the descriptor may read those.
const (
	fileMode fs.FileMode = 0o666
	dirMode  fs.FileMode = 0o777
)

// maxJSON bounds a ledger or receipt that is read, in bytes. Ours have some hundred
// bytes per disk.
const maxJSON = 16 << 20

// ErrNoSpace: the file system of the output directory is full, or certain to
// become so.
var ErrNoSpace = errors.New("not enough space")

// Storage makes the error of a full file system or quota permanent and an
// [ErrNoSpace], with advice. It has advice for storage that fails, too. Any other
// error stays as it is.
func Storage(err error) error {
	if errors.Is(err, syscall.EIO) {
		return fault.WithHint(err, "look at the kernel's log: the storage of the output directory reports errors")
	}
	if volume.Full(err) {
		return fault.Permanent(fault.WithHint(fmt.Errorf("%w: %w", ErrNoSpace, err), "free some space or choose another output directory; finished disks are kept"))
	}
	return err
}

// Names in the output directory: in is that of a file of the work directory.
func (w *Dir) in(name string) string { return path.Join(prefix+w.base, name) }

// readJSON reads a file of the output directory.
func (w *Dir) readJSON(name string, v any) error {
	if w.out == nil {
		return fs.ErrNotExist
	}
	st, err := w.out.Lstat(name)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() || st.Size() > maxJSON { // a pipe would be waited for
		return fmt.Errorf("%s: not a file of this program", w.Final(name))
	}
	data, err := w.out.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", w.Final(name), err)
	}
	return nil
}

// writeJSON replaces a file of the output directory atomically and durably.
func (w *Dir) writeJSON(name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return w.writeFile(name, append(data, '\n'))
}

// writeFile replaces a file of the output directory by one that holds data, whole
// and durable.
func (w *Dir) writeFile(name string, data []byte) error {
	return Storage(atomicfile.WriteIn(w.out.Root, name, data, fileMode))
}

// CreateFinal makes a file of the output directory that grows under its final name, in
// place of what has it: a log, which is of use also when it is not whole.
func (w *Dir) CreateFinal(name string) (*os.File, error) {
	if err := w.out.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := w.out.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	return f, Storage(err)
}

// exists reports whether something in the output directory has that name, as far as
// can be told.
func (w *Dir) exists(name string) bool {
	if w.out == nil {
		return false
	}
	_, err := w.out.Lstat(name)
	return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR)
}

// sameName reports whether both names are of one file.
func (w *Dir) sameName(a, b string) bool {
	one, err := w.out.Lstat(a)
	if err != nil {
		return false
	}
	two, err := w.out.Lstat(b)
	return err == nil && os.SameFile(one, two)
}

// makeWork makes the work directory, unless it is there, and makes that durable.
func (w *Dir) makeWork() error {
	err := w.out.Mkdir(w.in("."), dirMode)
	if errors.Is(err, fs.ErrExist) {
		return nil // or the lock file cannot be opened in it
	}
	if err != nil {
		return err
	}
	return atomicfile.SyncDir(w.out.Root, ".")
}
