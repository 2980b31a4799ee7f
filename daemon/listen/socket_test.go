package listen_test

import (
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/listen"
)

func TestTheSocketIsForOwnerAndGroupAndTellsWhoConnects(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	d := start(t, listen.Options{Socket: path})
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if gid := info.Sys().(*syscall.Stat_t).Gid; int(gid) != os.Getegid() {
		t.Errorf("its group is %d, not the daemon's, %d", gid, os.Getegid())
	}
	want := seen{Known: true, Unix: true, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), PID: int32(os.Getpid()), Addr: "invalid IP"}
	if got := d.asks(d.visit("unix", nil)); got != want {
		t.Errorf("seen %+v, want %+v", got, want)
	}
	if d.Exposed() != "" {
		t.Error("a socket is taken for an address of others")
	}
}

func TestTheSocketHasTheGroupThatIsAskedFor(t *testing.T) {
	t.Parallel()
	gid := os.Getegid()
	if os.Geteuid() == 0 { // others can give it to groups of theirs only
		gid = 4242
	}
	path := socketPath(t)
	start(t, listen.Options{Socket: path, SocketGroup: strconv.Itoa(gid)})
	info, err := os.Lstat(path)
	if err != nil || int(info.Sys().(*syscall.Stat_t).Gid) != gid || info.Mode().Perm() != 0o660 {
		t.Fatalf("%+v, %v", info, err)
	}
	if os.Geteuid() == 0 { // who else can become somebody else?
		if err := os.Chmod(filepath.Dir(path), 0o711); err != nil {
			t.Fatal(err)
		}
		for group, want := range map[string]string{"4242": "connected", "4343": "PermissionError"} {
			const connect = "import os,socket,sys; os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(65534);" +
				"socket.socket(socket.AF_UNIX).connect(sys.argv[1]); print('connected')"
			out, _ := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", connect, path, group).CombinedOutput()
			if !strings.Contains(string(out), want) {
				t.Errorf("with the group %s: %s, want %s", group, out, want)
			}
		}
	}
	_, err = listen.Open(t.Context(), listen.Options{Socket: socketPath(t), SocketGroup: "no-such-group"})
	wantSettingsError(t, err, "no such group")
}

func TestASocketThatADeadDaemonLeftIsReplaced(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	for _, left := range []string{path, path + ".new"} {
		stale(t, left)
	}
	d := start(t, listen.Options{Socket: path})
	d.asks(d.visit("unix", nil))
	if _, err := os.Lstat(path + ".new"); err == nil {
		t.Error("what was begun with is left")
	}
}

// stale leaves a socket behind that nobody listens at.
func stale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestASocketThatIsInUseIsLeftAlone(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	d := start(t, listen.Options{Socket: path})
	_, err := listen.Open(t.Context(), listen.Options{Socket: path})
	if err == nil || !strings.Contains(err.Error(), "in use by another hyper2kvmd") {
		t.Errorf("a second daemon: %v", err)
	}
	// The lock may be gone; the listener is there all the same.
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	_, err = listen.Open(t.Context(), listen.Options{Socket: path})
	if err == nil || !strings.Contains(err.Error(), "another program listens there") {
		t.Errorf("without the lock: %v", err)
	}
	d.asks(d.visit("unix", nil))
}

func TestWhatIsNoSocketIsLeftAlone(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	other := filepath.Join(filepath.Dir(path), "other.sock")
	d := start(t, listen.Options{Socket: other})
	for name, put := range map[string]func() error{
		"a file":              func() error { return os.WriteFile(path, []byte("precious"), 0o600) },
		"a directory":         func() error { return os.Mkdir(path, 0o700) },
		"a link to a socket":  func() error { return os.Symlink(other, path) },
		"a link that is dead": func() error { return os.Symlink("nothing", path) },
	} {
		if err := put(); err != nil {
			t.Fatal(err)
		}
		if _, err := listen.Open(t.Context(), listen.Options{Socket: path}); err == nil || !strings.Contains(err.Error(), "no socket") {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.Remove(path); err != nil {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
	d.asks(d.visit("unix", nil))
}

func TestOfManyDaemonsOnOneStaleSocketOneWins(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	stale(t, path)
	sets := make([]*listen.Set, 16)
	var all sync.WaitGroup
	for i := range sets {
		all.Go(func() { sets[i], _ = listen.Open(t.Context(), listen.Options{Socket: path}) })
	}
	all.Wait()
	won := 0
	for _, s := range sets {
		if s != nil {
			won++
			c, err := net.Dial("unix", path)
			if err != nil {
				t.Errorf("the winner does not listen: %v", err)
			} else {
				_ = c.Close()
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if won != 1 {
		t.Errorf("%d daemons listen", won)
	}
}

func TestTheSocketIsGoneAtTheEndUnlessItIsAnothers(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	s, err := listen.Open(t.Context(), listen.Options{Socket: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is left")
	}
	if s, err = listen.Open(t.Context(), listen.Options{Socket: path}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("another's file is gone: %v", err)
	}
}

func TestThePathOfASocketMustBeOne(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"relative.sock":                  "absolute path",
		"@abstract":                      "absolute path",
		"/" + strings.Repeat("a", 104):   "at most 103 bytes",
		"/no/such/directory/at/all.sock": "no such file",
	} {
		if _, err := listen.Open(t.Context(), listen.Options{Socket: path}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	_, err := listen.Open(t.Context(), listen.Options{Socket: listen.None, Addrs: []string{listen.None}})
	wantSettingsError(t, err, "nothing to listen on")
}

func TestTheDirectoryOfTheSocketIsMade(t *testing.T) {
	t.Parallel()
	path := filepath.Join(filepath.Dir(socketPath(t)), "run", "d.sock")
	start(t, listen.Options{Socket: path})
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("%v, %v", info, err)
	}
}
