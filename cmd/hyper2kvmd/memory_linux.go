package main

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// debugVariable, set to 1, leaves the daemon's memory open to debuggers and dumps.
const debugVariable = "HYPER2KVM_DUMPABLE"

// hideMemory keeps the passwords that the daemon holds out of core dumps, and from
// other processes of its user: no dump is made, and /proc/PID/mem and environ are
// root's.
func hideMemory(getenv func(string) string) error {
	if getenv(debugVariable) == "1" {
		return nil
	}
	err := errors.Join(
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0),
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}),
	)
	if err != nil {
		return fmt.Errorf("keep the memory out of core dumps: %w", err)
	}
	return nil
}
