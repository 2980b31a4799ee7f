package terminal

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// ReaderGone reports whether err is that the reader of the standard output has
// gone, as head does once it has its lines. Nobody is left to be told, and what the
// program was asked for is not at fault. A connection of the network that breaks is
// another error, and so is anything that went wrong beside it.
func ReaderGone(err error) bool {
	switch e := err.(type) { //nolint:errorlint // it looks at every branch of the tree itself
	case nil:
		return false
	case *fs.PathError:
		return e.Path == os.Stdout.Name() && brokenPipe(e.Err)
	case interface{ Unwrap() []error }:
		return !slices.ContainsFunc(e.Unwrap(), func(err error) bool { return !ReaderGone(err) })
	}
	return ReaderGone(errors.Unwrap(err))
}

// Codes with which Windows says the same: ERROR_BROKEN_PIPE and ERROR_NO_DATA.
const windowsBrokenPipe, windowsNoData = syscall.Errno(109), syscall.Errno(232)

func brokenPipe(err error) bool {
	if os.PathSeparator == '\\' {
		return errors.Is(err, windowsBrokenPipe) || errors.Is(err, windowsNoData)
	}
	return errors.Is(err, syscall.EPIPE)
}
