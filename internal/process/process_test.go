//go:build unix

package process_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/internal/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipe is the end of the output of what a program starts, which is at its end when
// nothing holds it any more.
func pipe(t *testing.T, cmd *exec.Cmd) *bufio.Reader {
	t.Helper()
	out, in := io.Pipe()
	cmd.Stdout = in
	t.Cleanup(func() { _ = out.Close() })
	return bufio.NewReader(out)
}

func TestWhatAProgramHasStartedEndsWithTheContext(t *testing.T) {
	t.Parallel()
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cmd := exec.Command("sh", "-c", `trap '' TERM; sh -c "trap '' TERM; echo begun; while :; do sleep 60; done" & wait`)
	lines := pipe(t, cmd)
	ended := make(chan error, 1)
	go func() { ended <- process.Run(ctx, cmd) }()
	if line, err := lines.ReadString('\n'); line != "begun\n" {
		t.Fatal(line, err)
	}
	cancel(enough)
	if err := <-ended; !errors.Is(err, enough) {
		t.Errorf("error %v", err)
	}
}

func TestWhatAProgramHasLeftRunningEndsWithIt(t *testing.T) {
	t.Parallel()
	out, err := process.Output(t.Context(), "sh", "-c", "sleep 1000 & echo done")
	if err != nil || out != "done\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestTheErrorOfAProgramHasItsNameAndItsWords(t *testing.T) {
	t.Parallel()
	_, err := process.Output(t.Context(), "sh", "-c", "echo 'no\x1b[2J such disk' >&2; exit 3")
	if err == nil || !strings.Contains(err.Error(), `sh: exit status 3: no\x1b[2J such disk`) {
		t.Errorf("error %v", err)
	}
	if _, err := process.Output(t.Context(), "no-such-program"); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := process.Output(ctx, "true"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
