package part_test

import (
	"errors"
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
