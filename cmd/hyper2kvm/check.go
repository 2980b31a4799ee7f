package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

func (a *app) checkCommand() *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "list every obstacle to an export, without exporting",
		Description: `Of one VM, every obstacle, also at the output directory. Of several, or of -all, a
report that one can hand on, from one walk of the inventory: who is ready, what is
in the way of others, the data to move and the time it may take. Privileges,
running tasks and whether hosts can be reached are looked at for one VM only.

-inspect also looks into the disks of one VM, without writing to them and without
reading all of them: which systems are there, what room they have, and what would
keep them from being converted. It takes guestfish on this machine, and disks that
can be read at random: of a VM that is off from its datastores, or with -transport
auto over port 902 of its host, which with -snapshot serves a VM that runs.

Exit code 4 when a VM that was named cannot be exported as it is; a report on -all
is 0 whatever it says.`,
		Flags: append(append(vmFlags(),
			&cli.BoolFlag{Name: "all", Usage: "every VM: the readiness report"},
			&cli.BoolFlag{Name: "inspect", Usage: "look into the disks of one VM"},
			&cli.StringFlag{Name: "report", Usage: "write the report to `FILE`, which ends in .html, .csv or .json; -format table, csv, json or html prints it"},
			&cli.StringFlag{Name: "rate", Usage: "`RATE` of one disk that the estimates assume; 25MB/s when left out"},
			vddkFlag(), virtioWinFlag(),
		), optionFlags()...),
		DisableSliceFlagSeparator: true,
		Action:                    cliargs.NoArgs(a.check),
	}
}

// checked is what check prints as JSON.
type checked struct {
	VM         string             `json:"vm"`
	Exportable bool               `json:"exportable"`
	Obstacles  []vsphere.Obstacle `json:"obstacles"` // never null
	// Inside is what -inspect has found, null without it, or when the disks could not be
	// looked into: then InsideError says why.
	Inside      *migrate.Inside `json:"inside,omitempty"`
	InsideError string          `json:"inside_error,omitempty"`
}

func (a *app) check(ctx context.Context, cmd *cli.Command) error {
	format, err := a.reportFormat(cmd)
	if err != nil {
		return err
	}
	var q asked
	if cmd.Bool("all") {
		if len(cmd.StringSlice("vm")) > 0 || cmd.IsSet("vms-from") || cmd.IsSet("file") {
			return cliargs.Usage("-all is every VM: leave -vm, -vms-from and -file out")
		}
		if cmd.Bool("inspect") {
			return cliargs.Usage(inspectsOne)
		}
		return a.readiness(ctx, cmd, q, format)
	}
	if q, err = a.asked(cmd); err != nil {
		return err
	}
	if format != "" || !q.one(cmd) {
		if cmd.Bool("inspect") {
			return cliargs.Usage(inspectsOne)
		}
		return a.readiness(ctx, cmd, q, format)
	}
	def, err := a.definition(cmd, q.refs[0])
	if err != nil {
		return err
	}
	m, err := a.migrator(cmd)
	if err != nil {
		return err
	}
	vm, obstacles, inside, lookErr, err := a.looked(ctx, cmd, m, def)
	if err != nil {
		return err
	}
	out := checked{VM: vm.Path, Exportable: true, Obstacles: append([]vsphere.Obstacle{}, obstacles...), Inside: inside}
	if lookErr != nil {
		out.InsideError = lookErr.Error()
	}
	for _, o := range obstacles {
		if o.Severity == vsphere.SeverityError {
			out.Exportable = false
		}
	}
	if a.JSON {
		if err := a.PrintJSON(out); err != nil {
			return err
		}
	} else {
		if inside != nil {
			a.printInside(inside)
		}
		a.printObstacles(out)
	}
	if lookErr != nil {
		lookErr = fmt.Errorf("the disks were not looked into: %w", lookErr)
		if out.Exportable {
			return lookErr
		}
		complain(a.Printer, lookErr)
	}
	if !out.Exportable {
		return toldError{&migrate.PreflightError{VM: vm.Path, Obstacles: obstacles}}
	}
	return nil
}

func (a *app) printObstacles(c checked) {
	for _, o := range c.Obstacles {
		text := display.SafeText(o.Text)
		if o.Hint != "" {
			text += " (" + display.SafeText(o.Hint) + ")"
		}
		if o.Severity == vsphere.SeverityError {
			a.Error("%s", text)
		} else {
			a.Warning("%s", text)
		}
	}
	if c.Exportable {
		a.Success("%s can be exported", display.SafeText(c.VM))
	} else {
		a.Error("%s cannot be exported as it is", display.SafeText(c.VM))
	}
}
