// Command h2kvmctl drives a hyper2kvmd: it submits, lists, watches, cancels
// and retries jobs, lists a vCenter's VMs, and checks jobs before they run.
//
// For people it prints tables and live bars on a terminal; into a pipe the same
// without colours and boxes, and with -json the API's own JSON.
//
// Exit codes: 0 done; 1 failed, also when a watched job did; 2 wrong usage; 3
// the daemon cannot be reached or not be believed to be one, or says that it cannot serve
// now; 4 no such job, or the request was refused; 130 interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/daemonflags"
	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

// Exit codes.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitRefused     = 4
	exitInterrupted = 130
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the next signal ends the process at once
	code := run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	p := terminal.New(out, errOut)
	root := newRoot(p, in)
	err := root.Run(ctx, cliargs.SubcommandFirst(root, args))
	if err == nil {
		return 0
	}
	var told toldError
	switch {
	case errors.As(err, &told):
	case errors.Is(err, context.Canceled):
		p.Error("interrupted")
	default:
		p.Error("%s%s", display.SafeText(err.Error()), advice(err))
	}
	return exitCode(err)
}

// advice is what to do about an answer that says that the daemon cannot serve
// now.
func advice(err error) string {
	var answer *client.Error
	switch {
	case !errors.As(err, &answer):
		return ""
	case answer.RetryAfter > 0:
		return fmt.Sprintf(" (try again in %v)", answer.RetryAfter)
	case answer.Status == http.StatusInsufficientStorage:
		return " (nothing was stored; try again when there is room)"
	case daemonflags.Hint(err) != "":
		return " (" + daemonflags.Hint(err) + ")"
	}
	return ""
}

// toldError is a failure that the output has told already.
type toldError struct{ error }

func (e toldError) Unwrap() error { return e.error }

func exitCode(err error) int {
	var usage cliargs.UsageError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.Is(err, client.ErrUnavailable), errors.Is(err, client.ErrUntrusted):
		return exitUnreachable
	case errors.Is(err, client.ErrNotFound), errors.Is(err, client.ErrRejected),
		errors.Is(err, client.ErrConflict), errors.Is(err, client.ErrInvalid),
		errors.Is(err, client.ErrForbidden):
		return exitRefused
	}
	return exitFailed
}
