package disk_test

import (
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/disktest"
	"github.com/hyper2kvm/hyper2kvm/internal/directio/directiotest"
)

func TestNothingVouchesForARawImageAfterAFailure(t *testing.T) {
	t.Parallel()
	disktest.NothingVouchesAfterAFailure(t, disktest.Image{
		Format: "raw",
		Create: func(f *directiotest.File, capacity int64) (disk.Writer, error) {
			return disk.CreateRawOver(f, capacity)
		},
		Open: func(path string, capacity int64) (disk.Writer, error) { return disk.OpenRaw(path, capacity) },
	})
}
