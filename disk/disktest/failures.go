package disktest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/testvmdk"
	"github.com/hyper2kvm/hyper2kvm/internal/directio/directiotest"
)

// Image is a kind of image whose file a test lets fail.
type Image struct {
	Format string // for qemu-img
	Create func(f *directiotest.File, capacity int64) (disk.Writer, error)
	Open   func(path string, capacity int64) (disk.Writer, error)
}

// NothingVouchesAfterAFailure lets each use of an image's file fail once while a
// stream is decoded into it. From then on neither Checkpoint nor Commit may
// succeed, though the file would; and the last checkpoint before it must be one
// that the image can be resumed from, without what a failed sync has lost.
func NothingVouchesAfterAFailure(t *testing.T, image Image) {
	t.Helper()
	want := Content(17, 6<<20+512, 8)
	source := filepath.Join(t.TempDir(), "source.raw")
	WriteRaw(t, source, want)
	stream := TailLayout(want, testvmdk.Options{})
	for _, kind := range []string{"write", "sync", "truncate", "close"} {
		tried := 0
		for nth := 1; ; nth += 1 + nth/4 {
			path := filepath.Join(t.TempDir(), "part")
			failed, at := failing(t, image, path, stream, int64(len(want)), kind, nth)
			if !failed {
				break
			}
			tried++
			if at != nil && resumed(t, image, path, stream, int64(len(want)), at) {
				Judge(t, image.Format, path, source)
			}
		}
		if tried == 0 {
			t.Errorf("%s: the file was not used so", kind)
		}
	}
}

// failing decodes a stream into an image while the nth use of a kind fails. It
// returns whether it came to that, and the last checkpoint.
func failing(t *testing.T, image Image, path string, stream []byte, capacity int64, kind string, nth int) (failed bool, at []byte) {
	t.Helper()
	name := fmt.Sprintf("%s %d", kind, nth)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := image.Create(directiotest.New(f, func(op directiotest.Op) error {
		if op.Kind == kind && op.Nth == nth {
			return syscall.EIO
		}
		return nil
	}), capacity)
	if errors.Is(err, syscall.EIO) {
		return true, nil
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = disk.DecodeStream(context.Background(), bytes.NewReader(stream), w, disk.Options{
		Workers: 2, Capacity: capacity, CheckpointEvery: int64(len(stream)) / 6,
		OnCheckpoint: func(p disk.Position) (err error) {
			at, err = json.Marshal(p)
			return err
		},
	})
	if err == nil {
		err = w.Commit()
	}
	if err == nil {
		if err := w.Close(); err != nil {
			t.Errorf("%s: closing a committed image: %v", name, err)
		}
		return false, nil
	}
	if !errors.Is(err, syscall.EIO) {
		t.Fatalf("%s: error %v", name, err)
	}
	for range 2 {
		if err := w.Checkpoint(); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s failed, and a checkpoint after it: %v", name, err)
		}
		if err := w.Commit(); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s failed, and a commit after it: %v", name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Errorf("%s failed, and Close: %v", name, err)
	}
	return true, at
}

// resumed decodes the rest of a stream into a part file, if that can be resumed.
func resumed(t *testing.T, image Image, path string, stream []byte, capacity int64, at []byte) bool {
	t.Helper()
	var p disk.Position
	if err := json.Unmarshal(at, &p); err != nil {
		t.Fatal(err)
	}
	w, err := image.Open(path, capacity)
	if errors.Is(err, disk.ErrNotResumable) { // the commit had begun
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Discard() }()
	if _, err := disk.DecodeStream(context.Background(), bytes.NewReader(stream[p.StreamOffset:]), w, disk.Options{Resume: &p}); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return true
}
