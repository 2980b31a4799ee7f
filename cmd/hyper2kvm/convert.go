package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/convert"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/jobflags"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

func (a *app) convertCommand() *cli.Command {
	return &cli.Command{
		Name:      "convert",
		Usage:     "make images of an OVA, an OVF or a VMDK that is here already",
		ArgsUsage: "FILE",
		Description: `FILE is an OVA, an OVF descriptor with its disks beside it, or a single VMDK:
stream-optimized, sparse or flat, whole or in pieces. The manifest is verified where
there is one. A package becomes images and a libvirt domain, a VMDK an image. In place
of FILE, nbd+unix:///EXPORT?socket=PATH or nbd://localhost:PORT/EXPORT is a disk that an
NBD server has, such as qemu-nbd, which opens images of any kind.

What lands in DIR has its final name only once all of it is verified. After a
failure, run the same command again: finished disks are kept. No vCenter is needed.
With -convert and -keep-ip the guest inside the images is changed, when all of them are
whole, as after an export; what fails leaves the images as they were. With -libvirt the
images and the domain are landed there afterwards.`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "format", Value: string(job.FormatQcow2), Usage: "`FORMAT` to land in: qcow2 or raw"},
			&cli.StringFlag{Name: "output", Value: ".", Usage: "`DIR` to put the files in; made when it is not there"},
			&cli.BoolFlag{Name: "compress", Usage: "write compressed qcow2 clusters"},
			&cli.BoolFlag{Name: "virtio", Usage: "put disks and NICs on virtio in the libvirt domain; the guest needs the drivers"},
			&cli.StringSliceFlag{Name: "network-map", Usage: "`NETWORK=NETWORK,…`: the libvirt network, or bridge:NAME, for cards on a network of the OVF; may be repeated"},
			jobflags.Kit(),
			&cli.BoolFlag{Name: "convert", Usage: "make the guest ready for KVM by virt-v2v: virtio drivers, boot loader; its disks and cards are on virtio then"},
			virtioWinFlag(),
			&cli.BoolFlag{Name: "keep-ip", Usage: "have the guest keep the addresses that NAME.network.json beside FILE has, on its new cards"},
			&cli.BoolFlag{Name: "overwrite", Usage: "replace what an earlier run left in the output directory"},
		}, jobflags.Landing()...),
		DisableSliceFlagSeparator: true,
		Action:                    a.convert,
	}
}

func (a *app) convert(ctx context.Context, cmd *cli.Command) error {
	a.JSON = cmd.Bool("json")
	o, landing, err := convertOptions(cmd)
	if err != nil {
		return err
	}
	m := &migrate.Migrator{Log: a.logger()}
	if m.V2V, m.Fish, err = a.inside(cmd); err != nil {
		return err
	}
	o.Migrator = m
	result, err := a.watch(ctx, o.Source, func(t *progress.Tracker) (job.Result, error) {
		result, err := convert.Run(ctx, o, t)
		if err == nil && landing.Libvirt != "" {
			result, err = landConverted(ctx, o, landing, result, t)
		}
		return result, err
	})
	if err != nil {
		return a.interrupted(err, "the same command goes on from there")
	}
	if !a.JSON {
		a.summary(result)
	}
	return nil
}

// landConverted lands what was converted. Its cards are on the networks of the network map
// already.
func landConverted(ctx context.Context, o convert.Options, l job.Landing, result job.Result, t *progress.Tracker) (job.Result, error) {
	m := o.Migrator
	found, err := m.Exports(o.Output, o.Source)
	if err != nil {
		return result, err
	}
	if len(found) != 1 {
		return result, fmt.Errorf("%w of %s in %s", migrate.ErrNoExport, o.Source, o.Output)
	}
	def := job.Definition{VMPath: o.Source, OutputPath: o.Output, Options: job.Options{Format: o.Format, Landing: l}}
	landed, err := m.Land(ctx, def, found[0], t)
	landed.Earlier = landed.Earlier && result.Earlier
	return landed, err
}

// convertOptions are what the command line asks for.
func convertOptions(cmd *cli.Command) (o convert.Options, l job.Landing, err error) {
	if cmd.Args().Len() != 1 {
		return o, l, cliargs.Usage("which file? %s FILE, an OVA, an OVF descriptor or a VMDK", cmd.FullName())
	}
	options, err := jobflags.Options(cmd)
	if err != nil {
		return o, l, err
	}
	if options.Format != job.FormatQcow2 && options.Format != job.FormatRaw {
		return o, l, cliargs.Usage("-format: must be %s or %s", job.FormatQcow2, job.FormatRaw)
	}
	o = convert.Options{
		Format: options.Format, Compress: options.Compress, Virtio: options.Virtio, NetworkMap: options.NetworkMap, Overwrite: options.Overwrite,
		For: options.For, Convert: options.Convert, KeepIP: options.KeepIP,
	}
	options.ParallelDownloads = job.DefaultParallelDownloads
	if err := validate(job.Definition{VMPath: cmd.Args().First(), Options: options}); err != nil {
		return o, l, err
	}
	if o.Source = cmd.Args().First(); !convert.IsExport(o.Source) {
		if o.Source, err = local(o.Source); err != nil {
			return o, l, err
		}
	}
	if o.Output, err = outputOf(cmd); err != nil {
		return o, l, err
	}
	if o.Output == "" {
		return o, l, cliargs.Usage("-output: give a directory")
	}
	return o, options.Landing, nil
}
