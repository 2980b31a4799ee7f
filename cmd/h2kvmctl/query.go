package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/client"
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
	a.printVCenters(s.VCenters)
	h, err := c.Health(ctx)
	if err != nil {
		return err
	}
	for _, w := range h.Warnings {
		a.Warning("%s", display.SafeText(w))
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
	q := models.Query{All: cmd.Bool("all"), Limit: cmd.Int("limit"), Cursor: cmd.String("cursor")}
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
	l := jobList{app: a}
	for page, err := range c.QueryPages(ctx, q) {
		if err == nil {
			err = l.add(page)
		}
		if err != nil {
			return err
		}
	}
	if err := l.end(); err != nil {
		return err
	}
	if len(q.JobIDs) > 0 && l.shown == 0 {
		return toldError{fmt.Errorf("no such job: %w", client.ErrNotFound)}
	}
	return nil
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
