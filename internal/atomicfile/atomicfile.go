// Package atomicfile writes small files whole or not at all, and gives finished
// files their names without taking those of others.
//
// Linux reports that written data could not reach the disk once, to the next
// sync; the sync after it succeeds although the data is lost. So a file whose
// write or sync has failed is removed and never renamed: trying again begins
// with a new one.
package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
)

// Write is [WriteIn] for a path.
func Write(path string, data []byte, perm fs.FileMode) error {
	dir, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return WriteIn(dir, filepath.Base(path), data, perm)
}

// WriteIn replaces the file name, which is relative to dir and does not lead out
// of it, by one that holds data, with the permissions perm less the umask: after a
// crash there is the old file or the new one, whole, and after an error the old
// one, unless it was the directory's sync that failed. A crash may leave a file
// <name>.<digits>.tmp.
func WriteIn(dir *os.Root, name string, data []byte, perm fs.FileMode) error {
	return write(system{dir}, name, data, perm)
}

// SyncDir makes renames and removals in the directory name below dir durable; "."
// is dir itself. Windows has no such call: NTFS keeps their order in its journal,
// and a crash may undo the last of them.
func SyncDir(dir *os.Root, name string) error { return system{dir}.syncDir(name) }

// Rename gives the file called from the name to, both relative to dir, as
// [os.Root.Rename] does, but never replaces what has that name: the error is then
// [fs.ErrExist]. Where the file system cannot rename so, the file gets its new name
// as a second link, and where it has no links, the name is claimed by an empty file
// first. A rename that was broken off between its two steps is finished by calling
// it again; only a claim that a crash has left behind is in the way.
func Rename(dir *os.Root, from, to string) error {
	err := renameNoReplace(dir, from, to)
	if errors.Is(err, fs.ErrExist) && sameFile(dir, from, to) {
		return dir.Remove(from) // linkAndRemove was broken off
	}
	if errors.Is(err, errors.ErrUnsupported) {
		err = linkAndRemove(dir, from, to)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		err = claimAndRename(dir, from, to)
	}
	return err
}

// linkAndRemove renames by a second link. Two names of one file are what a crash
// between the steps, or an answer that a network file system has lost, leaves.
func linkAndRemove(dir *os.Root, from, to string) error {
	err := dir.Link(from, to)
	switch {
	case err == nil, errors.Is(err, fs.ErrExist) && sameFile(dir, from, to):
		return dir.Remove(from)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, errors.ErrUnsupported):
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	return err
}

// claimAndRename renames over an empty file that it has made.
func claimAndRename(dir *os.Root, from, to string) error {
	if _, err := dir.Lstat(from); err != nil {
		return err
	}
	claim, err := dir.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(claim.Close(), dir.Rename(from, to)); err != nil {
		return errors.Join(err, dir.Remove(to))
	}
	return nil
}

func sameFile(dir *os.Root, a, b string) bool {
	one, err := dir.Lstat(a)
	if err != nil {
		return false
	}
	two, err := dir.Lstat(b)
	return err == nil && os.SameFile(one, two)
}

// files is the part of a directory that [WriteIn] needs.
type files interface {
	create(name string, perm fs.FileMode) (file, error) // must not exist
	rename(from, to string) error
	remove(name string) error
	syncDir(name string) error
}

// file is one that is being written.
type file interface {
	io.WriteCloser
	Sync() error
}

func write(fsys files, name string, data []byte, perm fs.FileMode) error {
	f, tmp, err := createBeside(fsys, name, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = fsys.rename(tmp, name)
	}
	if err != nil {
		return errors.Join(err, fsys.remove(tmp))
	}
	return fsys.syncDir(path.Dir(name))
}

// createBeside makes a file that nobody else has, in the directory of name.
func createBeside(fsys files, name string, perm fs.FileMode) (f file, tmp string, err error) {
	for range 100 {
		tmp = fmt.Sprintf("%s.%d.tmp", name, rand.Uint32())
		if f, err = fsys.create(tmp, perm); !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return f, tmp, err
}

// system is a directory of the operating system's.
type system struct{ dir *os.Root }

func (s system) create(name string, perm fs.FileMode) (file, error) {
	f, err := s.dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (s system) rename(from, to string) error { return s.dir.Rename(from, to) }

func (s system) remove(name string) error { return s.dir.Remove(name) }

func (s system) syncDir(name string) error { return syncDir(s.dir, name) }
