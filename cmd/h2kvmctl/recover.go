package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

func (a *app) retryCommand() *cli.Command {
	return &cli.Command{
		Name: "retry", Usage: "queue failed or cancelled jobs again; they go on from what is on disk",
		Flags: []cli.Flag{
			idFlag(),
			&cli.StringSliceFlag{Name: "status", Usage: "every job in one of these `STATUS`es: failed, cancelled"},
			&cli.BoolFlag{Name: "all-failed", Usage: "every job that failed; the same as -status failed"},
			&cli.BoolFlag{Name: "watch", Usage: "follow the jobs until they have ended"},
		},
		Action: a.with(a.retry),
	}
}

func (a *app) retry(ctx context.Context, cmd *cli.Command, c *client.Client) error {
	var r models.Retry
	for _, s := range cmd.StringSlice("status") {
		r.Status = append(r.Status, models.Status(strings.TrimSpace(s)))
	}
	if cmd.Bool("all-failed") {
		r.Status = append(r.Status, models.StatusFailed)
	}
	named := cmd.IsSet("id") || cmd.Args().Present()
	switch {
	case named && len(r.Status) > 0:
		return cliargs.Usage("give either ids, or -status or -all-failed")
	case !named && len(r.Status) == 0:
		return cliargs.Usage("%s needs -id ID[,ID], -status failed,cancelled or -all-failed", cmd.FullName())
	case named:
		var err error
		if r.JobIDs, err = ids(ctx, cmd, c); err != nil {
			return err
		}
	}
	out, err := c.RetryAll(ctx, r)
	if err != nil {
		return err
	}
	if err := a.printRetried(ctx, c, out, named); err != nil {
		return err
	}
	if cmd.Bool("watch") {
		if err := a.watchJobs(ctx, c, out.Retried); err != nil {
			return err
		}
	}
	if len(out.Failed) > 0 {
		return toldError{fmt.Errorf("%d jobs were not queued again: %w", len(out.Failed), client.ErrRejected)}
	}
	return nil
}

// printRetried says what became of jobs. As JSON, those that were named are
// printed as jobs.
func (a *app) printRetried(ctx context.Context, c *client.Client, r models.RetryResult, named bool) error {
	if a.JSON && !named {
		return a.PrintJSON(r)
	}
	for _, id := range r.Failed {
		a.Error("%s: %s", display.SafeText(id), display.SafeText(r.Errors[id]))
	}
	switch {
	case a.JSON:
		queued := []models.Job{}
		if len(r.Retried) > 0 {
			q, err := c.Query(ctx, models.Query{JobIDs: r.Retried})
			if err != nil {
				return err
			}
			queued = q.Jobs
		}
		return a.PrintJSON(queued)
	case len(r.Retried) > 0:
		a.Success("Queued %d job(s) again", len(r.Retried))
	case !named && len(r.Failed) == 0:
		a.Info("No jobs found")
	}
	return nil
}

func (a *app) resumeCommand() *cli.Command {
	return &cli.Command{
		Name: "resume", Usage: "try a vCenter again that jobs wait for, also when it refused the login",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "vcenter", Usage: "`NAME` as status shows it", Required: true},
		},
		Action: cliargs.NoArgs(a.with(a.resume)),
	}
}

func (a *app) resume(ctx context.Context, cmd *cli.Command, c *client.Client) error {
	r, err := c.Resume(ctx, cmd.String("vcenter"))
	if err != nil {
		return err
	}
	if a.JSON {
		return a.PrintJSON(r)
	}
	a.Success("vCenter %s is tried again", display.SafeText(r.Name))
	return nil
}

// printVCenters says which vCenters jobs wait for.
func (a *app) printVCenters(all []models.VCenter) {
	for _, v := range all {
		name := display.SafeText(v.Name)
		a.Warning("%d job(s) wait for vCenter %s since %s (%s): %s", v.Waiting, name, v.Since.Local().Format(timeLayout),
			display.SafeText(strings.ReplaceAll(v.State, "_", " ")), display.SafeText(v.Reason))
		if v.State == loginRefused {
			a.Info("Correct its password, or try the same again with h2kvmctl resume -vcenter %s", name)
		} else {
			a.Info("It is tried again at %s", v.NextProbe.Local().Format(time.TimeOnly))
		}
	}
}

// loginRefused is the state of a vCenter that waits for a person.
const loginRefused = "login_refused"
