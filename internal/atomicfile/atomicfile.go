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
	"path/filepath"
)

// Write replaces path by a file that holds data, with the permissions perm less
// the umask: after a crash there is the old file or the new one, whole, and after
// an error the old one, unless it was the directory's sync that failed. A crash may
// leave a file <path>.<digits>.tmp.
func Write(path string, data []byte, perm fs.FileMode) error {
	return write(system{}, path, data, perm)
}

// SyncDir makes renames and removals in dir durable. Windows has no such call: NTFS
// keeps their order in its journal, and a crash may undo the last of them.
func SyncDir(dir string) error { return system{}.syncDir(dir) }

// Rename gives the file at oldpath the name newpath, as [os.Rename] does, but
// never replaces what has that name: the error is then [fs.ErrExist]. Where the
// file system cannot rename so, the file gets its new name as a second link, and
// where it has no links, the name is claimed by an empty file first. A rename
// that was broken off between its two steps is finished by calling it again;
// only a claim that a crash has left behind is in the way.
func Rename(oldpath, newpath string) error {
	err := renameNoReplace(oldpath, newpath)
	if errors.Is(err, fs.ErrExist) && sameFile(oldpath, newpath) {
		return os.Remove(oldpath) // linkAndRemove was broken off
	}
	if errors.Is(err, errors.ErrUnsupported) {
		err = linkAndRemove(oldpath, newpath)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		err = claimAndRename(oldpath, newpath)
	}
	return err
}

// linkAndRemove renames by a second link. Two names of one file are what a crash
// between the steps, or an answer that a network file system has lost, leaves.
func linkAndRemove(oldpath, newpath string) error {
	err := os.Link(oldpath, newpath)
	switch {
	case err == nil, errors.Is(err, fs.ErrExist) && sameFile(oldpath, newpath):
		return os.Remove(oldpath)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, errors.ErrUnsupported):
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	return err
}

// claimAndRename renames over an empty file that it has made.
func claimAndRename(oldpath, newpath string) error {
	if _, err := os.Lstat(oldpath); err != nil {
		return err
	}
	claim, err := os.OpenFile(newpath, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(claim.Close(), os.Rename(oldpath, newpath)); err != nil {
		return errors.Join(err, os.Remove(newpath))
	}
	return nil
}

func sameFile(a, b string) bool {
	one, err := os.Lstat(a)
	if err != nil {
		return false
	}
	two, err := os.Lstat(b)
	return err == nil && os.SameFile(one, two)
}

// files is the part of a file system that [Write] needs.
type files interface {
	create(path string, perm fs.FileMode) (file, error) // must not exist
	rename(oldpath, newpath string) error
	remove(path string) error
	syncDir(dir string) error
}

// file is one that is being written.
type file interface {
	io.WriteCloser
	Sync() error
}

func write(fsys files, path string, data []byte, perm fs.FileMode) error {
	f, tmp, err := createBeside(fsys, path, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = fsys.rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, fsys.remove(tmp))
	}
	return fsys.syncDir(filepath.Dir(path))
}

// createBeside makes a file that nobody else has, in the directory of path.
func createBeside(fsys files, path string, perm fs.FileMode) (f file, tmp string, err error) {
	for range 100 {
		tmp = fmt.Sprintf("%s.%d.tmp", path, rand.Uint32())
		if f, err = fsys.create(tmp, perm); !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return f, tmp, err
}

// system is the operating system's files.
type system struct{}

func (system) create(path string, perm fs.FileMode) (file, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (system) rename(oldpath, newpath string) error { return os.Rename(oldpath, newpath) }

func (system) remove(path string) error { return os.Remove(path) }

func (system) syncDir(dir string) error { return syncDir(dir) }
