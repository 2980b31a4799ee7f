package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// socketMode lets the owner and the group in: whoever may connect may write.
const socketMode = 0o660

// maxSocketPath is the longest path of a unix socket in bytes, less what its
// beginnings are called.
const maxSocketPath = 107 - len(newSuffix)

// newSuffix ends the name of a socket whose mode is not set yet.
const newSuffix = ".new"

// socket is a unix socket of this process's own. A lock beside it keeps other
// daemons away, also while one replaces what a dead one has left.
type socket struct {
	*net.UnixListener
	path string
	made fs.FileInfo // the socket at path
	lock *flock.Flock
	end  func() error // what Close does, once
}

// CheckSocket tells whether path can be one of a unix socket.
func CheckSocket(path string) error {
	switch {
	case path == "" || path == None:
	case !filepath.IsAbs(path):
		return errors.New("must be an absolute path, or none")
	case len(path) > maxSocketPath:
		return fmt.Errorf("must have at most %d bytes, as the system wants it of sockets", maxSocketPath)
	}
	return nil
}

// openSocket listens at path for group. The socket has its mode before it has its
// name; one that nobody listens at any more is replaced.
func openSocket(path, group string) (*socket, error) {
	if err := CheckSocket(path); err != nil {
		return nil, settings("socket %s: %w", path, err)
	}
	gid, err := groupID(group)
	if err != nil {
		return nil, settings("socket %s: %w", path, err)
	}
	if err := os.Mkdir(filepath.Dir(path), 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("socket: %w; choose another place with -socket, or -socket none", err)
	}
	s := &socket{path: path, lock: flock.New(path+".lock", flock.SetPermissions(0o600))}
	locked, err := s.lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w; choose another place with -socket, or -socket none", path, err)
	}
	if !locked {
		return nil, fmt.Errorf("socket %s is in use by another hyper2kvmd; stop that, or choose another with -socket", path)
	}
	if err := s.open(gid); err != nil {
		return nil, errors.Join(fmt.Errorf("socket %s: %w", path, err), s.lock.Unlock())
	}
	return s, nil
}

// open listens, once the lock is held.
func (s *socket) open(gid int) error {
	if err := wantFree(s.path); err != nil {
		return err
	}
	beginning := s.path + newSuffix
	if err := os.Remove(beginning); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: beginning, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(beginning, socketMode)
	if err == nil {
		s.made, err = os.Lstat(beginning)
	}
	// The unit does not let the daemon change owners; its own group the socket has.
	if err == nil && gid >= 0 && groupOf(s.made) != gid {
		err = os.Chown(beginning, -1, gid)
	}
	if err == nil {
		err = os.Rename(beginning, s.path)
	}
	if err != nil {
		return errors.Join(err, l.Close(), os.Remove(beginning))
	}
	s.UnixListener, s.end = l, sync.OnceValue(s.close)
	return nil
}

// wantFree wants nothing at path, or a socket that nobody listens at.
func wantFree(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is something that is no socket; remove it, or choose another place with -socket")
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = c.Close()
		return errors.New("another program listens there; stop that, or choose another place with -socket")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("whether another program listens there cannot be told: %w", err)
	}
	return nil
}

// Addr is the socket by its final name.
func (s *socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }

// Close stops listening and removes the socket, unless another has its name now.
func (s *socket) Close() error { return s.end() }

func (s *socket) close() error {
	err := s.UnixListener.Close()
	if now, serr := os.Lstat(s.path); serr == nil && os.SameFile(now, s.made) {
		err = errors.Join(err, os.Remove(s.path))
	}
	return errors.Join(err, s.lock.Unlock())
}

// groupID is the number of a group that is given by name or number; -1 for none.
func groupID(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if id, err := strconv.ParseUint(group, 10, 31); err == nil {
		return int(id), nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, fmt.Errorf("no such group: %s", strings.ToValidUTF8(group, "?"))
	}
	return strconv.Atoi(g.Gid)
}
