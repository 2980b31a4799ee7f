package part_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk/internal/part"
)

func TestAFullFileSystemIsNamed(t *testing.T) {
	t.Parallel()
	err := part.Error("write", "/images/vm.part", &os.PathError{Op: "write", Path: "/images/vm.part", Err: syscall.ENOSPC})
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "/images/vm.part") || !strings.Contains(err.Error(), "free some space") {
		t.Errorf("error %v", err)
	}
}

func TestAnErrorNamesItsFileOnce(t *testing.T) {
	t.Parallel()
	const path = "/images/vm.part"
	cause := &os.PathError{Op: "sync", Path: path, Err: syscall.EIO}
	for want, err := range map[string]error{
		"sync /images/vm.part: input/output error":                                  cause,
		"sync /images/vm.part: meanwhile: sync /images/vm.part: input/output error": fmt.Errorf("meanwhile: %w", cause),
		"sync /images/vm.part: open /images: permission denied":                     &os.PathError{Op: "open", Path: "/images", Err: syscall.EACCES},
		"sync /images/vm.part: " + os.ErrClosed.Error():                             os.ErrClosed,
	} {
		if got := part.Error("sync", path, err); got.Error() != want || !errors.Is(got, err) && !errors.Is(got, syscall.EIO) {
			t.Errorf("error %q, want %q", got, want)
		}
	}
	if err := part.Error("sync", path, nil); err != nil {
		t.Errorf("of no error: %v", err)
	}
}
