package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/tui/plan"
	"github.com/hyper2kvm/hyper2kvm/units"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// planFlags are the flags that say what an export would do; check has them too.
func planFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "vm", Usage: "the VM: inventory `PATH`, name, or UUID"},
		&cli.StringFlag{Name: "format", Value: string(job.FormatOVF), Usage: "`FORMAT` to land in: ovf, raw, or qcow2"},
		&cli.StringFlag{Name: "transport", Value: string(job.TransportNFC), Usage: "how disks are read: nfc, through the export lease; datastore, in ranges; auto chooses"},
		&cli.BoolFlag{Name: "snapshot", Usage: "export a running VM from a temporary snapshot"},
		&cli.BoolFlag{Name: "remove-cdrom", Usage: "take CD/DVD drives out of the VM first; put back if the export fails"},
		&cli.BoolFlag{Name: "overwrite", Usage: "replace what an earlier export left in the output directory"},
	}
}

func (a *app) exportCommand() *cli.Command {
	return &cli.Command{
		Name:  "export",
		Usage: "export one VM",
		Description: `What lands in DIR has its final name only once all of it is verified. After a
failure, run the same command again: verified disks are not fetched twice.`,
		Flags: append(planFlags(),
			&cli.StringFlag{Name: "output", Usage: "`DIR` to put the files in; made when it is not there"},
			&cli.IntFlag{Name: "parallel", Value: job.DefaultParallelDownloads, Usage: "transfers at a time, 1 to 64", Sources: cli.EnvVars("DOWNLOAD_WORKERS")},
			&cli.BoolFlag{Name: "virtio", Usage: "put disks and NICs on virtio in the libvirt domain; the guest needs the drivers"},
			&cli.BoolFlag{Name: "compress", Usage: "write compressed qcow2 clusters"},
			&cli.StringFlag{Name: "verify", Usage: "`how`: full inflates every grain also where that is not needed to write it, and reads a datastore twice; manifest takes nothing but vSphere's manifest for a proof"},
			&cli.StringFlag{Name: "limit", Usage: "bandwidth `RATE`, such as 200MB/s"},
		),
		Action: cliargs.NoArgs(a.export),
	}
}

// definition makes a job of the flags.
func definition(cmd *cli.Command) (job.Definition, error) {
	def := job.Definition{
		VMPath:     cmd.String("vm"),
		OutputPath: cmd.String("output"),
		Options: job.Options{
			ParallelDownloads: cmd.Int("parallel"),
			RemoveCDROM:       cmd.Bool("remove-cdrom"),
			Format:            job.Format(cmd.String("format")),
			Snapshot:          cmd.Bool("snapshot"),
			Virtio:            cmd.Bool("virtio"),
			Compress:          cmd.Bool("compress"),
			Verify:            job.Verify(cmd.String("verify")),
			Overwrite:         cmd.Bool("overwrite"),
			Transport:         job.Transport(cmd.String("transport")),
			Limit:             cmd.String("limit"),
		},
	}
	if def.VMPath == "" {
		return def, cliargs.UsageError{Err: errNoVM}
	}
	if err := validate(def); err != nil {
		return def, cliargs.UsageError{Err: err}
	}
	return def, nil
}

// validate applies the rules of job files, in the words of the flags.
func validate(def job.Definition) error {
	abs, err := filepath.Abs(def.OutputPath)
	if err != nil {
		return err
	}
	def.OutputPath = abs
	if err := def.WithDefaults().Validate(); err != nil {
		words := strings.NewReplacer("options.parallel_downloads", "-parallel", "options.", "-", "vm_path", "-vm", "output_path", "-output")
		return errors.New(words.Replace(err.Error()))
	}
	return nil
}

// dialOutage is how long an export waits for a vCenter that does not answer at
// its beginning. A script started it, or a person who sees what it waits for.
const dialOutage = 20 * time.Second

// migrator returns a Migrator whose every job is for the vCenter of the
// environment.
func (a *app) migrator(cmd *cli.Command) (*migrate.Migrator, error) {
	cfg, err := a.config(cmd)
	if err != nil {
		return nil, err
	}
	cfg.DialOutage = dialOutage
	m := &migrate.Migrator{
		Endpoint: func(job.Definition) (vsphere.Config, error) { return cfg, nil },
		Limits:   &migrate.Limits{},
		Log:      a.logger(),
	}
	return m, nil
}

// logger writes what LOG_LEVEL asks for to the error output; without it,
// nothing: the display shows what people need.
func (a *app) logger() *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.getenv("LOG_LEVEL"))); err != nil {
		return nil
	}
	return slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: level}))
}

func (a *app) export(ctx context.Context, cmd *cli.Command) error {
	def, err := definition(cmd)
	if err != nil {
		return err
	}
	if def.OutputPath == "" {
		return cliargs.Usage("where to? give -output with a directory")
	}
	m, err := a.migrator(cmd)
	if err != nil {
		return err
	}
	result, err := a.watch(ctx, m, def)
	if err != nil {
		return err
	}
	if !a.JSON {
		a.summary(result)
	}
	return nil
}

// watch runs the export and shows its progress.
func (a *app) watch(ctx context.Context, m *migrate.Migrator, def job.Definition) (job.Result, error) {
	t := progress.New()
	mode := display.Auto
	if a.JSON {
		mode = display.JSON
	}
	d := display.New(a.Out, mode, display.Options{Getenv: a.getenv})
	stop := display.Start(context.WithoutCancel(ctx), d, t) // shows the cleaning up, too
	result, err := m.Run(ctx, def, t)
	if shown := stop(); err == nil {
		err = shown
	}
	if !a.JSON {
		return result, err
	}
	if err != nil {
		return result, toldError{errors.Join(err, d.Error(err, migrate.Hint(err)))}
	}
	return result, d.Result("", result)
}

// summary tells what landed where.
func (a *app) summary(r job.Result) {
	for _, d := range r.Disks {
		a.Info("%s: %s, %s", display.SafeText(d.File), units.Bytes(d.Capacity), plan.Verified(d))
	}
	a.Success("%s: %d file(s), %s in %s, in %s", display.SafeText(r.VMName), len(r.Files),
		units.Bytes(r.TotalSize), display.SafeText(r.OutputDir), display.Duration(r.Duration))
	if next := plan.NextStep(r); next != "" {
		fmt.Fprintln(a.Out, next)
	}
}
