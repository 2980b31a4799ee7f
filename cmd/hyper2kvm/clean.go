package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

func (a *app) cleanCommand() *cli.Command {
	return &cli.Command{
		Name:  "clean",
		Usage: "settle what exports that failed or died have left at vSphere",
		Description: `An export writes down what it changes at vSphere before it does: an export
lease, a temporary snapshot, CD/DVD drives that are taken out. clean looks for
such records at and below DIR, and puts back what is owed. A directory in which
an export runs is left alone. Part files stay for the next run.

With -vm or -all it also lists temporary snapshots (hyper2kvm-*) that no record
at or below DIR knows of. An export on another machine may use one: -snapshots
removes those that are old enough.

Exit code 0 when nothing remains, and 1 when something does; run it again then.`,
		DisableSliceFlagSeparator: true,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "output", Usage: "`DIR` of exports, and all below it; may be repeated", Value: []string{"."}, HideDefault: true},
			&cli.StringFlag{Name: "vm", Usage: "only this `VM`, and list its temporary snapshots"},
			&cli.BoolFlag{Name: "all", Usage: "list the temporary snapshots of every VM"},
			&cli.BoolFlag{Name: "snapshots", Usage: "remove the temporary snapshots that -vm or -all lists"},
			&cli.DurationFlag{Name: "older-than", Value: 24 * time.Hour, Usage: "`AGE` from which on -snapshots removes one"},
			&cli.BoolFlag{Name: "parts", Usage: "remove part files, too: the next run begins again"},
			&cli.BoolFlag{Name: "dry-run", Usage: "say what is owed, and do nothing"},
		},
		Action: cliargs.NoArgs(a.clean),
	}
}

// cleaned is what clean prints as JSON.
type cleaned struct {
	Clean     bool              `json:"clean"` // nothing remains
	Exports   []migrate.Cleaned `json:"exports"`
	Snapshots []migrate.Stray   `json:"snapshots"`
}

func (a *app) clean(ctx context.Context, cmd *cli.Command) (err error) {
	if cmd.Bool("snapshots") && cmd.String("vm") == "" && !cmd.Bool("all") {
		return cliargs.Usage("of which VMs? give -vm, or -all, with -snapshots")
	}
	a.JSON = cmd.Bool("json")
	t := progress.New()
	// What needs no vCenter is done without one.
	c := (&migrate.Migrator{Endpoint: func(job.Definition) (vsphere.Config, error) { return a.config(cmd) }, Log: a.logger()}).NewCleaner(t)
	defer a.hangUp(ctx, c)
	if !a.JSON {
		defer a.follow(t)()
	}
	out := cleaned{Exports: []migrate.Cleaned{}, Snapshots: []migrate.Stray{}}
	if err := a.cleanExports(ctx, cmd, c, &out); err != nil {
		return err
	}
	if cmd.String("vm") != "" || cmd.Bool("all") {
		if err := a.cleanStrays(ctx, cmd, c, &out); err != nil {
			return err
		}
	}
	out.Clean = !slices.ContainsFunc(out.Exports, migrate.Cleaned.Remains) &&
		!slices.ContainsFunc(out.Snapshots, func(s migrate.Stray) bool { return !s.Removed })
	if a.JSON {
		if err := a.PrintJSON(out); err != nil {
			return err
		}
	} else if out.Clean {
		a.Success("Nothing is owed at vSphere")
	} else {
		a.Error("Something remains at vSphere: see above, and run this again")
	}
	if !out.Clean {
		return toldError{errRemains}
	}
	return nil
}

var errRemains = errors.New("something remains at vSphere")

// cleanExports settles the work directories.
func (a *app) cleanExports(ctx context.Context, cmd *cli.Command, c *migrate.Cleaner, out *cleaned) error {
	o := migrate.CleanOptions{VM: cmd.String("vm"), Parts: cmd.Bool("parts"), DryRun: cmd.Bool("dry-run")}
	for _, dir := range cmd.StringSlice("output") {
		found, skipped, err := migrate.FindWork(dir)
		if err != nil {
			return err
		}
		for _, err := range skipped {
			a.Warning("%s", display.SafeText(err.Error()))
		}
		for _, work := range found {
			if err := ctx.Err(); err != nil {
				return err
			}
			one, ok := c.Settle(ctx, work, o)
			if !ok {
				continue
			}
			out.Exports = append(out.Exports, one)
			if !a.JSON {
				a.printCleaned(one, o)
			}
		}
	}
	return nil
}

// printCleaned says what became of one work directory.
func (a *app) printCleaned(c migrate.Cleaned, o migrate.CleanOptions) {
	name := display.SafeText(c.Dir)
	if c.VM != "" {
		name = display.SafeText(c.VM) + " in " + name
	}
	for _, d := range c.Settled {
		a.Success("%s: put back: %s", name, display.SafeText(d.String()))
	}
	for _, d := range c.Owed {
		a.Error("%s: owed: %s", name, display.SafeText(d.String()))
	}
	switch c.State {
	case migrate.CleanFailed:
		a.Error("%s: %s", name, display.SafeText(c.Error))
	case migrate.CleanRunning:
		a.Info("%s: an export runs there; left alone", name)
	case migrate.CleanFinished:
		a.Success("%s: every file was verified, and has its name now", name)
	case migrate.CleanNothing:
		a.Info("%s: nothing is owed", name)
	}
	if c.Complete+c.Partial > 0 && !o.DryRun {
		a.Info("%s: kept for the next run: %d disk(s) complete, %d in part (-parts removes them)", name, c.Complete, c.Partial)
	}
}

// cleanStrays lists temporary snapshots that no record knows of, and removes
// them when that is asked for.
func (a *app) cleanStrays(ctx context.Context, cmd *cli.Command, c *migrate.Cleaner, out *cleaned) error {
	known := map[string]bool{}
	for _, e := range out.Exports {
		known[e.Snapshot] = true
	}
	strays, err := c.Strays(ctx, cmd.String("vm"), known)
	if err != nil {
		return err
	}
	remove := cmd.Bool("snapshots") && !cmd.Bool("dry-run")
	for _, s := range strays {
		if err := ctx.Err(); err != nil {
			return err
		}
		if remove {
			c.RemoveStray(ctx, &s, cmd.Duration("older-than"))
		}
		out.Snapshots = append(out.Snapshots, s)
		if a.JSON {
			continue
		}
		text := display.SafeText(s.Path) + ": the snapshot " + display.SafeText(s.Snap.Name) + " of " + s.Snap.Created.Local().Format(time.DateTime)
		switch {
		case s.Removed:
			a.Success("%s: removed", text)
		case s.Why != "":
			a.Error("%s: not removed: %s", text, display.SafeText(s.Why))
		default:
			a.Error("%s: no export at or below DIR knows of it (-snapshots removes it)", text)
		}
	}
	return nil
}

// follow prints what is waited for, as it is told.
func (a *app) follow(t *progress.Tracker) (stop func()) {
	var seq int64
	show := func() {
		for _, e := range t.EventsAfter(seq) {
			seq = e.Seq
			a.Info("%s", display.SafeText(e.Text))
		}
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			changed := t.Changed()
			show()
			select {
			case <-changed:
			case <-end:
				show()
				return
			}
		}
	}()
	return func() { close(end); <-ended }
}
