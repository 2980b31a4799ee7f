package qcow2_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/disktest"
	"github.com/hyper2kvm/hyper2kvm/disk/qcow2"
	"github.com/hyper2kvm/hyper2kvm/internal/directio/directiotest"
)

func TestNothingVouchesForAnImageAfterAFailure(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]qcow2.Options{"plain": {}, "compressed": {Compress: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disktest.NothingVouchesAfterAFailure(t, disktest.Image{
				Format: "qcow2",
				Create: func(f *directiotest.File, capacity int64) (disk.Writer, error) {
					return qcow2.CreateOver(f, capacity, o)
				},
				Open: func(path string, capacity int64) (disk.Writer, error) { return qcow2.Open(path, capacity, o) },
			})
		})
	}
}

// The write of one goroutine fails while a checkpoint of another one waits for
// the device.
func TestACheckpointFailsWithAWriteThatFailsMeanwhile(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "part"))
	if err != nil {
		t.Fatal(err)
	}
	var w *qcow2.Writer
	broken := false
	h := directiotest.New(f, func(op directiotest.Op) error {
		switch {
		case op.Kind == "write" && broken:
			return syscall.EIO
		case op.Kind == "sync" && op.Nth == 1:
			broken = true
			if _, err := w.WriteAt([]byte("data"), 5*grain); !errors.Is(err, syscall.EIO) {
				t.Errorf("WriteAt: %v", err)
			}
			broken = false
		}
		return nil
	})
	if w, err = qcow2.CreateOver(h, mib, qcow2.Options{}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Discard() }()
	if err := w.Checkpoint(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Checkpoint: %v", err)
	}
	if err := w.Checkpoint(); !errors.Is(err, syscall.EIO) {
		t.Errorf("the next Checkpoint: %v", err)
	}
}

// What cannot be read back leaves the tables in memory half changed.
func TestAnImageWhoseTablesCannotBeReadIsNotCommitted(t *testing.T) {
	t.Parallel()
	const capacity = 64 * gib // more level 2 tables than the writer holds
	path := filepath.Join(t.TempDir(), "part")
	w, err := qcow2.Create(path, capacity, qcow2.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Discard() }()
	for off := int64(0); off < capacity; off += capacity / 128 {
		if _, err := w.WriteAt([]byte("data"), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 8*grain); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt(bytes.Repeat([]byte("more"), grain), 64*capacity/128); err == nil {
		t.Fatal("a table behind the end of the file was read")
	}
	if err := w.Checkpoint(); err == nil {
		t.Error("Checkpoint succeeded")
	}
	if err := w.Commit(); err == nil {
		t.Error("Commit succeeded")
	}
}
