//go:build !linux

package atomicfile

import "errors"

// renameNoReplace is not there.
func renameNoReplace(string, string) error { return errors.ErrUnsupported }
