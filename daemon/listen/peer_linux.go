package listen

import (
	"io/fs"
	"net"
	"syscall"
	"unsafe"

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
		p.Groups, _ = peerGroups(int(fd)) // without them, there is GID
	})
}

// maxGroups is how many groups a process may have (NGROUPS_MAX).
const maxGroups = 65536

// peerGroups returns the groups beside the first of the process that connected
// (SO_PEERGROUPS, Linux 4.13).
func peerGroups(fd int) ([]uint32, error) {
	groups := make([]uint32, 64)
	for {
		size := uint32(4 * len(groups)) //nolint:gosec // bounded by maxGroups
		_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0) //nolint:gosec // x/sys has no call for it
		switch {
		case e == 0:
			return groups[:size/4], nil
		case e == unix.ERANGE && int(size/4) > len(groups) && size/4 <= maxGroups:
			groups = make([]uint32, size/4)
		default:
			return nil, e
		}
	}
}

// groupOf is the group of a file.
func groupOf(f fs.FileInfo) int {
	if s, ok := f.Sys().(*syscall.Stat_t); ok {
		return int(s.Gid)
	}
	return -1
}
