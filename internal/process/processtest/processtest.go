// Package processtest makes programs for tests.
package processtest

import (
	"os"
	"syscall"
	"testing"
)

// Script writes a shell script that can be run. Another test that starts a program at the
// same time has every open file for a moment, and a program that is open for writing
// cannot be run ("text file busy"): so nothing is started while this one is written.
func Script(t testing.TB, path, text string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
}
