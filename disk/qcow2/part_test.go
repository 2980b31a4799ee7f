package qcow2_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/disktest"
	"github.com/hyper2kvm/hyper2kvm/disk/qcow2"
)

func TestPartFilesAreNotImagesBeforeCommit(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "image")
	w, err := qcow2.Create(path, 10*mib, qcow2.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt([]byte("data"), 5*mib); err != nil {
		t.Fatal(err)
	}
	if err := w.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if p := disktest.ReadFile(t, path); bytes.HasPrefix(p, []byte("QFI")) {
		t.Error("the header is there before Commit")
	}
	if err := w.Discard(); err != nil {
		t.Fatal(err)
	}
	if err := w.Discard(); err != nil {
		t.Errorf("discarding twice: %v", err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the part file is still there after Discard: %v", err)
	}
}

func TestAPartFileWithoutACheckpointIsNotResumed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "part")
	w, err := qcow2.Create(path, 10*mib, qcow2.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := qcow2.Open(path, 10*mib, qcow2.Options{}); !errors.Is(err, disk.ErrNotResumable) {
		t.Errorf("without a checkpoint: error %v", err)
	}
}
