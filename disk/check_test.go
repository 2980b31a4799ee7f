package disk_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/disktest"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/testvmdk"
)

func TestAKeptStreamIsCheckedToItsLastGrain(t *testing.T) {
	t.Parallel()
	want := disktest.Content(111, 4*mib, 10)
	stream := disktest.TailLayout(want, testvmdk.Options{})
	path := filepath.Join(t.TempDir(), "disk.vmdk")
	keep := func(p []byte) {
		t.Helper()
		if err := os.WriteFile(path, p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keep(stream)
	var last int64
	sum, err := disk.CheckStream(context.Background(), path, disk.CheckOptions{OnPosition: func(n int64) { last = n }})
	if err != nil || sum.Grains != 64 || last != int64(len(want)) {
		t.Errorf("%+v, position %d, error %v", sum, last, err)
	}
	keep(stream[:len(stream)-512])
	if _, err := disk.CheckStream(context.Background(), path, disk.CheckOptions{}); !errors.Is(err, disk.ErrTruncated) {
		t.Errorf("cut off: error %v", err)
	}
	g := middleGrain(t, stream)
	stream[g.Offset+12+int64(g.Size)/2] ^= 1
	keep(stream)
	_, err = disk.CheckStream(context.Background(), path, disk.CheckOptions{})
	wantStreamError(t, err, disk.ErrCorrupt, g.Offset, g.LBA)
	if _, err := disk.CheckStream(context.Background(), path+".none", disk.CheckOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: error %v", err)
	}
}
