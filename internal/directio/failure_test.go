package directio

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/directio/directiotest"
)

// failOnce lets one use of a kind fail with EIO, the nth.
func failOnce(kind string, nth int) func(directiotest.Op) error {
	return func(op directiotest.Op) error {
		if op.Kind == kind && op.Nth == nth {
			return syscall.EIO
		}
		return nil
	}
}

// faulty opens a file that fails.
func faulty(t *testing.T, fail func(directiotest.Op) error) *directiotest.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "part"))
	if err != nil {
		t.Fatal(err)
	}
	return directiotest.New(f, fail)
}

func TestTheFirstFailureOfAFileIsFinal(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"write", "sync", "truncate", "writeback"} {
		h := faulty(t, failOnce(kind, 1))
		f := Over(h)
		first := useFile(f)
		if !errors.Is(first, syscall.EIO) {
			t.Errorf("%s: the failure was not reported: %v", kind, first)
		}
		writes, syncs, truncates := h.Done("write"), h.Done("sync"), h.Done("truncate")
		for name, again := range map[string]func() error{
			"write":    func() error { _, err := f.WriteAt([]byte("more"), 0); return err },
			"sync":     f.Sync,
			"truncate": func() error { return f.Truncate(1 << 20) },
		} {
			if err := again(); !errors.Is(err, syscall.EIO) {
				t.Errorf("after a failed %s, a %s succeeds: %v", kind, name, err)
			}
		}
		if h.Done("write") != writes || h.Done("sync") != syncs || h.Done("truncate") != truncates {
			t.Errorf("after a failed %s the file was used again", kind)
		}
		if err := f.Close(); err != nil {
			t.Errorf("after a failed %s: close: %v", kind, err)
		}
	}
}

// useFile writes enough to a file for the system to be asked to write it back.
func useFile(f *File) error {
	if err := f.Truncate(1 << 20); err != nil {
		return err
	}
	p := make([]byte, 1<<20)
	for range writebackEvery / len(p) {
		if _, err := f.WriteAt(p, 0); err != nil {
			return err
		}
	}
	return f.Sync()
}

func TestAFileThatCouldNotBeClosedIsNotSyncedAgain(t *testing.T) {
	t.Parallel()
	f := Over(faulty(t, failOnce("close", 1)))
	if err := f.Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Close: %v", err)
	}
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Sync: %v", err)
	}
}

func TestASyncFailsWithAWriteThatFailsMeanwhile(t *testing.T) {
	t.Parallel()
	var f *File
	f = Over(faulty(t, func(op directiotest.Op) error {
		switch op.Kind {
		case "write":
			return syscall.EIO
		case "sync": // while it lasts, another goroutine writes
			_, _ = f.WriteAt([]byte("data"), 0)
		}
		return nil
	}))
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Sync: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestAnAppenderNeverVouchesForBytesAfterAFailure(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"write", "sync", "writeback"} {
		for nth := 1; nth <= 3; nth++ {
			a, err := newAppender(Over(faulty(t, failOnce(kind, nth))), 0)
			if err != nil {
				t.Fatal(err)
			}
			var failed error
			for i := 0; i < 30 && failed == nil; i++ {
				if _, failed = a.Write(noise(byte(i), appendBlock)); failed == nil {
					failed = a.Sync()
				}
			}
			if !errors.Is(failed, syscall.EIO) {
				t.Fatalf("%s %d: the failure was not reported: %v", kind, nth, failed)
			}
			if n, err := a.Write(noise(9, 10)); !errors.Is(err, syscall.EIO) {
				t.Errorf("after failed %s %d: %d bytes are taken: %v", kind, nth, n, err)
			}
			if err := a.Sync(); !errors.Is(err, syscall.EIO) {
				t.Errorf("after failed %s %d: Sync: %v", kind, nth, err)
			}
			if err := a.Close(); err != nil {
				t.Errorf("after failed %s %d: Close: %v", kind, nth, err)
			}
		}
	}
}

func TestDirectWritesNeverGoToAnotherFileOfThatName(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "part")
	old, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("of another run"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := NewFile(old)
	if _, err := f.WriteAt(Buffer(least), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	mustHold(t, path, []byte("of another run"))
}
