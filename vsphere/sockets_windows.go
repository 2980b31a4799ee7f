package vsphere

import "golang.org/x/sys/windows"

// What the other side's answer to a connection is called.
const (
	connRefused = windows.WSAECONNREFUSED
	connReset   = windows.WSAECONNRESET
)
