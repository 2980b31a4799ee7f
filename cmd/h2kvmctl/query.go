package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/api/wire"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

func (a *app) statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "show the daemon's version, uptime and job counts",
		Action: cliargs.NoArgs(a.with(a.status)),
	}
}

func (a *app) status(ctx context.Context, _ *cli.Command, c *client.Client) error {
	s, err := c.Status(ctx)
	if err != nil {
		return err
	}
	if a.JSON {
		return a.PrintJSON(s)
	}
	a.Heading("Daemon Status")
	if err := a.Table([][]string{
		{"Version", display.SafeText(s.Version)},
		{"Uptime", display.SafeText(s.Uptime)},
		{"Total Jobs", strconv.Itoa(s.TotalJobs)},
		{"Running", strconv.Itoa(s.RunningJobs)},
		{"Completed", strconv.Itoa(s.CompletedJobs)},
		{"Failed", strconv.Itoa(s.FailedJobs)},
		{"Cancelled", strconv.Itoa(s.CancelledJobs)},
		{"Pending", strconv.Itoa(s.PendingJobs)},
	}, false); err != nil {
		return err
	}
	a.Success("Daemon is running")
	return nil
}

func (a *app) queryCommand() *cli.Command {
	return &cli.Command{
		Name: "query", Usage: "list jobs, newest first",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Usage: "every job; this is the default"},
			idFlag(),
			&cli.StringSliceFlag{Name: "status", Usage: "jobs in one of these `STATUS`es: pending, running, completed, failed, cancelled"},
			&cli.IntFlag{Name: "limit", Usage: "at most `N` jobs; 0 is all of them"},
			&cli.StringFlag{Name: "cursor", Usage: "next_cursor of the page before"},
		},
		Action: a.with(a.query),
	}
}

func (a *app) query(ctx context.Context, cmd *cli.Command, c *client.Client) error {
	q := wire.Query{All: cmd.Bool("all"), Limit: cmd.Int("limit"), Cursor: cmd.String("cursor")}
	if q.Limit < 0 {
		return cliargs.Usage("-limit must not be negative")
	}
	if cmd.IsSet("id") || cmd.Args().Present() {
		var err error
		if q.JobIDs, err = ids(ctx, cmd, c); err != nil {
			return err
		}
	}
	for _, s := range cmd.StringSlice("status") {
		q.Status = append(q.Status, models.Status(strings.TrimSpace(s)))
	}
	r, err := c.Query(ctx, q)
	if err != nil {
		return err
	}
	if err := a.printJobs(r); err != nil {
		return err
	}
	if len(q.JobIDs) > 0 && len(r.Jobs) == 0 {
		return toldError{fmt.Errorf("no such job: %w", client.ErrNotFound)}
	}
	return nil
}

func (a *app) printJobs(r wire.QueryResult) error {
	if a.JSON {
		return a.PrintJSON(r)
	}
	a.Heading("Jobs")
	if len(r.Jobs) == 0 {
		a.Info("No jobs found")
		return nil
	}
	if err := a.Table(jobRows(r.Jobs), true); err != nil {
		return err
	}
	for _, j := range r.Jobs {
		if j.Error != "" {
			a.Warning("%s: %s", shortID(j.Definition.ID), display.SafeText(j.Error))
		}
	}
	a.Success("Found %d job(s), %d shown", r.Total, len(r.Jobs))
	if r.NextCursor != "" {
		a.Info("More with -cursor %s", display.SafeText(r.NextCursor))
	}
	return nil
}

func jobRows(jobs []models.Job) [][]string {
	rows := [][]string{{"Job ID", "Name", "VM Path", "Status", "Progress", "Started"}}
	for _, j := range jobs {
		rows = append(rows, []string{
			shortID(j.Definition.ID), display.SafeText(j.Definition.Name), shortPath(j.Definition.VMPath),
			display.SafeText(string(j.Status)), progressText(j.Progress), when(j.StartedAt),
		})
	}
	return rows
}

func progressText(p *models.Progress) string {
	if p == nil {
		return "-"
	}
	s := fmt.Sprintf("%s (%.1f%%)", display.SafeText(p.Phase), p.PercentComplete)
	if p.Activity != "" {
		s += ", " + display.SafeText(p.Activity)
	}
	return s
}
