package sqlite

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAProgramThatIsBeingStartedDoesNotKeepTheStateFileLocked(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "jobs.db")
	first := newHolding(path)
	if err := first.acquire(); err != nil {
		t.Fatal(err)
	}
	child, err := unix.Dup(int(first.file.Fd())) // what a process has between fork and exec
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(child) })
	if err := first.release(); err != nil {
		t.Fatal(err)
	}
	second := newHolding(path)
	if err := second.acquire(); err != nil {
		t.Fatalf("the next daemon is kept out: %v", err)
	}
	if err := second.release(); err != nil {
		t.Error(err)
	}
}
