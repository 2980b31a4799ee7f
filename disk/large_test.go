package disk_test

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/disktest"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/testvmdk"
	"github.com/hyper2kvm/hyper2kvm/disk/vmdk"
)

// writeSparse makes the raw file of a sparse disk.
func writeSparse(t *testing.T, d testvmdk.Disk) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "source.raw")
	w, err := disk.CreateRaw(path, d.Capacity)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range d.Grains {
		if _, err := w.WriteAt(p, i*grain); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestA2TiBSparseDiskIsIdenticalInLittleSpace(t *testing.T) {
	t.Parallel()
	d := testvmdk.Sparse(2*tib, 30*gib+3*grain)
	rawPath := writeSparse(t, d)
	for layout, stream := range map[vmdk.Layout][]byte{
		vmdk.LayoutTail:  testvmdk.Encode(d, testvmdk.Options{}),
		vmdk.LayoutFront: disktest.ReadFile(t, frontLayout(t, rawPath)),
	} {
		for _, tg := range targets() {
			if layout == vmdk.LayoutFront && tg.name != "qcow2" {
				continue // 256 MiB of tables: once will do
			}
			path := filepath.Join(t.TempDir(), "image")
			decode(t, bytes.NewReader(stream), tg, path, disk.Options{Capacity: d.Capacity})
			disktest.Judge(t, tg.format, path, rawPath)
			if n := allocated(t, path); n > 16*mib {
				t.Errorf("%s to %s: 69 grains take %d bytes", layout, tg.name, n)
			}
		}
	}
}

// TestTableChecksNeedOneBitForEachTable holds the size of a Position, which is
// what a stream's structure needs in memory, against the size of the disk.
func TestTableChecksNeedOneBitForEachTable(t *testing.T) {
	t.Parallel()
	d := testvmdk.Sparse(64*gib, 32*mib)
	r, w := io.Pipe()
	go func() {
		_ = w.CloseWithError(testvmdk.Write(w, d, testvmdk.Options{Repeat: true}))
	}()
	var last disk.Position
	sum, err := disk.DecodeStream(context.Background(), r, nil, disk.Options{CheckpointEvery: 64 * kib, OnCheckpoint: func(p disk.Position) error {
		last = p
		return nil
	}})
	if err != nil || sum.Grains != 2048 {
		t.Fatalf("%+v, error %v", sum, err)
	}
	if n := len(last.Tables.Used); n > 256 || len(last.Tables.Pending) > 1 {
		t.Errorf("%d bytes of bits and %d pending tables for 2048 tables", n, len(last.Tables.Pending))
	}
}
