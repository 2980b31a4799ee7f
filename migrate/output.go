package migrate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hyper2kvm/hyper2kvm/internal/atomicfile"
)

// CheckOutput returns why dir cannot be an output directory: it, or one that it
// is to be made in, is something else. The error satisfies [Permanent] and has a
// [Hint].
func CheckOutput(dir string) error {
	for path := filepath.Clean(dir); ; path = filepath.Dir(path) {
		st, err := os.Stat(path)
		if err == nil && st.IsDir() {
			return nil
		}
		what := "is a file, not a directory"
		if err != nil {
			what = "is a link to something that is not there"
			_, err = os.Lstat(path)
		}
		if err == nil {
			return permanent{withHint(fmt.Errorf("output directory: %s %s", path, what), "choose another output directory")}
		}
		if filepath.Dir(path) == path {
			return nil // whoever makes it will be told
		}
	}
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
