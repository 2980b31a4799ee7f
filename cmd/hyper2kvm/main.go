// Command hyper2kvm gets VMs out of VMware vSphere and ready for KVM.
//
// Without a subcommand, on a terminal, it is interactive. Its one-shot
// commands are list, check, export, convert, run, resume, clean, and probe. The vCenter and the credentials come
// from the GOVC_* variables, as govc reads them.
//
// Exit codes: 0 done; 1 failed; 2 wrong usage; 3 the vCenter cannot be reached,
// its certificate is not trusted, or the login was refused; 4 the VM was not
// found, is ambiguous, or cannot be exported as it is; 5 what arrived is not
// what vSphere says it sent; 6 of several VMs some failed, and the others are done;
// 130 interrupted.
package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/daemonflags"
	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/probe"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/report"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// Exit codes.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitConnect     = 3
	exitObstacle    = 4
	exitVerify      = 5
	exitPartial     = 6
	exitInterrupted = 130
)

func main() {
	// A reader of our output that has gone, as in "| head", is an error of the write
	// and not the end of the process: what was changed at the vCenter is undone first.
	// Then the program ends quietly, for it has done what it was asked for.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), endings()...)
	// The first signal cancels and cleans up; the next one finds the default
	// action again and ends the process at once.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args, os.Stdout, os.Stderr, os.Getenv)
	stop()
	os.Exit(code)
}

// endings are the signals that end a run in good order. A terminal that goes away
// is one of them, unless the program was started to outlive it (nohup).
func endings() []os.Signal {
	all := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, out, errOut io.Writer, getenv func(string) string) int {
	p := terminal.New(out, errOut)
	root := newRoot(p, getenv, args)
	err := root.Run(ctx, cliargs.SubcommandFirst(root, args))
	if err == nil || terminal.ReaderGone(err) {
		return 0
	}
	complain(p, err)
	return exitCode(err)
}

// complain prints err and what to do about it.
func complain(p *terminal.Printer, err error) {
	var told toldError
	if errors.As(err, &told) {
		return
	}
	if errors.Is(err, context.Canceled) && !errors.Is(err, probe.ErrLeft) {
		p.Error("interrupted; what was changed at the vCenter is undone")
	} else {
		lines := strings.Split(err.Error(), "\n")
		for i := range lines {
			lines[i] = display.SafeText(lines[i])
		}
		p.Error("%s", strings.Join(lines, "\n"))
	}
	if hint := cmp.Or(migrate.Hint(err), daemonflags.Hint(err)); hint != "" {
		p.Error("hint: %s", display.SafeText(hint))
	}
}

// toldError is a failure that the output has told already.
type toldError struct{ error }

func (e toldError) Unwrap() error { return e.error }

func exitCode(err error) int {
	var (
		usage       cliargs.UsageError
		certificate *vsphere.CertificateError
		ambiguous   *vsphere.AmbiguousError
		preflight   *migrate.PreflightError
		several     *report.RunError
	)
	switch {
	case errors.As(err, &usage), errors.Is(err, vsphere.ErrPattern):
		return exitUsage
	case errors.Is(err, probe.ErrLeft):
		return exitFailed
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &several) && several.Partial():
		return exitPartial
	case errors.Is(err, migrate.ErrVerify):
		return exitVerify
	case errors.As(err, &preflight), errors.As(err, &ambiguous), errors.Is(err, vsphere.ErrNotFound),
		errors.Is(err, vsphere.ErrPoweredOn), errors.Is(err, vsphere.ErrNotExportable), errors.Is(err, migrate.ErrExists):
		return exitObstacle
	case errors.As(err, &certificate), errors.Is(err, vsphere.ErrLogin), errors.Is(err, vsphere.ErrUnreachable),
		errors.Is(err, vsphere.ErrNotVSphere):
		return exitConnect
	}
	return exitFailed
}
