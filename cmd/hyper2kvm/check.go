package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

func (a *app) checkCommand() *cli.Command {
	return &cli.Command{
		Name:                      "check",
		Usage:                     "list every obstacle to an export, without exporting",
		Flags:                     append(vmFlags(), optionFlags()...),
		DisableSliceFlagSeparator: true,
		Action:                    cliargs.NoArgs(a.check),
	}
}

// checked is what check prints as JSON.
type checked struct {
	VM         string             `json:"vm"`
	Exportable bool               `json:"exportable"`
	Obstacles  []vsphere.Obstacle `json:"obstacles"` // never null
}

func (a *app) check(ctx context.Context, cmd *cli.Command) error {
	q, err := a.asked(cmd)
	if err != nil {
		return err
	}
	def, err := a.definition(cmd, q.refs[0])
	if err != nil {
		return err
	}
	m, err := a.migrator(cmd)
	if err != nil {
		return err
	}
	vm, obstacles, err := m.Check(ctx, def)
	if err != nil {
		return err
	}
	out := checked{VM: vm.Path, Exportable: true, Obstacles: append([]vsphere.Obstacle{}, obstacles...)}
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
		a.printObstacles(out)
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
