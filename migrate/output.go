package migrate

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
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
			return fault.Permanent(fault.WithHint(fmt.Errorf("output directory: %s %s", path, what), "choose another output directory"))
		}
		if filepath.Dir(path) == path {
			return nil // whoever makes it will be told
		}
	}
}
