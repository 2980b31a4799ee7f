package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// asOwner runs f as the user that a directory belongs to when this program runs as
// root: what f makes there then belongs to the daemon, and a link that somebody has
// put there is followed with no more rights than the daemon's. A directory that is
// not there yet stays root's to make.
func asOwner(dir string, f func() error) (err error) {
	if os.Geteuid() != 0 {
		return f()
	}
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return f()
	}
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return f()
	}
	groups, err := syscall.Getgroups()
	if err != nil {
		return fmt.Errorf("groups of this process: %w", err)
	}
	uid, gid := int(owner.Uid), int(owner.Gid)
	defer func() {
		err = errors.Join(err, syscall.Setresuid(-1, 0, -1), syscall.Setresgid(-1, 0, -1), syscall.Setgroups(groups))
	}()
	if err := errors.Join(syscall.Setgroups([]int{gid}), syscall.Setresgid(-1, gid, -1), syscall.Setresuid(-1, uid, -1)); err != nil {
		return fmt.Errorf("act as the owner of %s (uid %d): %w", dir, uid, err)
	}
	return f()
}
