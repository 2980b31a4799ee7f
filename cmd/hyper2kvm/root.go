package main

import (
	"cmp"
	"context"
	"io"
	"os"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
	"github.com/hyper2kvm/hyper2kvm/internal/version"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/tui/profile"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// app is what the commands share.
type app struct {
	*terminal.Printer
	getenv func(string) string
	in     io.Reader
	pinned string // thumbprint of the vCenter of an earlier run, where none is given
}

// newRoot returns the command line. Flags take one or two dashes and stand
// before or after the subcommand. args are the words of the command line, for the
// completion.
func newRoot(p *terminal.Printer, getenv func(string) string, args []string) *cli.Command {
	a := &app{Printer: p, getenv: getenv, in: os.Stdin}
	root := &cli.Command{
		Name:    "hyper2kvm",
		Usage:   "get virtual machines out of vSphere and ready for KVM",
		Version: version.Line(),
		Description: `The vCenter or ESXi host and the credentials come from the environment, as
govc reads it: GOVC_URL, GOVC_USERNAME, GOVC_PASSWORD, GOVC_INSECURE,
GOVC_DATACENTER, GOVC_TLS_CA_CERTS, GOVC_TLS_KNOWN_HOSTS. With -profile NAME it is
a vCenter that the interactive program has remembered, and GOVC_PASSWORD.
HYPER2KVM_FORMAT is the format that VMs become where no other is asked for.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no connection to the vCenter,
4 no such VM or it cannot be exported as it is, 5 verification failed,
6 of several VMs some failed and the others are done, 130 interrupted.`,
		Flags: append(interactiveFlags(),
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
			&cli.StringFlag{Name: "thumbprint", Usage: "accept only the vCenter certificate with this SHA-1 or SHA-256 `PRINT`"},
		),
		Commands: []*cli.Command{
			a.listCommand(), a.checkCommand(), a.exportCommand(), a.convertCommand(), a.runCommand(), a.resumeCommand(), a.cleanCommand(), a.landCommand(), a.rollbackCommand(), a.probeCommand(), a.watchCommand(), cliargs.Version(),
		},
		Writer:    p.Out,
		ErrWriter: p.Err,
		Action:    a.interactive,
	}
	cliargs.Finish(root)
	for _, c := range append([]*cli.Command{root}, root.Commands...) {
		c.ShellComplete = a.completeValues(args[:max(len(args)-1, 0)])
	}
	return root
}

// config reads the environment and the flags that all commands share.
func (a *app) config(cmd *cli.Command) (vsphere.Config, error) {
	a.JSON = cmd.Bool("json")
	cfg, err := a.endpoint(cmd)
	if err != nil {
		return cfg, err
	}
	cfg.Thumbprint = cmp.Or(cmd.String("thumbprint"), cfg.Thumbprint, a.pinned)
	return cfg, nil
}

// endpoint is the vCenter of the environment, or the saved one that -profile names.
// A password is never saved: it comes from the environment.
func (a *app) endpoint(cmd *cli.Command) (vsphere.Config, error) {
	if cmd.String("profile") == "" {
		cfg, err := vsphere.ConfigFromEnv(a.getenv)
		if err != nil {
			return cfg, cliargs.UsageError{Err: err}
		}
		return cfg, nil
	}
	p, _, err := a.profile(cmd)
	if err != nil {
		return vsphere.Config{}, err
	}
	saved, err := p.Config()
	if err != nil {
		return saved, cliargs.UsageError{Err: err}
	}
	cfg, err := vsphere.ConfigFromEnv(func(name string) string {
		switch name {
		case "GOVC_URL":
			return saved.URL.String()
		case "GOVC_USERNAME":
			return cmp.Or(a.getenv(name), saved.Username)
		}
		return a.getenv(name)
	})
	if err != nil {
		return cfg, cliargs.UsageError{Err: err}
	}
	if cfg.Password == "" {
		return cfg, cliargs.Usage("the password of %s is not known: it is not saved with profile %q; set GOVC_PASSWORD", cfg.Username, p.Name)
	}
	cfg.Thumbprint = saved.Thumbprint
	return cfg, nil
}

// profile is the saved vCenter that -profile names, or else the one at the address
// of the environment, if there is one.
func (a *app) profile(cmd *cli.Command) (p profile.Profile, ok bool, err error) {
	name := cmd.String("profile")
	store, err := profile.Open("")
	switch {
	case err != nil && name == "":
		return p, false, nil // without a home, as under cron, nothing is saved
	case err != nil:
		return p, false, err
	case name != "":
		if p, err = store.Named(name); err != nil {
			return p, false, cliargs.UsageError{Err: err}
		}
		return p, true, nil
	}
	u, err := vsphere.ParseURL(a.getenv("GOVC_URL"))
	if err != nil {
		return p, false, nil //nolint:nilerr // whoever connects says so
	}
	return store.ForHost(u.Host)
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
