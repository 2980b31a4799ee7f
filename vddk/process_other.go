//go:build !unix

package vddk

import "os/exec"

// There is no nbdkit for this system; see process_unix.go.

func apart(*exec.Cmd) {}

func terminate(cmd *exec.Cmd) { kill(cmd) }

func kill(cmd *exec.Cmd) { _ = cmd.Process.Kill() } // it may have ended
