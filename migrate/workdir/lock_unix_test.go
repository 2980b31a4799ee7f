//go:build unix

package workdir

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hyper2kvm/hyper2kvm/migrate/outdir"
)

func TestAProgramThatIsBeingStartedDoesNotKeepTheDirectoryLocked(t *testing.T) {
	t.Parallel()
	w := newWorkdir(t)
	child, err := unix.Dup(int(w.lock.Fd())) // what a process has between fork and exec
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(child) })
	if err := w.Unlock(); err != nil { // the directory stays
		t.Fatal(err)
	}
	next, err := Open(outdir.Roots{}, w.output, "vm")
	if err != nil {
		t.Fatalf("the next run is kept out: %v", err)
	}
	if err := next.Unlock(); err != nil {
		t.Error(err)
	}
}
