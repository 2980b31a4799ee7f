package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/daemonflags"
	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
	"github.com/hyper2kvm/hyper2kvm/internal/version"
)

// app is what the commands share.
type app struct {
	*terminal.Printer
	in     io.Reader
	socket string // of this machine's daemon
}

// newRoot returns the command line. Flags take one or two dashes and stand
// before or after the subcommand.
func newRoot(p *terminal.Printer, in io.Reader) *cli.Command {
	a := &app{Printer: p, in: in, socket: client.DefaultSocket}
	return a.root()
}

// root returns the command line of a.
func (a *app) root() *cli.Command {
	root := &cli.Command{
		Name:    "h2kvmctl",
		Usage:   "drive a hyper2kvmd",
		Version: version.Line(),
		Description: `Exit codes: 0 done, 1 failed (also when a watched job did), 2 wrong usage,
3 daemon unreachable or not able to serve, 4 no such job or request refused, 130 interrupted.`,
		Flags: append(daemonflags.Flags("`URL` of the daemon: http://…, https://…, or unix:///PATH; "+
			"if left out, "+client.DefaultSocket+" where it is there, and else "+client.DefaultURL),
			&cli.BoolFlag{Name: "json", Usage: "print the API's JSON"},
		),
		Commands: []*cli.Command{
			a.statusCommand(), a.submitCommand(), a.queryCommand(), a.cancelCommand(),
			a.watchCommand(), a.logsCommand(), a.retryCommand(), a.rollbackCommand(), a.resumeCommand(), a.deleteCommand(),
			a.limitCommand(), a.vmsCommand(), a.checkCommand(), a.daemonsCommand(), a.drainCommand(), cliargs.Version(),
		},
		Writer:    a.Out,
		ErrWriter: a.Err,
		Action: func(_ context.Context, cmd *cli.Command) error {
			_ = cli.ShowRootCommandHelp(cmd)
			return toldError{cliargs.Usage("no command given")}
		},
	}
	cliargs.Finish(root)
	return root
}

// action is a command's work once its daemon is known.
type action func(ctx context.Context, cmd *cli.Command, c *client.Client) error

// with makes a cli action of f.
func (a *app) with(f action) cli.ActionFunc {
	return func(ctx context.Context, cmd *cli.Command) error {
		url, hint := daemonflags.Local(cmd, a.socket)
		c, err := client.New(url, daemonflags.Options(cmd, os.Getenv, "h2kvmctl/"+version.String()))
		if err != nil {
			return cliargs.UsageError{Err: err}
		}
		defer c.Close()
		a.JSON = cmd.Bool("json")
		err = f(ctx, cmd, c)
		if hint != nil && (errors.Is(err, client.ErrUnavailable) || errors.Is(err, client.ErrForbidden)) {
			return fmt.Errorf("%w; %w", err, hint)
		}
		return err
	}
}

func idFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "id", Usage: "job `ID`s, separated by commas; the beginning of one is enough"}
}

// ids collects the job ids of -id and of the arguments, resolved to full ones.
func ids(ctx context.Context, cmd *cli.Command, c *client.Client) ([]string, error) {
	given := splitIDs(append(cmd.StringSlice("id"), cmd.Args().Slice()...))
	if len(given) == 0 {
		return nil, cliargs.Usage("%s needs -id ID[,ID]", cmd.FullName())
	}
	return resolve(ctx, c, given)
}
