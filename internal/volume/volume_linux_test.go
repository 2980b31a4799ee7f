package volume_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/volume"
)

func TestADirectoryAndItsFilesShareWhatIsFree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, make([]byte, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	here, err := volume.Of(dir)
	if err != nil {
		t.Fatal(err)
	}
	if there, err := volume.Of(path); err != nil || there != here {
		t.Errorf("the file is on %q (%v), its directory on %q", there, err, here)
	}
	if free, err := volume.Free(dir); err != nil || free <= 0 {
		t.Errorf("%d bytes are free: %v", free, err)
	}
}

func TestADirectoryThatIsNotThereIsAnErrorThatNamesIt(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "gone")
	_, freeErr := volume.Free(dir)
	_, ofErr := volume.Of(dir)
	for _, err := range []error{freeErr, ofErr} {
		if named := (*os.PathError)(nil); !errors.As(err, &named) || named.Path != dir {
			t.Errorf("error %v", err)
		}
	}
}

func TestAHoleTakesNothing(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 30); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if n := volume.Allocated(info); n >= 1<<20 {
		t.Errorf("a file of nothing but a hole takes %d bytes", n)
	}
}

func TestAFullFileSystemAndAUsedUpQuotaAreFull(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{syscall.ENOSPC: true, syscall.EDQUOT: true, syscall.EIO: false} {
		if got := volume.Full(fmt.Errorf("write: %w", err)); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}
