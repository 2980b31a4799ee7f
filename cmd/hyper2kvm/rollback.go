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
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

func (a *app) rollbackCommand() *cli.Command {
	return &cli.Command{
		Name:  "rollback",
		Usage: "go back to the source of a finished export",
		Description: `It stops the libvirt domain that the export was landed as: it asks the guest to shut
down, switches it off when that takes too long, and has it not start with its host
any more. Then it undoes what -finish has changed at the source (custom attribute,
name, network cards) and powers it on, if it ran before -shutdown or -power-off.
While the domain runs, or libvirt cannot be asked, the source is left as it is.
What was made of the files in another way, stop yourself first.

The exported files stay, and so does the domain. What somebody else has changed at
the source since is named and left as it is. It may be run again.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Usage: "`DIR` of the export", Value: ".", HideDefault: true},
			&cli.StringFlag{Name: "vm", Usage: "which `VM`, where DIR has exports of several: its path, name, or UUID"},
			&cli.BoolFlag{Name: "yes", Usage: "do not ask; where no domain was landed, what became of the VM is stopped"},
			&cli.StringFlag{Name: "stop-timeout", Usage: "how long the domain may take to shut down before it is switched off, as `10m` (5m)"},
			&cli.BoolFlag{Name: "target-is-stopped", Usage: "do not ask libvirt: you know that the domain is off. If it runs, two machines have the same addresses and names"},
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
	def := job.Definition{VMPath: e.VM, OutputPath: dir, Options: job.Options{Rollback: job.Rollback{
		Back: true, StopTimeout: cmd.String("stop-timeout"), TargetIsStopped: cmd.Bool("target-is-stopped") || !e.Guest(),
	}}}
	if t := def.Options.StopTimeout; t != "" {
		if err := job.CheckTimeout(t); err != nil {
			return cliargs.Usage("-stop-timeout: %w", err)
		}
	}
	if err := a.sure(cmd, dir, e, def.Options.TargetIsStopped); err != nil {
		return err
	}
	t := progress.New()
	stop := func() {}
	if !a.JSON {
		stop = a.follow(t)
	}
	left, err := m.Rollback(ctx, def, e, t)
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

// sure asks whether to go back: the domain is stopped for it, or is known to be stopped.
func (a *app) sure(cmd *cli.Command, dir string, e migrate.Exported, stopped bool) error {
	if cmd.Bool("yes") {
		return nil
	}
	const danger = "It and the source must not run at the same time."
	var question, advice string
	switch {
	case !stopped:
		what := fmt.Sprintf("the libvirt domain %s at %s", e.Landed.Domain, e.Landed.URI)
		question, advice = "Stop "+what+", and go back to the source?", what+" is stopped for it: give -yes"
	case e.Guest():
		what := fmt.Sprintf("the libvirt domain %s at %s", e.Landed.Domain, e.Landed.URI)
		question, advice = "Is "+what+" stopped? "+danger, "see that "+what+" is stopped, then give -yes: "+danger
	default:
		what := "the machine that was made of the files in " + dir
		question, advice = "Is "+what+" stopped? "+danger, "stop "+what+" first, then give -yes: "+danger
	}
	if a.JSON || !terminal.IsTerminal(a.Out) {
		return cliargs.Usage("%s", advice)
	}
	fmt.Fprintf(a.Out, "%s [y/N] ", display.SafeText(question))
	line, _ := bufio.NewReader(a.in).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return errors.New("nothing was done")
	}
	return nil
}
