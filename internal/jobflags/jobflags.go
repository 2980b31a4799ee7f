// Package jobflags reads the options of a job from the flags of a command. Which of
// the flags a command has, with what defaults and help, is the command's own.
package jobflags

import (
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/job"
)

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
		Virtio:            cmd.Bool("virtio"),
		Compress:          cmd.Bool("compress"),
		Verify:            job.Verify(cmd.String("verify")),
		Overwrite:         cmd.Bool("overwrite"),
		Retries:           cmd.Int("retries"),
		Transport:         job.Transport(cmd.String("transport")),
		Limit:             cmd.String("limit"),
		NetworkMap:        networks,
		For:               cmd.String("for"),
	}, nil
}
