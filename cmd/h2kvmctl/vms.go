package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// vmPage is how many VMs are asked for at a time.
const vmPage = 2000

func (a *app) vmsCommand() *cli.Command {
	return &cli.Command{
		Name: "vms", Usage: "list the VMs of a vCenter",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "vcenter", Usage: "`NAME` in the daemon's configuration; may be left out when there is a default"},
			&cli.StringFlag{Name: "filter", Usage: "only VMs whose path holds this `TEXT`, in upper or lower case"},
			&cli.IntFlag{Name: "limit", Usage: "at most `N` VMs; 0 is all of them"},
		},
		Action: cliargs.NoArgs(a.with(a.vms)),
	}
}

func (a *app) vms(ctx context.Context, cmd *cli.Command, c *client.Client) error {
	limit, filter := cmd.Int("limit"), strings.ToLower(cmd.String("filter"))
	if limit < 0 {
		return cliargs.Usage("-limit must not be negative")
	}
	all := models.VMPage{VMs: []models.VM{}}
	for cursor := ""; ; {
		page, err := c.VMs(ctx, cmd.String("vcenter"), vmPage, cursor)
		if err != nil {
			return err
		}
		all.Total, all.Timestamp, cursor = page.Total, page.Timestamp, page.NextCursor
		for _, v := range page.VMs {
			if strings.Contains(strings.ToLower(v.Path), filter) && (limit == 0 || len(all.VMs) < limit) {
				all.VMs = append(all.VMs, v)
			}
		}
		if cursor == "" || limit > 0 && len(all.VMs) == limit {
			break
		}
	}
	if a.JSON {
		return a.PrintJSON(all)
	}
	a.Heading("Virtual Machines")
	if len(all.VMs) == 0 {
		a.Info("No VMs found")
		return nil
	}
	rows := [][]string{{"VM Path", "Power", "CPUs", "Memory", "Disk", "Guest OS"}}
	for _, v := range all.VMs {
		rows = append(rows, []string{
			display.SafeText(v.Path), display.SafeText(v.PowerState), fmt.Sprint(v.CPUs),
			units.Bytes(v.MemoryBytes), units.Bytes(v.DiskBytes), display.SafeText(v.GuestOS),
		})
	}
	if err := a.Table(rows, true); err != nil {
		return err
	}
	a.Success("Found %d VM(s), %d shown", all.Total, len(all.VMs))
	return nil
}

func (a *app) checkCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "find out what stands in a job's way, without running it",
		Flags:                     jobFlags(),
		DisableSliceFlagSeparator: true,
		Action:                    cliargs.NoArgs(a.with(a.check)),
	}
}

func (a *app) check(ctx context.Context, cmd *cli.Command, c *client.Client) error {
	if err := jobSource(cmd); err != nil {
		return err
	}
	var (
		r   models.CheckResult
		err error
	)
	if cmd.IsSet("file") {
		body, contentType, rerr := a.readJobFile(cmd.String("file"))
		if rerr != nil {
			return rerr
		}
		r, err = c.CheckFile(ctx, body, contentType)
	} else {
		def, ferr := jobFrom(cmd)
		if ferr != nil {
			return ferr
		}
		r, err = c.Check(ctx, def)
	}
	if err != nil {
		return err
	}
	if a.JSON {
		if err := a.PrintJSON(r); err != nil {
			return err
		}
	} else {
		a.reportCheck(r)
	}
	if !r.OK {
		return toldError{errors.New("the job would fail")}
	}
	return nil
}

func (a *app) reportCheck(r models.CheckResult) {
	a.Heading("Preflight")
	if r.VM != nil {
		a.Info("VM: %s (%s)", display.SafeText(r.VM.Path), display.SafeText(r.VM.PowerState))
	}
	for _, f := range r.Findings {
		text := display.SafeText(f.Message)
		if f.Hint != "" {
			text += " (" + display.SafeText(f.Hint) + ")"
		}
		switch f.Severity {
		case models.SeverityError:
			a.Error("%s", text)
		case models.SeverityWarning:
			a.Warning("%s", text)
		default:
			a.Info("%s", text)
		}
	}
	if r.OK {
		a.Success("The job can run")
	}
}
