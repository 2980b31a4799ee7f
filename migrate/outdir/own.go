package outdir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// systemDirs hold what belongs to the operating system: nothing below them is an
// output directory without a configuration that says so.
var systemDirs = [...]string{
	"/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin", "/sys", "/usr", "/var",
	"/System", "/Library", "/private/etc", "/private/var/db", // of macOS
}

// openDirs are for everybody's files, or for images, though they are in one of
// those.
var openDirs = [...]string{"/var/tmp", "/var/lib/libvirt/images"}

// ownNearest is nearest for [Own]. Where somebody else's permissions end the way,
// that is outside, too: nothing is told of what lies there.
func (r Roots) ownNearest(path string) (at place, err error) {
	for {
		real, err := filepath.EvalSymlinks(path)
		if err == nil {
			return r.ownOpen(real, at.missing)
		}
		gone := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
		if !gone || filepath.Dir(path) == path {
			return at, ErrOutside
		}
		if _, lerr := os.Lstat(path); lerr == nil {
			return at, ErrOutside // a link: that it leads nowhere would tell what is not there
		}
		at.missing = append([]string{filepath.Base(path)}, at.missing...)
		path = filepath.Dir(path)
	}
}

// ownOpen opens real, a path without symbolic links, below which some are missing.
func (r Roots) ownOpen(real string, missing []string) (at place, err error) {
	if r.forbidden(filepath.Join(append([]string{real}, missing...)...)) {
		return at, ErrOutside
	}
	st, err := os.Lstat(real)
	if err == nil && !st.IsDir() && writable(filepath.Dir(real)) {
		return at, occupied(real, nil)
	}
	if err != nil || !st.IsDir() || !writable(real) {
		return at, ErrOutside
	}
	dir, err := os.OpenRoot(real)
	if err != nil {
		return at, ErrOutside
	}
	if err := r.verify(dir, real, missing); err != nil {
		_ = dir.Close()
		return at, err
	}
	return place{dir, missing}, nil
}

// verify looks whether an open directory is the one at path, and whether that, or
// what is missing below it, is none of the system's: somebody may have swapped one on
// the way while it was opened.
func (r Roots) verify(dir *os.Root, path string, missing []string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil || r.forbidden(filepath.Join(append([]string{real}, missing...)...)) {
		return ErrOutside
	}
	opened, err := dir.Stat(".")
	if err != nil {
		return ErrOutside
	}
	named, err := os.Lstat(real)
	if err != nil || !os.SameFile(opened, named) {
		return ErrOutside
	}
	return nil
}

// forbidden reports whether path, which holds no symbolic link, is the system's or
// hidden.
func (r Roots) forbidden(path string) bool {
	for _, dir := range r.also {
		if _, ok := within(dir, path); ok {
			return false
		}
	}
	if path == string(filepath.Separator) {
		return true
	}
	for _, name := range strings.Split(path, string(filepath.Separator)) {
		if strings.HasPrefix(name, ".") {
			return true
		}
	}
	for _, dir := range openDirs {
		if _, ok := within(dir, path); ok {
			return false
		}
	}
	for _, dir := range systemDirs {
		if _, ok := within(dir, path); ok {
			return true
		}
	}
	return false
}
