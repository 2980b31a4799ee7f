package workdir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// writeJSON replaces path atomically and durably.
func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(data, '\n'))
}

// writeFile replaces path by a file that holds data, whole and durable.
func writeFile(path string, data []byte) error {
	return Storage(atomicfile.Write(path, data, fileMode))
}

// exists reports whether something has that name, as far as can be told.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR)
}

// makeDirs makes dir and what is missing above it, and makes that durable.
func makeDirs(dir string) error {
	var missing []string
	for path := dir; ; path = filepath.Dir(path) {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) || filepath.Dir(path) == path {
			break
		}
		missing = append(missing, path)
	}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	for _, path := range missing {
		if err := atomicfile.SyncDir(filepath.Dir(path)); err != nil {
			return err
		}
	}
	return nil
}
