package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/jobflags"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

func (a *app) landCommand() *cli.Command {
	return &cli.Command{
		Name:  "land",
		Usage: "land an export that is here already at libvirt, without a vCenter",
		Description: `DIR is what an export, or convert, has left: images, the libvirt domain, and the
receipt NAME.export.json. It may have been moved here from another machine, as a whole.
What is in the way is said before anything is changed; a landing that fails, or dies, is
undone, and the files in DIR stay in any case. It may be run again.`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "output", Usage: "`DIR` of the export", Value: ".", HideDefault: true},
			&cli.StringFlag{Name: "vm", Usage: "which `VM`, where DIR has exports of several: its path, name, or UUID"},
			&cli.StringSliceFlag{Name: "network-map", Usage: "`NETWORK=NETWORK,…`: another libvirt network, or bridge:NAME, for cards on a network of the exported domain, *=NETWORK for all; may be repeated"},
		}, jobflags.Landing()...),
		DisableSliceFlagSeparator: true,
		Action:                    cliargs.NoArgs(a.land),
	}
}

func (a *app) land(ctx context.Context, cmd *cli.Command) error {
	a.JSON = cmd.Bool("json")
	dir, err := outputOf(cmd)
	if err != nil {
		return err
	}
	options, err := jobflags.Options(cmd)
	if err != nil {
		return err
	}
	if options.Libvirt == "" {
		return cliargs.Usage("-libvirt: say where: %s", job.LibvirtURIs)
	}
	m := &migrate.Migrator{Log: a.logger()}
	e, err := exportIn(m, dir, cmd.String("vm"))
	if err != nil {
		return err
	}
	def := job.Definition{VMPath: e.VM, OutputPath: dir, Options: job.Options{Landing: options.Landing, NetworkMap: options.NetworkMap, Format: job.FormatRaw}}
	if err := validate(def); err != nil {
		return err
	}
	result, err := a.watch(ctx, e.VM, func(t *progress.Tracker) (job.Result, error) { return m.Land(ctx, def, e, t) })
	if err != nil {
		return a.interrupted(err, "what was landed is undone, and the same command begins again")
	}
	if !a.JSON {
		a.landed(result)
	}
	return nil
}

// landed says what is at libvirt.
func (a *app) landed(r job.Result) {
	l := r.Landed
	switch {
	case l == nil: // which an older version has done
		a.Success("%s was landed earlier", display.SafeText(r.VMName))
	case l.Domain == "":
		a.Success("%s: %d image(s) are in the storage pool %s at %s", display.SafeText(r.VMName), len(l.Images), display.SafeText(l.Pool), display.SafeText(l.URI))
	default:
		a.Success("%s is the domain %s at %s", display.SafeText(r.VMName), display.SafeText(l.Domain), display.SafeText(l.URI))
	}
	a.next(r)
}
