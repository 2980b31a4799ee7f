package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
	"github.com/hyper2kvm/hyper2kvm/internal/version"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// app is what the commands share.
type app struct {
	*terminal.Printer
	getenv func(string) string
}

// newRoot returns the command line. Flags take one or two dashes and stand
// before or after the subcommand.
func newRoot(p *terminal.Printer, getenv func(string) string) *cli.Command {
	a := &app{Printer: p, getenv: getenv}
	root := &cli.Command{
		Name:    "hyper2kvm",
		Usage:   "get virtual machines out of vSphere and ready for KVM",
		Version: version.Line(),
		Description: `The vCenter or ESXi host and the credentials come from the environment, as
govc reads it: GOVC_URL, GOVC_USERNAME, GOVC_PASSWORD, GOVC_INSECURE,
GOVC_DATACENTER, GOVC_TLS_CA_CERTS, GOVC_TLS_KNOWN_HOSTS.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no connection to the vCenter,
4 no such VM or it cannot be exported as it is, 5 verification failed,
130 interrupted.`,
		Flags: append(interactiveFlags(),
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
			&cli.StringFlag{Name: "thumbprint", Usage: "accept only the vCenter certificate with this SHA-1 or SHA-256 `PRINT`"},
		),
		Commands:  []*cli.Command{a.listCommand(), a.checkCommand(), a.exportCommand(), a.cleanCommand(), a.watchCommand()},
		Writer:    p.Out,
		ErrWriter: p.Err,
		Action:    a.interactive,
	}
	cliargs.Finish(root)
	return root
}

// config reads the environment and the flags that all commands share.
func (a *app) config(cmd *cli.Command) (vsphere.Config, error) {
	a.JSON = cmd.Bool("json")
	cfg, err := vsphere.ConfigFromEnv(a.getenv)
	if err != nil {
		return cfg, cliargs.UsageError{Err: err}
	}
	if t := cmd.String("thumbprint"); t != "" {
		cfg.Thumbprint = t
	}
	return cfg, nil
}

// dial connects for a command that needs one session.
func (a *app) dial(ctx context.Context, cmd *cli.Command) (*vsphere.Client, error) {
	cfg, err := a.config(cmd)
	if err != nil {
		return nil, err
	}
	return vsphere.Dial(ctx, cfg)
}

// session is what [vsphere.Client] is while it is logged in.
type session interface {
	Close(ctx context.Context) error
}

// hangUp logs out, also when ctx has ended, and says so when that fails: the
// session then stays until vCenter ends it (F-INV-2).
func (a *app) hangUp(ctx context.Context, c session) {
	if err := c.Close(context.WithoutCancel(ctx)); err != nil {
		a.Warning("log out: %s", display.SafeText(err.Error()))
	}
}
