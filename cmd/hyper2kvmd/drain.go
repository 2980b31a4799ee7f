package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
)

// drainCommand has this machine's daemon run no more jobs.
func drainCommand(p *terminal.Printer, getenv func(string) string) *cli.Command {
	return &cli.Command{
		Name: "drain", Usage: "have the daemon run no more jobs, before its machine is taken away",
		Description: `What it runs is handed back, and another daemon on the same store goes on with it at
once; it claims nothing from then on, also after a restart, until -resume. Its API goes on.
The command returns when the daemon runs no job any more. h2kvmctl drain does the same for
any daemon.`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "wait", Usage: "let the jobs end that it runs"},
			&cli.BoolFlag{Name: "resume", Usage: "have it run jobs again"},
		},
		Action: cliargs.NoArgs(func(ctx context.Context, cmd *cli.Command) error { return drain(ctx, cmd, p, getenv) }),
	}
}

func drain(ctx context.Context, cmd *cli.Command, p *terminal.Printer, getenv func(string) string) error {
	e, how := audit.Entry{Action: audit.DrainDaemon}, jobs.DrainNow
	switch {
	case cmd.Bool("wait") && cmd.Bool("resume"):
		return cliargs.Usage("-wait and -resume exclude each other")
	case cmd.Bool("wait"):
		how = jobs.DrainWait
	case cmd.Bool("resume"):
		e.Action, how = audit.ResumeDaemon, jobs.DrainNone
	}
	s, err := settingsFrom(cmd, getenv)
	if err != nil {
		return cliargs.UsageError{Err: err}
	}
	return beside(ctx, cmd, getenv, func(ctx context.Context, b besides) error {
		id, err := s.daemonID()
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("no daemon has ever started here: %w; -state-dir names another directory", err)
		}
		if err != nil {
			return err
		}
		e.Target, e.Value = id, string(how)
		change, err := b.log.Begin(ctx, e)
		if err != nil {
			return err
		}
		err = b.store.Members().Drain(ctx, id, how)
		if err = errors.Join(err, change.End(ctx, audit.Entry{Error: textOf(err)})); err != nil {
			return fmt.Errorf("daemon %s: %w", id, err)
		}
		if how == jobs.DrainNone {
			p.Success("Daemon %s runs jobs again", id)
			return nil
		}
		return awaitDrained(ctx, p, b.store.Members(), id)
	})
}

// drainPoll is between two looks whether the daemon is drained.
const drainPoll = 500 * time.Millisecond

// awaitDrained waits until the daemon runs nothing any more, and says how far it is.
func awaitDrained(ctx context.Context, p *terminal.Printer, daemons jobs.Daemons, id string) error {
	for told := -1; ; {
		all, err := daemons.Daemons(ctx)
		if err != nil {
			return err
		}
		var d jobs.Daemon
		for _, one := range all {
			if one.ID == id {
				d = one
			}
		}
		switch {
		case d.Drain == jobs.DrainNone:
			return fmt.Errorf("daemon %s is not drained: somebody has resumed it meanwhile", id)
		case !d.Alive:
			p.Success("Daemon %s is not running; when it starts, it claims no job until hyper2kvmd drain -resume", id)
			return nil
		case len(d.Jobs) == 0:
			p.Success("Daemon %s is drained; hyper2kvmd drain -resume has it run jobs again", id)
			return nil
		}
		if len(d.Jobs) != told {
			told = len(d.Jobs)
			p.Info("Daemon %s runs %d job(s)", id, told)
		}
		if err := sleep.For(ctx, drainPoll); err != nil {
			return err
		}
	}
}
