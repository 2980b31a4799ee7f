package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/daemonflags"
	"github.com/hyper2kvm/hyper2kvm/internal/version"
	"github.com/hyper2kvm/hyper2kvm/job/outcome"
	"github.com/hyper2kvm/hyper2kvm/tui"
)

// daemonFlags say which daemon does the work.
func daemonFlags() []cli.Flag {
	return daemonflags.Flags("hand the jobs to the daemon at `URL`: http://…, https://…, or unix:///PATH")
}

// interactiveFlags are the root command's flags that matter when it is
// interactive.
func interactiveFlags() []cli.Flag {
	return append(daemonFlags(),
		&cli.StringFlag{Name: "vcenter", Usage: "with -daemon: the vCenter `NAME` in the daemon's configuration"},
		&cli.StringFlag{Name: "profile", Usage: "connect with the saved profile `NAME`"},
	)
}

// watchCommand comes back to the jobs of a daemon.
func (a *app) watchCommand() *cli.Command {
	return &cli.Command{
		Name:  "watch",
		Usage: "show the jobs that a daemon is running, with keys to pause and cancel them",
		Flags: daemonFlags(),
		Action: cliargs.NoArgs(func(ctx context.Context, cmd *cli.Command) error {
			o := a.tuiOptions(cmd)
			var hint error
			o.Daemon, hint = daemonflags.Local(cmd, client.DefaultSocket)
			if cmd.Bool("json") || !o.Interactive() {
				return cliargs.Usage("%w; try h2kvmctl query -all, or h2kvmctl watch -all", o.NoTerminal())
			}
			err := tui.Watch(ctx, o)
			if hint != nil && errors.Is(err, client.ErrUnavailable) {
				err = fmt.Errorf("%w; %w", err, hint)
			}
			return told(err)
		}),
	}
}

// interactive is the root command without a subcommand.
func (a *app) interactive(ctx context.Context, cmd *cli.Command) error {
	o := a.tuiOptions(cmd)
	if cmd.Bool("json") || !o.Interactive() {
		return cliargs.Usage("%w; try hyper2kvm list, and hyper2kvm export -vm PATH -output DIR%s", o.NoTerminal(), instead(o))
	}
	return told(tui.Run(ctx, o))
}

// instead is what one runs where there is a daemon.
func instead(o tui.Options) string {
	if o.Daemon == "" {
		return ""
	}
	return fmt.Sprintf(", or h2kvmctl -daemon %s submit -vm PATH -output DIR", outcome.Quote(o.Daemon))
}

func (a *app) tuiOptions(cmd *cli.Command) tui.Options {
	o := tui.Options{
		Printer: a.Printer, In: os.Stdin, Getenv: a.getenv, Version: version.String(),
		Thumbprint: cmd.String("thumbprint"), Profile: cmd.String("profile"),
		Daemon: cmd.String("daemon"), VCenter: cmd.String("vcenter"),
		DaemonClient: daemonflags.Options(cmd, a.getenv, "hyper2kvm/"+version.String()),
	}
	o.Detach = func() string {
		url, _ := daemonflags.Local(cmd, client.DefaultSocket) // why a socket is of no use, its user will see
		return url
	}
	if !a.ErrTTY {
		o.Log = a.logger() // on the terminal it would write over the screen
	}
	return o
}

// told marks the errors that the screens have told already.
func told(err error) error {
	var outcome *tui.OutcomeError
	if errors.As(err, &outcome) {
		return toldError{err}
	}
	return err
}
