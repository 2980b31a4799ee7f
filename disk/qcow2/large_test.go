package qcow2_test

import (
	"context"
	"io"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/disktest"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/testvmdk"
	"github.com/hyper2kvm/hyper2kvm/disk/qcow2"
)

// TestMemoryDoesNotGrowWithTheDisk decodes disks whose level 2 tables and
// refcount blocks would take 64 MiB if all were held.
func TestMemoryDoesNotGrowWithTheDisk(t *testing.T) {
	for _, compress := range []bool{false, true} {
		d := testvmdk.Sparse(2*tib, 2*gib)
		r, w := io.Pipe()
		go func() { _ = w.CloseWithError(testvmdk.Write(w, d, testvmdk.Options{Repeat: true})) }()
		path := filepath.Join(t.TempDir(), "image")
		image, err := qcow2.Create(path, d.Capacity, qcow2.Options{Compress: compress})
		if err != nil {
			t.Fatal(err)
		}
		before := liveHeap()
		var most uint64
		n := 0
		_, err = disk.DecodeStream(context.Background(), r, image, disk.Options{OnPosition: func(int64) {
			if n++; n%30 == 0 {
				most = max(most, liveHeap())
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if got := image.CachedPages(); got > qcow2.TableCacheSize {
			t.Errorf("%d tables in memory", got)
		}
		if most == 0 || most > before+24*mib {
			t.Errorf("compress %v: %d MiB of live memory after %d MiB at the start", compress, most/mib, before/mib)
		}
		if err := image.Commit(); err != nil {
			t.Fatal(err)
		}
		if info, err := qcow2.Check(context.Background(), path); err != nil || info.Plain+info.Compressed != 1024 {
			t.Errorf("compress %v: %+v, error %v", compress, info, err)
		}
		disktest.QemuImg(t, "check", path)
	}
}

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
