//go:build !linux

package vspheretest

import (
	"io"
	"net"
)

// reserve keeps nothing: on this system another program may get the port while
// the server is away.
func reserve(*net.TCPAddr) io.Closer { return nil }
