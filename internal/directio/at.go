package directio

import (
	"os"
	"path/filepath"
)

// At says where a file is: below a directory that is open, so that whatever
// becomes of the names on the way, nothing outside of it is touched; or, without
// a directory, at a path of the system.
type At struct {
	Dir  *os.Root // may be nil
	Name string   // relative to Dir, with slashes
}

// Path is the place of a file that only its path is known of.
func Path(path string) At { return At{Name: path} }

// String is the file's path, for people.
func (a At) String() string {
	if a.Dir == nil {
		return a.Name
	}
	return filepath.Join(a.Dir.Name(), filepath.FromSlash(a.Name))
}

// OpenFile opens the file as [os.OpenFile] does.
func (a At) OpenFile(flag int, perm os.FileMode) (*os.File, error) {
	if a.Dir == nil {
		return os.OpenFile(a.Name, flag, perm)
	}
	return a.Dir.OpenFile(a.Name, flag, perm)
}

// Open opens the file for reading.
func (a At) Open() (*os.File, error) { return a.OpenFile(os.O_RDONLY, 0) }

// Remove removes the file's name.
func (a At) Remove() error {
	if a.Dir == nil {
		return os.Remove(a.Name)
	}
	return a.Dir.Remove(a.Name)
}
