// Package process runs programs that start programs of their own, as virt-v2v starts an
// appliance: each in a process group, which ends as a whole with the context, and on
// Linux with this process.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
)

// lastWords is how long is waited for what a program that has ended left in its pipes.
const lastWords = 5 * time.Second

// Run starts cmd, which was made by [exec.Command], and waits for its end. When ctx ends
// before, the program and everything in its group is killed, and the error is the cause
// of ctx. Otherwise it is that of [exec.Cmd.Run].
func Run(ctx context.Context, cmd *exec.Cmd) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	apart(cmd)
	cmd.WaitDelay = lastWords
	ended := make(chan error, 1)
	started := make(chan error)
	go func() {
		// The kernel ends the program with the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- wait(cmd)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	select {
	case err := <-ended:
		kill(cmd) // what it may have left running
		return err
	case <-ctx.Done():
		kill(cmd)
		if err := <-ended; err == nil {
			return nil // it was done before it was killed
		}
		return context.Cause(ctx)
	}
}

// wait is [exec.Cmd.Wait]. That something else still holds the pipes of a program that
// has succeeded is no failure of it.
func wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	return err
}

// maxSaid bounds what is kept of the output of a program, in bytes.
const maxSaid = 64 << 10

// Output is [Run] of a program that says little. The error names the program, and ends
// with what the program wrote to its standard error.
func Output(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	var out, said bounded
	cmd.Stdout, cmd.Stderr = &out, &said
	err := Run(ctx, cmd)
	if text := strings.TrimSpace(said.String()); err != nil && text != "" && ctx.Err() == nil {
		err = fmt.Errorf("%w: %s", err, safetext.Bounded(text, maxTold))
	}
	if err != nil {
		return out.String(), fmt.Errorf("%s: %w", program, err)
	}
	return out.String(), nil
}

// maxTold bounds what an error repeats of a program's words, in bytes.
const maxTold = 1000

// bounded keeps the beginning of what is written to it.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if room := maxSaid - b.Len(); room > 0 {
		_, _ = b.Buffer.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}
