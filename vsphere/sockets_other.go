//go:build !windows

package vsphere

import "syscall"

// What the other side's answer to a connection is called.
const (
	connRefused = syscall.ECONNREFUSED
	connReset   = syscall.ECONNRESET
)
