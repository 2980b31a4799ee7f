//go:build !unix

package streamvmdk

import "os"

// nextData returns all that is left: this system has no such question.
func nextData(_ *os.File, pos, size int64) (Extent, error) { return Extent{pos, size}, nil }
