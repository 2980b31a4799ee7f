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
	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

func (a *app) daemonsCommand() *cli.Command {
	return &cli.Command{
		Name: "daemons", Usage: "list the daemons that share the queue, and what each runs",
		Action: cliargs.NoArgs(a.with(a.daemons)),
	}
}

func (a *app) daemons(ctx context.Context, _ *cli.Command, c *client.Client) error {
	r, err := c.Daemons(ctx)
	if err != nil {
		return err
	}
	if a.JSON {
		return a.PrintJSON(r)
	}
	a.Heading("Daemons")
	rows := [][]string{{"Daemon", "Host", "Labels", "Version", "State", "Heartbeat", "Jobs"}}
	for _, d := range r.Daemons {
		rows = append(rows, []string{
			display.SafeText(d.ID), display.SafeText(d.Host), display.SafeText(d.Labels.String()), display.SafeText(d.Version),
			daemonState(d), r.Timestamp.Sub(d.LastHeartbeat).Truncate(time.Second).String() + " ago", jobsOf(d),
		})
	}
	if err := a.Table(rows, true); err != nil {
		return err
	}
	a.Success("Found %d daemon(s)", len(r.Daemons))
	return nil
}

// daemonState is the state of a daemon for people.
func daemonState(d models.Daemon) string {
	state := display.SafeText(string(d.State))
	if d.State == models.DaemonDead && d.Drain != "" {
		state += ", drained"
	}
	if d.Self {
		state += " (asked)"
	}
	return state
}

// shownJobs is how many jobs of a daemon are named in the table.
const shownJobs = 4

// jobsOf names the first jobs that a daemon runs, and says how many there are.
func jobsOf(d models.Daemon) string {
	var names []string
	for i, id := range d.JobIDs {
		if i == shownJobs {
			names = append(names, "…")
			break
		}
		names = append(names, display.SafeText(shortID(id)))
	}
	return strings.TrimSuffix(fmt.Sprintf("%d: %s", len(d.JobIDs), strings.Join(names, " ")), ": ")
}

func (a *app) drainCommand() *cli.Command {
	return &cli.Command{
		Name: "drain", Usage: "have a daemon run no more jobs, before its machine is taken away", ArgsUsage: "[DAEMON]",
		Description: `DAEMON is its id or host as h2kvmctl daemons shows them, or the beginning of the id; left
out, it is the daemon that is asked. What it runs is handed back: another daemon goes on with
it at once. It stays drained over a restart, until -resume. The command returns when the
daemon runs no job any more; interrupted, the daemon is drained all the same.`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "wait", Usage: "let the jobs end that the daemon runs"},
			&cli.BoolFlag{Name: "resume", Usage: "have it run jobs again"},
		},
		Action: a.with(a.drain),
	}
}

func (a *app) drain(ctx context.Context, cmd *cli.Command, c *client.Client) error {
	if cmd.Args().Len() > 1 {
		return cliargs.Usage("one DAEMON at a time")
	}
	if cmd.Bool("wait") && cmd.Bool("resume") {
		return cliargs.Usage("-wait and -resume exclude each other")
	}
	all, err := c.Daemons(ctx)
	if err != nil {
		return err
	}
	d, err := findDaemon(all.Daemons, cmd.Args().First())
	if err != nil {
		return err
	}
	if cmd.Bool("resume") {
		if d, err = c.ResumeDaemon(ctx, d.ID); err != nil {
			return err
		}
		if a.JSON {
			return a.PrintJSON(d)
		}
		a.Success("%s runs jobs again", daemonName(d))
		return nil
	}
	if d, err = c.Drain(ctx, d.ID, cmd.Bool("wait")); err != nil {
		return err
	}
	return a.awaitDrained(ctx, c, d)
}

// drainPoll is between two looks whether a daemon is drained.
const drainPoll = 500 * time.Millisecond

// awaitDrained waits until a daemon runs nothing any more, and says how far it is.
func (a *app) awaitDrained(ctx context.Context, c *client.Client, d models.Daemon) error {
	told := -1
	for d.State == models.DaemonDraining {
		if n := len(d.JobIDs); n != told && !a.JSON {
			a.Info("%s runs %s", daemonName(d), jobsOf(d))
			told = n
		}
		if err := sleep.For(ctx, drainPoll); err != nil {
			return err
		}
		all, err := c.Daemons(ctx)
		if err != nil {
			return err
		}
		if d, err = findDaemon(all.Daemons, d.ID); err != nil {
			return err
		}
	}
	if a.JSON {
		return a.PrintJSON(d)
	}
	switch d.State {
	case models.DaemonActive:
		return fmt.Errorf("%s is not drained: somebody has resumed it meanwhile", daemonName(d))
	case models.DaemonDead:
		a.Success("%s is not running; when it starts, it claims no job until it is resumed", daemonName(d))
	default:
		a.Success("%s is drained; h2kvmctl drain -resume %s has it run jobs again", daemonName(d), display.SafeText(d.ID))
	}
	return nil
}

func daemonName(d models.Daemon) string {
	return fmt.Sprintf("Daemon %s on %s", display.SafeText(d.ID), display.SafeText(d.Host))
}

// findDaemon finds a daemon by its id, the beginning of that, or its host; "" is the one
// that was asked.
func findDaemon(all []models.Daemon, name string) (models.Daemon, error) {
	var found []models.Daemon
	for _, d := range all {
		if d.ID == name || name == "" && d.Self {
			return d, nil
		}
		if name != "" && (strings.HasPrefix(d.ID, name) || strings.EqualFold(d.Host, name)) {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 0:
		return models.Daemon{}, fmt.Errorf("daemon %q: %w; h2kvmctl daemons lists them", name, client.ErrNotFound)
	case 1:
		return found[0], nil
	}
	return models.Daemon{}, cliargs.Usage("daemon %q may be %s or %s: give the id", name, found[0].ID, found[1].ID)
}
