package main

import (
	"fmt"
	"os"
	"syscall"
)

// isJournal reports whether f is the stream that systemd connected to the journal,
// as systemd says in $JOURNAL_STREAM: it may have been redirected since.
func isJournal(f *os.File, stream string) bool {
	if stream == "" {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && fmt.Sprintf("%d:%d", s.Dev, s.Ino) == stream
}
