package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/units"
)

func (a *app) limitCommand() *cli.Command {
	return &cli.Command{
		Name: "limit", Usage: "show or change the bandwidth of all jobs together, or of some",
		ArgsUsage: "[RATE|none]",
		Description: `RATE is such as 200MB/s, 25MiB/s or 1Gbit/s. A change takes effect at once, also
on jobs that run. That of all jobs together is forgotten when the daemon starts
again; that of a job is kept with it. Where several daemons share a database,
it is the bandwidth of all of them and kept there, and what each has is shown.`,
		Flags:  []cli.Flag{idFlag()},
		Action: a.with(a.limit),
	}
}

func (a *app) limit(ctx context.Context, cmd *cli.Command, c *client.Client) error {
	rate := cmd.Args().First()
	if cmd.Args().Len() > 1 {
		return cliargs.Usage("one RATE is enough; several jobs go into -id, separated by commas")
	}
	if _, err := units.ParseRate(rate); err != nil {
		return cliargs.UsageError{Err: err}
	}
	if cmd.IsSet("id") {
		return a.limitJobs(ctx, cmd, c, rate)
	}
	var (
		r   models.Limits
		err error
	)
	if rate == "" {
		r, err = c.Limits(ctx)
	} else {
		r, err = c.SetLimit(ctx, rate)
	}
	if err != nil {
		return err
	}
	if a.JSON {
		return a.PrintJSON(r)
	}
	whose := "all jobs together"
	if r.Shared {
		whose = "the jobs of all daemons together"
	}
	if err := a.showShares(r.Shares); err != nil {
		return err
	}
	a.Success("Bandwidth of %s: %s", whose, display.SafeText(r.Limit))
	return nil
}

// showShares shows what each daemon has of the limits that they share.
func (a *app) showShares(shares []models.Share) error {
	if len(shares) == 0 {
		return nil
	}
	rows := [][]string{{"Limit", "Of all", "Daemon", "Holds", "Waits for"}}
	for _, s := range shares {
		all, held, waiting := fmt.Sprint(s.Limit), fmt.Sprint(s.Held), fmt.Sprint(s.Waiting)
		if s.Bandwidth() {
			all, held, waiting = units.FormatRate(s.Limit), units.Bytes(s.Held)+"/s", ""
			if s.Limit == 0 {
				held = "any"
			}
		}
		rows = append(rows, []string{display.SafeText(s.Name), all, display.SafeText(s.Daemon), held, waiting})
	}
	a.Heading("Limits")
	return a.Table(rows, true)
}

// limitJobs changes the bandwidth of the jobs that -id names.
func (a *app) limitJobs(ctx context.Context, cmd *cli.Command, c *client.Client, rate string) error {
	if rate == "" {
		return cliargs.Usage("-id needs a RATE, or none: h2kvmctl limit -id ID 50MB/s")
	}
	jobs, err := resolve(ctx, c, splitIDs(cmd.StringSlice("id")))
	if err != nil {
		return err
	}
	changed := []models.Job{}
	err = a.each(jobs, func(id string) error {
		j, err := c.SetJobLimit(ctx, id, rate)
		if err == nil {
			changed = append(changed, j)
		}
		return err
	})
	if a.JSON {
		if jerr := a.PrintJSON(changed); jerr != nil {
			return jerr
		}
		return err
	}
	for _, j := range changed {
		a.Success("Bandwidth of job %s: %s", display.SafeText(j.Definition.ID), display.SafeText(j.Definition.Options.Limit))
	}
	return err
}

// splitIDs takes lists of ids apart and drops repeats.
func splitIDs(lists []string) []string {
	var out []string
	for _, s := range lists {
		for id := range strings.SplitSeq(s, ",") {
			if id = strings.TrimSpace(id); id != "" {
				out = append(out, id)
			}
		}
	}
	return distinct(out)
}
