//go:build !unix

package vmdkfile

import "os"

// nextData returns all that is left: this system has no such question.
func nextData(_ *os.File, off, end int64) (from, to int64, err error) { return off, end, nil }
