package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/internal/atomicfile"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/version"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/job/outcome"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/report"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

func (a *app) runCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "export the VMs of a job file, without a daemon",
		ArgsUsage: "FILE",
		Description: `FILE is a job file as h2kvmctl submit takes it; - is stdin. What an earlier run has
finished counts as done, and what failed is tried again: run it until it exits
with 0. Ctrl-C stops in good order.`,
		Flags: []cli.Flag{parallelVMs(), reportFlag(), vddkFlag(), virtioWinFlag()},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			if cmd.Args().Len() != 1 {
				return cliargs.Usage("which jobs? %s FILE", cmd.FullName())
			}
			name := cmd.Args().First()
			jobs, err := a.readJobs(name)
			if err != nil {
				return err
			}
			again := "hyper2kvm run " + outcome.Quote(name)
			if name == "-" {
				again = ""
			}
			return a.exportFleet(ctx, cmd, asked{jobs: jobs}, again)
		},
	}
}

func (a *app) resumeCommand() *cli.Command {
	return &cli.Command{
		Name:  "resume",
		Usage: "go on with the last export of several VMs",
		Description: `The jobs are those of the last export of several VMs or of the last run, at the
same vCenter. The password comes from GOVC_PASSWORD.`,
		Flags:  []cli.Flag{parallelVMs(), reportFlag(), vddkFlag(), virtioWinFlag()},
		Action: cliargs.NoArgs(a.resume),
	}
}

func (a *app) resume(ctx context.Context, cmd *cli.Command) error {
	last, err := readLastRun()
	if err != nil {
		return err
	}
	if a.getenv("GOVC_URL") == "" && cmd.String("profile") == "" {
		a.getenv, a.pinned = last.environment(a.getenv), last.Thumbprint
	}
	if cfg, err := a.config(cmd); err != nil {
		return err
	} else if last.URL != "" && cfg.URL.String() != last.URL {
		return cliargs.Usage("the last run was of %s, and this is %s: set GOVC_URL to that, or run its job file: hyper2kvm run %s",
			last.URL, cfg.URL, outcome.Quote(lastRunPath()))
	}
	a.inform("%d VM(s) of the run of %s", len(last.Jobs), last.Started.Local().Format(time.DateTime))
	return a.exportFleet(ctx, cmd, asked{jobs: last.Jobs}, "hyper2kvm resume")
}

// inform tells a person something, and nothing to a program that reads JSON.
func (a *app) inform(format string, args ...any) {
	if !a.JSON {
		a.Info(format, args...)
	}
}

// exportFleet exports several VMs and reports what came of them. again is the
// command that does the same again, "" when hyper2kvm resume is.
func (a *app) exportFleet(ctx context.Context, cmd *cli.Command, q asked, again string) error {
	parallel := cmd.Int("parallel-vms")
	if parallel < 1 || parallel > maxVMs {
		return cliargs.Usage("-parallel-vms: must be from 1 to %d", maxVMs)
	}
	write, err := reportWriter(cmd.String("report"))
	if err != nil {
		return err
	}
	endpoint, cfg, err := a.endpoints(cmd, q)
	if err != nil {
		return err
	}
	tool, err := a.vddk(cmd)
	if err != nil {
		return err
	}
	converter, fish, err := a.inside(cmd)
	if err != nil {
		return err
	}
	specs, err := a.fleet(ctx, cmd, q, cfg)
	if err != nil {
		return err
	}
	if again == "" {
		if again, err = rememberRun(cfg, specs); err != nil {
			a.inform("hyper2kvm resume will not know of this run: %s", display.SafeText(err.Error()))
		}
	}
	m := migrate.Migrator{
		Endpoint: endpoint, Limits: &migrate.Limits{}, Reservations: &migrate.Reservations{}, Log: a.logger(), AcceptFinished: true, VDDK: tool, V2V: converter, Fish: fish,
	}
	r, jobs, err := a.runGroup(ctx, runs.NewGroup(runs.Local{Migrator: m}, specs, runs.Options{Parallel: parallel}))
	if r.Done < r.Total {
		r.Resume = again
	}
	err = errors.Join(err, write(r))
	failed := r.Err(jobs)
	if a.JSON {
		err = errors.Join(err, display.New(a.Out, display.JSON, display.Options{}).Result("", r))
	} else {
		r.Print(a.Printer)
	}
	switch {
	case failed != nil && err != nil:
		a.Error("%s", display.SafeText(err.Error()))
		return toldError{failed}
	case failed != nil:
		return toldError{failed}
	}
	return err
}

