package migrate_test

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// tinyFileSystem mounts a file system of that many bytes. Only root can.
func tinyFileSystem(t *testing.T, size int64) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		if os.Geteuid() != 0 && os.Getenv("CI") == "" {
			t.Skip("mounting a small file system needs root")
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}
