//go:build !linux && !windows

package atomicfile

import "errors"

// renameNoReplace is not there.
func renameNoReplace(string, string) error { return errors.ErrUnsupported }