// runGroup runs the jobs of a group to their end and shows how far they are.
func (a *app) runGroup(ctx context.Context, g *runs.Group) (report.Run, []runs.Status, error) {
	started := time.Now()
	t := progress.New()
	mode := display.Auto
	if a.JSON {
		mode = display.JSON
	}
	shown := context.WithoutCancel(ctx) // the cleaning up is shown, too
	stopShow := display.Start(shown, display.New(a.Out, mode, display.Options{Getenv: a.getenv, Stamp: true}), t)
	counting, stopCount := context.WithCancel(shown)
	counted := make(chan struct{})
	go func() { defer close(counted); g.Overall(counting, t) }()
	tell := context.AfterFunc(ctx, func() {
		t.Event(progress.Warning, "", "stopping: leases are given back and snapshots removed; once more ends at once")
	})
	g.RunToEnd(ctx)
	tell()
	stopCount()
	<-counted
	err := stopShow()
	jobs := g.Statuses()
	return report.NewRun(version.String(), started, time.Now(), jobs), jobs, err
}

// endpoints says where each job's VM is: at the vCenter of the environment, or at the
// one that the job names with its own credentials.
func (a *app) endpoints(cmd *cli.Command, q asked) (func(job.Definition) (vsphere.Config, error), vsphere.Config, error) {
	a.JSON = cmd.Bool("json")
	own := len(q.refs) > 0
	for _, def := range q.jobs {
		own = own || def.VCenterURL == ""
	}
	var cfg vsphere.Config
	if own {
		var err error
		if cfg, err = a.config(cmd); err != nil {
			return nil, cfg, err
		}
		cfg.DialOutage = vsphere.DefaultOutage // a VM whose turn comes in an outage waits
	}
	return func(def job.Definition) (vsphere.Config, error) {
		if def.VCenterURL == "" {
			c := cfg
			if def.Username != "" {
				c.Username, c.Password = def.Username, def.Password
			}
			return c, nil
		}
		u, err := vsphere.ParseURL(def.VCenterURL)
		if err != nil {
			return vsphere.Config{}, fmt.Errorf("vcenter_url: %w", err)
		}
		return vsphere.Config{
			URL: u, Username: def.Username, Password: def.Password, Insecure: def.Insecure, Thumbprint: def.Thumbprint,
			DialOutage: vsphere.DefaultOutage,
		}, nil
	}, cfg, nil
}

// reportWriter writes the closing report to the file of that name, if there is one.
func reportWriter(name string) (func(report.Run) error, error) {
	if name == "" {
		return func(report.Run) error { return nil }, nil
	}
	path, err := local(name)
	if err != nil {
		return nil, err
	}
	var render func(report.Run, *strings.Builder) error
	switch strings.ToLower(filepath.Ext(path)) {
	case ".html", ".htm":
		render = func(r report.Run, b *strings.Builder) error { return r.HTML(b) }
	case ".json":
		render = func(r report.Run, b *strings.Builder) error { return writeJSON(b, r) }
	default:
		return nil, cliargs.Usage("-report %s: the name must end in .html or .json", name)
	}
	if st, err := os.Stat(filepath.Dir(path)); err != nil || !st.IsDir() {
		return nil, cliargs.Usage("-report %s: there is no directory %s", name, filepath.Dir(path))
	}
	return func(r report.Run) error {
		var b strings.Builder
		if err := render(r, &b); err != nil {
			return err
		}
		return atomicfile.Write(path, []byte(b.String()), 0o644)
	}, nil
}
