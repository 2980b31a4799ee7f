package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/jobflags"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

// jobFlags are the flags that make a job, shared by submit and check.
func jobFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "file", Usage: "job `FILE`: one job, {jobs: […]}, or a list, as YAML or JSON; - is stdin"},
		&cli.StringFlag{Name: "vm", Usage: "inventory `PATH`, name or UUID of the VM"},
		&cli.StringFlag{Name: "output", Usage: "absolute `DIRECTORY` on the daemon's machine"},
		&cli.StringFlag{Name: "name", Usage: "`NAME` of the job; the VM's when left out"},
		&cli.StringFlag{Name: "vcenter", Usage: "`NAME` of a vCenter in the daemon's configuration"},
		jobflags.Kit(),
		&cli.StringFlag{Name: "format", Usage: "ovf (default), ova, raw or qcow2"},
		&cli.IntFlag{Name: "parallel", Usage: "`N` downloads at once, 1 to 64"},
		&cli.IntFlag{Name: "priority", Usage: "-100 to 100, higher runs first"},
		&cli.StringFlag{Name: "constraint", Usage: "`KEY=VALUE,…`: only daemons with these labels run the job, as site=dc1"},
		&cli.IntFlag{Name: "retries", Usage: "`N` attempts at the whole job after the first"},
		&cli.BoolFlag{Name: "remove-cdrom", Usage: "take CD/DVD drives out for the export"},
		&cli.BoolFlag{Name: "snapshot", Usage: "export a running VM from a temporary snapshot"},
		&cli.BoolFlag{Name: "shutdown", Usage: "shut the guest of a running VM down first, through VMware Tools; powered on again if the export fails"},
		&cli.StringFlag{Name: "shutdown-timeout", Usage: "`TIME` that the guest may take to shut down; 5m when left out"},
		&cli.BoolFlag{Name: "power-off", Usage: "power a running VM off as it runs: with -shutdown, when the guest does not shut down"},
		&cli.StringFlag{Name: "finish", Usage: "`WHAT` is done to the source once all has succeeded: nothing, or some of tag,rename,disconnect"},
		&cli.BoolFlag{Name: "virtio", Usage: "disks and NICs on virtio in the domain"},
		&cli.BoolFlag{Name: "convert", Usage: "make the guest ready for KVM, by virt-v2v at the daemon: drivers, boot loader; the domain is on virtio then"},
		&cli.BoolFlag{Name: "keep-ip", Usage: "have the guest keep its addresses, as VMware Tools report them, on its new cards"},
		&cli.BoolFlag{Name: "compress", Usage: "compressed qcow2"},
		&cli.StringFlag{Name: "transport", Usage: "how disks are read: nfc (default), datastore, nfc902, vddk (where the daemon has it) or auto"},
		&cli.StringFlag{Name: "limit", Usage: "bandwidth `RATE` of the job, such as 200MB/s"},
		&cli.StringSliceFlag{Name: "network-map", Usage: "`PORTGROUP=NETWORK,…`: the libvirt network, or bridge:NAME, for cards on a port group"},
		&cli.StringFlag{Name: "verify", Usage: "`how`: full checks every grain as well; manifest takes nothing but vSphere's manifest for a proof"},
	}, jobflags.Landing()...)
}

// jobFrom makes a job of the flags.
func jobFrom(cmd *cli.Command) (job.Definition, error) {
	o, err := jobflags.Options(cmd)
	if err != nil {
		return job.Definition{}, err
	}
	constraint, err := job.ParseLabels(cmd.String("constraint"))
	if err != nil {
		return job.Definition{}, cliargs.Usage("-constraint: %w", err)
	}
	return job.Definition{
		Name:       cmd.String("name"),
		VMPath:     cmd.String("vm"),
		OutputPath: cmd.String("output"),
		VCenter:    cmd.String("vcenter"),
		Priority:   cmd.Int("priority"),
		Constraint: constraint,
		Options:    o,
	}, nil
}

