// Package outdir opens the directories that exports are written to, so that no
// file of an export lies outside of where exports may be.
//
// A directory is opened once, and everything in it is then reached through that
// handle ([os.Root]): neither "..", nor a symbolic link, nor a name that comes from
// vSphere, nor somebody who swaps a directory meanwhile leads out of it.
//
// What is said of a path outside is one and the same error, [ErrOutside], whatever
// is there: it tells nothing of the machine.
package outdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hyper2kvm/hyper2kvm/internal/atomicfile"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
)

// ErrOutside: the path is not where exports may be written to. It satisfies
// [fault.IsPermanent].
var ErrOutside error = outsideError{}

// ErrOccupied: the path leads to something that is no directory. It satisfies
// [fault.IsPermanent], and comes with advice.
var ErrOccupied = errors.New("not a directory")

// IsOutside reports whether err is an [ErrOutside].
func IsOutside(err error) bool { return errors.Is(err, ErrOutside) }

type outsideError struct{}

func (outsideError) Error() string {
	return "output_path is outside of the directories that jobs may write to"
}
func (outsideError) Permanent() bool { return true }

// mode is that of directories that are made, less the umask.
const mode fs.FileMode = 0o777

// Roots says where output directories may be. The zero value is anywhere, as for
// a person at a terminal.
type Roots struct {
	dirs []string // at and below these, when there are any
	own  bool     // where the process may write, and the system keeps nothing
	also []string // with own: these, too
}

// Below returns the Roots of directories at and below dirs, which are absolute. A
// symbolic link in one of dirs itself is followed, and one below it as long as it
// is relative and stays there. With no dirs there is no such directory.
func Below(dirs ...string) Roots {
	r := Roots{dirs: []string{}}
	for _, dir := range dirs {
		r.dirs = append(r.dirs, filepath.Clean(dir))
	}
	return r
}

// Own returns the Roots of a daemon that was started by hand: wherever its user
// may write, but nowhere in the system's directories and in none whose name begins
// with a dot; at and below also in any case.
func Own(also ...string) Roots {
	r := Roots{own: true}
	for _, dir := range also {
		if dir == "" {
			continue // not all there is
		}
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			dir = real
		}
		r.also = append(r.also, dir)
	}
	return r
}

// Dirs are the directories that the Roots were made of, if any.
func (r Roots) Dirs() []string { return r.dirs }

// Dir is an output directory that is open.
type Dir struct {
	*os.Root
	parent *os.Root // of one that was made
	name   string   // in parent
}

// Close closes the directory. It may be called again, and of nil.
func (d *Dir) Close() {
	if d == nil {
		return
	}
	_ = d.Root.Close()
	if d.parent != nil {
		_ = d.parent.Close()
	}
}

// RemoveMade removes the directory if it was made by [Roots.Make] and is empty.
func (d *Dir) RemoveMade() {
	if d.parent == nil {
		return
	}
	if st, err := d.parent.Lstat(d.name); err == nil && st.IsDir() {
		_ = d.parent.Remove(d.name) // fails when it holds anything, which is then to stay
	}
}

// Check returns why path cannot be an output directory: it is [ErrOutside], or it
// is something else, or it cannot be opened.
func (r Roots) Check(path string) error {
	at, err := r.nearest(path)
	if err != nil {
		return err
	}
	return at.dir.Close()
}

// Nearest is the path of the directory at path, or of the nearest one above it that
// is there. The error is that of [Roots.Check].
func (r Roots) Nearest(path string) (string, error) {
	at, err := r.nearest(path)
	if err != nil {
		return "", err
	}
	return at.dir.Name(), at.dir.Close()
}

