package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

func (a *app) rollbackCommand() *cli.Command {
	return &cli.Command{
		Name:  "rollback",
		Usage: "go back to the source of a finished export",
		Description: `Stop what became of the VM first. Then rollback undoes what -finish has changed at
the source (custom attribute, name, network cards) and powers it on, if it ran
before -shutdown or -power-off. The exported files stay. What somebody else has
changed at the source since is named and left as it is. It may be run again.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Usage: "`DIR` of the export", Value: ".", HideDefault: true},
			&cli.StringFlag{Name: "vm", Usage: "which `VM`, where DIR has exports of several: its path, name, or UUID"},
			&cli.BoolFlag{Name: "yes", Usage: "do not ask: what became of the VM is stopped"},
		},
		Action: cliargs.NoArgs(a.rollback),
	}
}

// rolledBack is what rollback prints as JSON.
type rolledBack struct {
	VM    string   `json:"vm"`
	Steps []string `json:"steps"` // what was done, in order
	Left  []string `json:"left"`  // what others have changed, and stays
	Error string   `json:"error,omitempty"`
}

func (a *app) rollback(ctx context.Context, cmd *cli.Command) error {
	dir, err := outputOf(cmd)
	if err != nil {
		return err
	}
	m, err := a.migrator(cmd)
	if err != nil {
		return err
	}
	e, err := exportIn(m, dir, cmd.String("vm"))
	if err != nil {
		return err
	}
	if err := a.sureItIsStopped(cmd, dir, e); err != nil {
		return err
	}
	t := progress.New()
	stop := func() {}
	if !a.JSON {
		stop = a.follow(t)
	}
	left, err := m.Rollback(ctx, dir, e, t)
	stop()
	out := rolledBack{VM: e.VM, Steps: []string{}, Left: append([]string{}, left...)}
	for _, ev := range t.EventsAfter(0) {
		out.Steps = append(out.Steps, ev.Text)
	}
	if a.JSON {
		if err != nil {
			out.Error = err.Error()
		}
		return errors.Join(err, a.PrintJSON(out))
	}
	for _, l := range left {
		a.Warning("%s: %s; that stays", display.SafeText(e.VM), display.SafeText(l))
	}
	if err == nil {
		a.Success("%s is what it was; the files in %s stay", display.SafeText(e.VM), display.SafeText(dir))
	}
	return err
}

// exportIn is the one export in a directory that is meant.
func exportIn(m *migrate.Migrator, dir, vm string) (migrate.Exported, error) {
	found, err := m.Exports(dir, vm)
	switch {
	case err != nil:
		return migrate.Exported{}, err
	case len(found) == 0 && vm != "":
		return migrate.Exported{}, fmt.Errorf("%w of %s in %s", migrate.ErrNoExport, vm, dir)
	case len(found) == 0:
		return migrate.Exported{}, fmt.Errorf("%w in %s: name the directory of one with -output", migrate.ErrNoExport, dir)
	case len(found) > 1:
		names := make([]string, len(found))
		for i, e := range found {
			names[i] = e.VM
		}
		return migrate.Exported{}, cliargs.Usage("of which VM? %s has exports of %s: give -vm", dir, strings.Join(names, ", "))
	}
	return found[0], nil
}

// sureItIsStopped asks whether what became of the VM is stopped.
func (a *app) sureItIsStopped(cmd *cli.Command, dir string, e migrate.Exported) error {
	if cmd.Bool("yes") {
		return nil
	}
	what := "the machine that was made of the files in " + dir
	if e.Domain != "" {
		what = "the libvirt domain of " + e.Domain + " (virsh destroy)"
	}
	if a.JSON || !terminal.IsTerminal(a.Out) {
		return cliargs.Usage("stop %s first, then give -yes: it and the source must not run at the same time", what)
	}
	fmt.Fprintf(a.Out, "Is %s stopped? It and the source must not run at the same time. [y/N] ", display.SafeText(what))
	line, _ := bufio.NewReader(a.in).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return errors.New("nothing was done")
	}
	return nil
}
