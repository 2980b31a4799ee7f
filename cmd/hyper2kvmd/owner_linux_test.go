package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestWhatACommandOfRootMakesBelongsToTheOwnerOfTheDirectory(t *testing.T) {
	// Not parallel: the user is the process's.
	dir := t.TempDir()
	owner, group := os.Geteuid(), os.Getegid()
	if owner == 0 { // anybody else can act as themselves only
		owner, group = 4711, 4712
		if err := os.Chown(dir, owner, group); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	before := os.Geteuid()
	path := filepath.Join(dir, "made")
	refusal := errors.New("as f returns it")
	err := asOwner(dir, func() error {
		return errors.Join(os.WriteFile(path, nil, 0o600), refusal)
	})
	if !errors.Is(err, refusal) {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if s := info.Sys().(*syscall.Stat_t); int(s.Uid) != owner || int(s.Gid) != group {
		t.Errorf("it belongs to %d:%d, want %d:%d", s.Uid, s.Gid, owner, group)
	}
	if os.Geteuid() != before || os.Getegid() != os.Getgid() {
		t.Errorf("the process goes on as %d:%d", os.Geteuid(), os.Getegid())
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(dir), "ours"), nil, 0o600); err != nil {
		t.Errorf("the process has lost its rights: %v", err)
	}
}
