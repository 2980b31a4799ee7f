//go:build !linux && !windows

package atomicfile

import (
	"errors"
	"os"
)

// renameNoReplace is not there.
func renameNoReplace(*os.Root, string, string) error { return errors.ErrUnsupported }
