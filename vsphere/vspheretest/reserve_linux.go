package vspheretest

import (
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// reserve binds a socket to the address without listening, so that nobody else
// gets the port and who connects is refused. nil when that cannot be.
func reserve(a *net.TCPAddr) io.Closer {
	domain, address := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: a.Port, Addr: [16]byte(a.IP.To16())})
	if v4 := a.IP.To4(); v4 != nil {
		domain, address = unix.AF_INET, &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(v4)}
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	socket := os.NewFile(uintptr(fd), a.String())
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) != nil || unix.Bind(fd, address) != nil {
		_ = socket.Close()
		return nil
	}
	return socket
}
