package listen

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

func TestTheKernelTellsTheGroupsOfWhoConnects(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "h2k") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	visitor := exec.CommandContext(t.Context(), "curl", "--silent", "--unix-socket", path, "http://localhost/") // it waits for an answer
	uid, gid, groups := uint32(os.Getuid()), uint32(os.Getgid()), []uint32{}
	if uid == 0 { // only root can be somebody else
		uid, gid = 4711, 4712
		for g := range uint32(200) {
			groups = append(groups, 5000+g)
		}
		visitor.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
		for _, at := range []string{dir, path} {
			if err := os.Chmod(at, 0o777); err != nil {
				t.Fatal(err)
			}
		}
	} else {
		own, err := os.Getgroups()
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range own {
			groups = append(groups, uint32(g))
		}
	}
	if err := visitor.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = visitor.Process.Kill()
		_ = visitor.Wait()
	})
	c, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var p access.Peer
	credentials(c, &p)
	slices.Sort(p.Groups)
	slices.Sort(groups)
	if p.UID != uid || p.GID != gid || int(p.PID) != visitor.Process.Pid || !slices.Equal(p.Groups, groups) {
		t.Errorf("%+v, want uid %d, gid %d, %d groups", p, uid, gid, len(groups))
	}
}
