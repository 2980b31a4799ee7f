// Package jobflags reads the options of a job from the flags of a command. Which of
// the flags a command has, with what defaults and help, is the command's own.
package jobflags

import (
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// Kit is the flag that names the platforms of a landing kit.
func Kit() cli.Flag {
	return &cli.StringFlag{Name: "for", Usage: "`PLATFORMS` to write a landing kit for, beside the images: " +
		strings.Join(job.Targets[:], ", ") + ", with commas in between"}
}

// Landing are the flags that say what becomes of the images at libvirt.
func Landing() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "libvirt", Usage: "land the finished images at the libvirt with this `URI`: " + job.LibvirtURIs},
		&cli.StringFlag{Name: "pool", Usage: "with -libvirt: storage `POOL` for the images; without it they stay in the output directory"},
		&cli.BoolFlag{Name: "define", Usage: "with -libvirt: define the domain; each port group needs a network, or -network-map '*=NETWORK' for all others"},
		&cli.BoolFlag{Name: "start", Usage: "with -libvirt: define and start the domain, and wait until the guest answers"},
		&cli.StringFlag{Name: "on-collision", Usage: "with -libvirt: `what` to do when a name is taken: refuse (default), or suffix for -2, -3, … behind it"},
	}
}

// Options are what the flags say; a flag that the command has not counts as left out.
// The error is a [cliargs.UsageError] and names the flag.
func Options(cmd *cli.Command) (job.Options, error) {
	networks, err := job.ParseNetworkMap(strings.Join(cmd.StringSlice("network-map"), ","))
	if err != nil {
		return job.Options{}, cliargs.Usage("-network-map: %w", err)
	}
	return job.Options{
		ParallelDownloads: cmd.Int("parallel"),
		RemoveCDROM:       cmd.Bool("remove-cdrom"),
		Format:            job.Format(cmd.String("format")),
		Snapshot:          cmd.Bool("snapshot"),
		Shutdown:          cmd.Bool("shutdown"),
		ShutdownTimeout:   cmd.String("shutdown-timeout"),
		PowerOff:          cmd.Bool("power-off"),
		Finish:            cmd.String("finish"),
		Virtio:            cmd.Bool("virtio"),
		Convert:           cmd.Bool("convert"),
		KeepIP:            cmd.Bool("keep-ip"),
		Compress:          cmd.Bool("compress"),
		Verify:            job.Verify(cmd.String("verify")),
		Overwrite:         cmd.Bool("overwrite"),
		Retries:           cmd.Int("retries"),
		Transport:         job.Transport(cmd.String("transport")),
		Limit:             cmd.String("limit"),
		NetworkMap:        networks,
		For:               cmd.String("for"),
		Landing: job.Landing{
			Libvirt:     cmd.String("libvirt"),
			Pool:        cmd.String("pool"),
			Define:      cmd.Bool("define"),
			Start:       cmd.Bool("start"),
			OnCollision: job.OnCollision(cmd.String("on-collision")),
		},
	}, nil
}
