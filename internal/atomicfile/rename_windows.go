package atomicfile

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// renameNoReplace renames where nothing has the new name, by path: there is no such
// call for a directory that is open.
func renameNoReplace(dir *os.Root, from, to string) error {
	return moveFile(filepath.Join(dir.Name(), filepath.FromSlash(from)), filepath.Join(dir.Name(), filepath.FromSlash(to)))
}

func moveFile(oldpath, newpath string) error {
	from, err := windows.UTF16PtrFromString(oldpath)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: oldpath, New: newpath, Err: err}
	}
	to, err := windows.UTF16PtrFromString(newpath)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: oldpath, New: newpath, Err: err}
	}
	if err := windows.MoveFileEx(from, to, windows.MOVEFILE_WRITE_THROUGH); err != nil {
		return &os.LinkError{Op: "rename", Old: oldpath, New: newpath, Err: err}
	}
	return nil
}