// jobSource checks that a job comes from a file or from flags, and not both.
func jobSource(cmd *cli.Command) error {
	file, vm := cmd.IsSet("file"), cmd.IsSet("vm")
	switch {
	case file && vm:
		return cliargs.Usage("-file and -vm exclude each other")
	case !file && !vm:
		return cliargs.Usage("%s needs -file FILE, or -vm PATH -output DIRECTORY", cmd.FullName())
	case vm && cmd.String("output") == "":
		return cliargs.Usage("-vm needs -output DIRECTORY")
	}
	if file {
		for _, f := range jobFlags()[1:] {
			if name := f.Names()[0]; cmd.IsSet(name) {
				return cliargs.Usage("-%s goes with -vm; with -file it stands in the file", name)
			}
		}
	}
	return nil
}

// readJobFile reads a job file, or stdin for "-", and says which media type
// its name stands for.
func (a *app) readJobFile(path string) (body io.Reader, contentType string, err error) {
	var b []byte
	if path == "-" {
		b, err = io.ReadAll(a.in)
	} else {
		b, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, "", fmt.Errorf("job file: %w", err)
	}
	switch strings.ToLower(filepath.Ext(path)) {
	case ".json":
		contentType = "application/json"
	case ".yaml", ".yml":
		contentType = "application/yaml"
	}
	return bytes.NewReader(b), contentType, nil
}

func (a *app) submitCommand() *cli.Command {
	return &cli.Command{
		Name: "submit", Usage: "submit jobs from a file, or one VM",
		DisableSliceFlagSeparator: true,
		Flags: append(jobFlags(),
			&cli.BoolFlag{Name: "atomic", Usage: "accept every job of the file or none"},
			&cli.BoolFlag{Name: "watch", Usage: "follow the jobs until they have ended"}),
		Action: cliargs.NoArgs(a.with(a.submit)),
	}
}

func (a *app) submit(ctx context.Context, cmd *cli.Command, c *client.Client) error {
	if err := jobSource(cmd); err != nil {
		return err
	}
	var (
		r   models.SubmitResult
		err error
	)
	if cmd.IsSet("file") {
		body, contentType, rerr := a.readJobFile(cmd.String("file"))
		if rerr != nil {
			return rerr
		}
		r, err = c.SubmitFile(ctx, body, contentType, cmd.Bool("atomic"))
	} else {
		def, ferr := jobFrom(cmd)
		if ferr != nil {
			return ferr
		}
		r, err = c.Submit(ctx, []job.Definition{def}, false)
	}
	if err != nil && !errors.Is(err, client.ErrRejected) {
		return err
	}
	if perr := a.printSubmit(r); perr != nil {
		return perr
	}
	if cmd.Bool("watch") {
		if werr := a.watchJobs(ctx, c, r.JobIDs); werr != nil {
			return werr
		}
	}
	return submitOutcome(r, err)
}

// printSubmit prints what became of the jobs.
func (a *app) printSubmit(r models.SubmitResult) error {
	if a.JSON {
		return a.PrintJSON(r)
	}
	if r.Accepted > 0 {
		a.Success("Accepted Jobs: %d", r.Accepted)
	}
	for _, id := range r.JobIDs {
		a.Info("- Job ID: %s", display.SafeText(id))
	}
	for _, e := range r.Errors {
		a.Error("%s", display.SafeText(e))
	}
	if r.Accepted > 0 {
		a.Success("Submitted %d job(s)", r.Accepted)
	}
	return nil
}

// submitOutcome fails when a job was refused. rejected is the error that says
// that none was accepted, or nil.
func submitOutcome(r models.SubmitResult, rejected error) error {
	switch {
	case rejected != nil && len(r.Errors) > 0:
		return toldError{rejected}
	case rejected != nil:
		return rejected
	case r.Rejected > 0:
		return toldError{fmt.Errorf("%d jobs: %w", r.Rejected, client.ErrRejected)}
	}
	return nil
}
