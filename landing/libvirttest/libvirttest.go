// Package libvirttest starts a libvirtd for tests: the real one, with QEMU but without
// KVM, in namespaces of its own. Nothing of the machine's own libvirt is touched, and
// nothing of it outlives the test.
//
// It needs root, or a kernel that lets users make namespaces.
package libvirttest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
)

// Server is a libvirtd.
type Server struct {
	t   testing.TB
	dir string
	cmd *exec.Cmd
	log *os.File
	// ended is closed when libvirtd has.
	ended chan struct{}
}

// script has libvirtd's own directories below $1. Without KVM, guests are emulated.
const script = `set -e
mount --make-rprivate / 2>/dev/null || true
mount -t proc proc /proc
for d in /etc/libvirt /var/lib/libvirt /var/cache/libvirt /run/libvirt /var/log/libvirt; do
	mkdir -p "$d" "$1/root$d"
	mount --bind "$1/root$d" "$d"
done
if [ -e /dev/kvm ]; then
	: >"$1/no-kvm" # what libvirtd may write to it takes for KVM, and asks QEMU again and again
	mount --bind "$1/no-kvm" /dev/kvm
	mount -o remount,bind,ro /dev/kvm
fi
cat >/etc/libvirt/qemu.conf <<-'END'
	user = "root"
	group = "root"
	stdio_handler = "file"
	security_driver = "none"
	cgroup_controllers = []
	namespaces = []
	swtpm_user = "root"
	swtpm_group = "root"
	remember_owner = 0
END
cat >/etc/libvirt/libvirtd.conf <<-END
	unix_sock_dir = "$1"
	auth_unix_rw = "none"
	auth_unix_ro = "none"
END
PATH=$PATH:/usr/sbin:/sbin
libvirtd --config /etc/libvirt/libvirtd.conf --pid-file "$1/pid" &
wait $! # as init: each QEMU that libvirtd has ended is waited for here
`

// Start starts a libvirtd with an empty state, which ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "h2k-lv-") // shorter than t.TempDir: sockets live in it
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, dir: dir}
	t.Cleanup(func() {
		s.Kill()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s.Restart()
	return s
}

// Restart starts libvirtd again, with the state that it had when it was killed.
func (s *Server) Restart() {
	s.t.Helper()
	_ = os.Remove(s.socket())
	args := []string{"--mount", "--propagation", "unchanged", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh", s.dir}
	if os.Geteuid() != 0 {
		args = append([]string{"--user", "--map-root-user"}, args...)
	}
	var err error
	if s.log, err = os.Create(filepath.Join(s.dir, "log")); err != nil {
		s.t.Fatal(err)
	}
	s.cmd = exec.Command("unshare", args...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatalf("%v: run scripts/setup.sh test", err)
	}
	ended := make(chan struct{})
	s.ended = ended
	go func() {
		_ = s.cmd.Wait()
		close(ended)
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.Dial("unix", s.socket()); err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-tick.C:
		case <-ended:
			s.t.Fatalf("libvirtd has ended: %s", s.Log())
		case <-s.t.Context().Done():
			s.t.Fatalf("libvirtd does not listen: %s", s.Log())
		}
	}
}

// Kill ends libvirtd and every QEMU at once.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	<-s.ended
	_ = s.log.Close()
}

func (s *Server) socket() string { return filepath.Join(s.dir, "libvirt-sock") }

// Log is what libvirtd has logged.
func (s *Server) Log() string {
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(bytes.TrimSpace(text)) + fmt.Sprint(errors.Join(err))
}

// URI is that of the QEMU driver.
func (s *Server) URI() string { return "qemu+unix:///system?socket=" + s.socket() }

// TestURI is that of the test driver, whose state lasts as long as a connection.
func (s *Server) TestURI() string { return "test+unix:///default?socket=" + s.socket() }

// Virsh runs a command and returns what it prints.
func (s *Server) Virsh(args ...string) string {
	s.t.Helper()
	out, err := exec.Command("virsh", append([]string{"-q", "-c", s.URI()}, args...)...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("virsh %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// Pool makes a storage pool of a directory, and starts it.
func (s *Server) Pool(name, dir string) {
	s.t.Helper()
	s.Virsh("pool-create-as", name, "dir", "--target", dir)
}

// State is a path below /var/lib/libvirt as the libvirtd has it.
func (s *Server) State(below ...string) string {
	return filepath.Join(append([]string{s.dir, "root/var/lib/libvirt"}, below...)...)
}

// Lease has a network that was made by [Server.Network] say that the card with that
// address has got an IP address, as dnsmasq would.
func (s *Server) Lease(network, mac, ip string) {
	s.t.Helper()
	bridge := ""
	for line := range strings.Lines(s.Virsh("net-info", network)) {
		if name, ok := strings.CutPrefix(line, "Bridge:"); ok {
			bridge = strings.TrimSpace(name)
		}
	}
	dir := s.State("dnsmasq")
	text := fmt.Sprintf(`[{"ip-address": %q, "mac-address": %q, "hostname": "guest", "expiry-time": %d}]`, ip, mac, time.Now().Add(time.Hour).Unix())
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, bridge+".status"), []byte(text), 0o600)); err != nil {
		s.t.Fatal(err)
	}
}

// Network makes a network without addresses, and starts it.
func (s *Server) Network(name string) {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "network.xml")
	text := fmt.Sprintf("<network><name>%s</name></network>", name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.Virsh("net-create", file)
}

// Console listens to the serial line of a domain that runs until a line begins with
// that text, and returns the line. Others that listen are sent away. When ctx ends
// before, or the line does, the error is its cause. heard is all that there was.
func (s *Server) Console(ctx context.Context, domain, text string) (line, heard string, err error) {
	socket, err := net.Dial("unix", s.socket())
	if err != nil {
		return "", "", err
	}
	defer socket.Close()
	l := libvirt.NewWithDialer(dialed{socket})
	if err := l.ConnectToURI("qemu:///system"); err != nil {
		return "", "", err
	}
	d, err := l.DomainLookupByName(domain)
	if err != nil {
		return "", "", err
	}
	r, w := io.Pipe()
	opened := make(chan struct{})
	go func() {
		defer close(opened)
		w.CloseWithError(l.DomainOpenConsole(d, nil, w, uint32(libvirt.DomainConsoleForce)))
	}()
	stop := context.AfterFunc(ctx, func() { r.CloseWithError(context.Cause(ctx)) })
	defer func() {
		stop()
		_ = r.Close()
		_ = socket.Close()
		<-opened
	}()
	var all strings.Builder
	for lines := bufio.NewScanner(r); ; {
		if !lines.Scan() {
			return "", all.String(), errors.Join(io.ErrUnexpectedEOF, lines.Err(), context.Cause(ctx))
		}
		all.WriteString(lines.Text() + "\n")
		if at := strings.TrimSpace(lines.Text()); strings.HasPrefix(at, text) {
			return at, all.String(), nil
		}
	}
}

// dialed is a connection as the library wants it.
type dialed struct{ net.Conn }

// Dial implements the library's socket.Dialer.
func (d dialed) Dial() (net.Conn, error) { return d.Conn, nil }