// Open opens the directory at path. The error is that of [Roots.Check], or an
// [fs.ErrNotExist].
func (r Roots) Open(path string) (*Dir, error) {
	at, err := r.nearest(path)
	if err != nil {
		return nil, err
	}
	if len(at.missing) > 0 {
		_ = at.dir.Close()
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return &Dir{Root: at.dir}, nil
}

// Make opens the directory at path, after it was made, durably, with what is
// missing above it. The error is that of [Roots.Check], or an [fs.ErrNotExist] when
// somebody has removed it at the same time.
func (r Roots) Make(path string) (*Dir, error) {
	at, err := r.nearest(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{Root: at.dir}
	for _, name := range at.missing {
		if err := d.step(name); err != nil {
			d.Close()
			return nil, inside(err)
		}
	}
	if r.own && len(at.missing) > 0 {
		if err := r.verify(d.Root, path, nil); err != nil {
			d.Close()
			return nil, err
		}
	}
	return d, nil
}

// step makes the directory name in d, unless it is there, and becomes it.
func (d *Dir) step(name string) error {
	err := d.Mkdir(name, mode)
	made := err == nil
	if made {
		err = atomicfile.SyncDir(d.Root, ".")
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	next, err := d.OpenRoot(name)
	if err != nil {
		return err
	}
	if d.parent != nil {
		_ = d.parent.Close()
	}
	d.parent, d.name, d.Root = d.Root, name, next
	if !made {
		_ = d.parent.Close()
		d.parent = nil
	}
	return nil
}

// place is a directory that is there, and the names of those that are missing
// below it.
type place struct {
	dir     *os.Root
	missing []string
}

// nearest opens the directory at path or the nearest one above it that is there.
func (r Roots) nearest(path string) (place, error) {
	path = filepath.Clean(path)
	switch {
	case r.dirs != nil:
		return r.below(path)
	case r.own:
		return r.ownNearest(path)
	}
	return anywhere(path)
}

// anywhere opens whatever the path leads to.
func anywhere(path string) (at place, err error) {
	for {
		st, err := os.Stat(path)
		if err == nil && st.IsDir() {
			at.dir, err = os.OpenRoot(path)
			return at, err
		}
		if _, lerr := os.Lstat(path); lerr == nil {
			return at, occupied(path, err)
		}
		if filepath.Dir(path) == path {
			return at, err
		}
		at.missing = append([]string{filepath.Base(path)}, at.missing...)
		path = filepath.Dir(path)
	}
}

// below opens what is below one of the directories.
func (r Roots) below(path string) (at place, err error) {
	root, names := r.rootOf(path)
	if root == "" {
		return at, ErrOutside
	}
	top, err := os.OpenRoot(root)
	if err != nil {
		return at, fmt.Errorf("the allowed output root %s: %w", root, err)
	}
	defer func() { _ = top.Close() }()
	for n := len(names); ; n-- {
		name := filepath.Join(append([]string{"."}, names[:n]...)...)
		st, err := top.Stat(name)
		switch {
		case err == nil && st.IsDir():
			at.dir, err = top.OpenRoot(name)
			at.missing = names[n:]
			return at, inside(err)
		case escapes(err):
			return at, ErrOutside
		case n == 0:
			return at, err
		}
		if _, lerr := top.Lstat(name); lerr == nil {
			return at, occupied(filepath.Join(root, name), err)
		}
	}
}

// rootOf is the innermost of the directories that path is at or below, and the
// names that lead from there.
func (r Roots) rootOf(path string) (root string, names []string) {
	for _, dir := range r.dirs {
		if rel, ok := within(dir, path); ok && len(dir) > len(root) {
			root, names = dir, rel
		}
	}
	return root, names
}

// within says whether path is at or below dir, and gives the names between them.
func within(dir, path string) (names []string, ok bool) {
	if path == dir {
		return nil, true
	}
	rel, ok := strings.CutPrefix(path, strings.TrimRight(dir, string(filepath.Separator))+string(filepath.Separator))
	if !ok {
		return nil, false
	}
	return strings.Split(rel, string(filepath.Separator)), true
}

// occupied is the error of a path that is no directory, as err or its absence
// tells.
func occupied(path string, err error) error {
	what := "is a file, not a directory"
	if err != nil {
		what = "is a link to something that is not there"
	}
	return fault.Permanent(fault.WithHint(&occupiedError{fmt.Sprintf("output directory: %s %s", path, what)}, "choose another output directory"))
}

// occupiedError is an [ErrOccupied] in words.
type occupiedError struct{ text string }

func (e *occupiedError) Error() string { return e.text }
func (e *occupiedError) Unwrap() error { return ErrOccupied }

// inside makes an error of a handle's that tried to lead out of it an [ErrOutside].
func inside(err error) error {
	if escapes(err) {
		return ErrOutside
	}
	return err
}

// escapes reports whether [os.Root] has refused to be led out of its directory:
// everything else that it reports is the system's.
func escapes(err error) bool {
	var system syscall.Errno
	return err != nil && !errors.As(err, &system) && !errors.Is(err, fs.ErrClosed)
}
