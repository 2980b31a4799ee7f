package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

func (a *app) rollbackCommand() *cli.Command {
	return &cli.Command{
		Name: "rollback", Usage: "go back to the sources of jobs that have ended",
		ArgsUsage: "JOB…",
		Description: `For each of them a job is queued that stops the guest which was landed at libvirt (the
guest is asked to shut down, and switched off when that takes too long), undoes what
-finish has changed at the source, and powers the source on if it ran before. While
the guest runs, or libvirt cannot be asked, that job fails and the source stays off.`,
		Flags: []cli.Flag{
			idFlag(),
			&cli.StringFlag{Name: "stop-timeout", Usage: "how long a guest may take to shut down before it is switched off, as `10m` (5m)"},
			&cli.BoolFlag{Name: "target-is-stopped", Usage: "do not ask libvirt: you know that what was made of the VMs is off. If it runs, two machines have the same addresses and names"},
			&cli.BoolFlag{Name: "yes", Usage: "do not ask"},
			&cli.BoolFlag{Name: "watch", Usage: "follow the jobs until they have ended"},
		},
		Action: a.with(a.rollback),
	}
}

func (a *app) rollback(ctx context.Context, cmd *cli.Command, c *client.Client) error {
	all, err := ids(ctx, cmd, c)
	if err != nil {
		return err
	}
	if !cmd.Bool("yes") {
		if err := a.sureToGoBack(len(all)); err != nil {
			return err
		}
	}
	how := models.Rollback{StopTimeout: cmd.String("stop-timeout"), TargetIsStopped: cmd.Bool("target-is-stopped")}
	queued := []models.Job{}
	var back []string
	var failed error
	for _, id := range all {
		j, err := c.Rollback(ctx, id, how)
		if err != nil {
			if len(all) == 1 {
				return err
			}
			a.Error("%s: %s", display.SafeText(id), display.SafeText(err.Error()))
			failed = toldError{fmt.Errorf("not all ways back were queued: %w", err)}
			continue
		}
		queued, back = append(queued, j), append(back, j.Definition.ID)
	}
	if err := a.printRollbacks(queued); err != nil {
		return err
	}
	if cmd.Bool("watch") && len(back) > 0 {
		if err := a.watchJobs(ctx, c, back); err != nil {
			return err
		}
	}
	return failed
}

// printRollbacks says which jobs go back.
func (a *app) printRollbacks(queued []models.Job) error {
	if a.JSON {
		return a.PrintJSON(queued)
	}
	for _, j := range queued {
		a.Info("- Job ID: %s (%s, %s)", display.SafeText(j.Definition.ID), display.SafeText(j.Definition.VMPath), j.Status)
	}
	if len(queued) > 0 {
		a.Success("Going back from %d job(s)", len(queued))
	}
	return nil
}

// sureToGoBack asks whether to go back from n jobs.
func (a *app) sureToGoBack(n int) error {
	if a.JSON || !terminal.IsTerminal(a.Out) {
		return cliargs.Usage("what was landed of %d job(s) is stopped, and the sources are powered on: give -yes", n)
	}
	fmt.Fprintf(a.Out, "Stop what was landed of %d job(s), and go back to the sources? [y/N] ", n)
	line, _ := bufio.NewReader(a.in).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return errors.New("nothing was done")
	}
	return nil
}
