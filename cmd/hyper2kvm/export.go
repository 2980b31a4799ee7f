package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/version"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/job/outcome"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/report"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
	"github.com/hyper2kvm/hyper2kvm/units"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

func (a *app) exportCommand() *cli.Command {
	return &cli.Command{
		Name:  "export",
		Usage: "export VMs",
		Description: `What lands in DIR has its final name only once all of it is verified. After a
failure, run the same command again: verified disks are not fetched twice.

Several VMs each get a directory of their own in DIR, and a report at the end;
hyper2kvm resume goes on with those that are not done. Ctrl-C stops in good order.`,
		Flags:                     append(append(vmFlags(), parallelVMs(), reportFlag(), vddkFlag(), virtioWinFlag()), optionFlags()...),
		DisableSliceFlagSeparator: true,
		Action:                    cliargs.NoArgs(a.export),
	}
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
	tool, err := a.vddk(cmd)
	if err != nil {
		return nil, err
	}
	converter, fish, err := a.inside(cmd)
	if err != nil {
		return nil, err
	}
	m := &migrate.Migrator{
		Endpoint: func(job.Definition) (vsphere.Config, error) { return cfg, nil },
		Limits:   &migrate.Limits{},
		Log:      a.logger(),
		VDDK:     tool,
		V2V:      converter,
		Fish:     fish,

		AcceptFinished: true,
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
	q, err := a.asked(cmd)
	if err != nil {
		return err
	}
	if !q.one(cmd) {
		if err := fileOnly(cmd, q); err != nil {
			return err
		}
		return a.exportFleet(ctx, cmd, q, "")
	}
	write, err := reportWriter(cmd.String("report"))
	if err != nil {
		return err
	}
	def, err := a.definition(cmd, q.refs[0])
	if err != nil {
		return err
	}
	if def.OutputPath == "" {
		return cliargs.UsageError{Err: errNoOutput}
	}
	m, err := a.migrator(cmd)
	if err != nil {
		return err
	}
	started := time.Now()
	result, err := a.watch(ctx, def.WithDefaults().Name, func(t *progress.Tracker) (job.Result, error) { return m.Run(ctx, def, t) })
	if err := write(report.NewRun(version.String(), started, time.Now(), []runs.Status{single(def, started, result, err)})); err != nil {
		a.Error("%s", display.SafeText(err.Error()))
	}
	if err != nil {
		return err
	}
	if !a.JSON {
		a.summary(result)
	}
	return nil
}

// single is what became of one VM, for the closing report.
func single(def job.Definition, started time.Time, result job.Result, err error) runs.Status {
	def = def.WithDefaults()
	s := runs.Status{Spec: runs.Spec{Name: def.Name, Def: def}, Started: started, Ended: time.Now(), State: runs.Done, Result: result, Err: err}
	switch {
	case errors.Is(err, context.Canceled):
		s.State = runs.Cancelled
	case err != nil && !result.Success:
		s.State = runs.Failed
	}
	return s
}

// watch shows the progress of what run does to the VM, or file, with that name. With -json
// the end is told, too, and an error is one that was.
func (a *app) watch(ctx context.Context, name string, run func(*progress.Tracker) (job.Result, error)) (job.Result, error) {
	t := progress.New()
	mode := display.Auto
	if a.JSON {
		mode = display.JSON
	}
	d := display.New(a.Out, mode, display.Options{Getenv: a.getenv, Stamp: true, Name: name})
	stop := display.Start(context.WithoutCancel(ctx), d, t) // shows the cleaning up, too
	result, err := run(t)
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

// interrupted says what to do after err, if that is that a person has interrupted, and
// returns what is left to be told.
func (a *app) interrupted(err error, what string) error {
	if a.JSON || !errors.Is(err, context.Canceled) {
		return err
	}
	a.Error("interrupted; %s", what)
	return toldError{err}
}

// summary tells what landed where.
func (a *app) summary(r job.Result) {
	if r.Earlier {
		a.Success("%s: exported by an earlier run, %d file(s), %s in %s; -overwrite exports it again", display.SafeText(r.VMName), len(r.Files),
			units.Bytes(r.TotalSize), display.SafeText(r.OutputDir))
		a.next(r)
		return
	}
	for _, d := range r.Disks {
		a.Info("%s: %s, %s", display.SafeText(d.File), units.Bytes(d.Capacity), outcome.Verified(d))
	}
	a.Success("%s: %d file(s), %s in %s, in %s", display.SafeText(r.VMName), len(r.Files),
		units.Bytes(r.TotalSize), display.SafeText(r.OutputDir), display.Duration(r.Duration))
	a.next(r)
}

// next says what one does with a finished export.
func (a *app) next(r job.Result) {
	if next := outcome.NextStep(r); next != "" {
		fmt.Fprintln(a.Out, next)
	}
}
