package listen

import (
	"net"

	"golang.org/x/sys/unix"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

// credentials fills in which process connected, as the kernel noted it then.
func credentials(c *net.UnixConn, p *access.Peer) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		if u, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			p.UID, p.GID, p.PID = u.Uid, u.Gid, u.Pid
		}
	})
}
