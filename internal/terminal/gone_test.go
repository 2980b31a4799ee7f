package terminal_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
)

func TestOnlyTheReaderOfTheOutputCountsAsGone(t *testing.T) {
	t.Parallel()
	output := &fs.PathError{Op: "write", Path: os.Stdout.Name(), Err: syscall.EPIPE}
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"the output":          {output, true},
		"wrapped":             {fmt.Errorf("print: %w", output), true},
		"joined with itself":  {errors.Join(output, output), true},
		"joined with more":    {errors.Join(errors.New("the disk is gone"), output), false},
		"nothing":             {nil, false},
		"a full disk":         {&fs.PathError{Op: "write", Path: os.Stdout.Name(), Err: syscall.ENOSPC}, false},
		"a pipe of others":    {&fs.PathError{Op: "write", Path: "/run/fifo", Err: syscall.EPIPE}, false},
		"the network":         {&net.OpError{Op: "write", Err: os.NewSyscallError("write", syscall.EPIPE)}, false},
		"words about a pipe":  {errors.New("broken pipe"), false},
		"the bare error code": {syscall.EPIPE, false},
	} {
		if got := terminal.ReaderGone(c.err); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
