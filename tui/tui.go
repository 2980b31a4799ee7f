package tui

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"
	"golang.org/x/term"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/job/outcome"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/tui/monitor"
	"github.com/hyper2kvm/hyper2kvm/tui/plan"
	"github.com/hyper2kvm/hyper2kvm/tui/profile"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// ErrNoTerminal says that there is no terminal to be interactive on.
var ErrNoTerminal = errors.New("this is interactive and needs a terminal")

// frames is how often a second the screen is written at most: enough to look
// immediate, and kind to slow lines.
const frames = 30

// Options of [Run] and [Watch]. Printer and In are needed.
type Options struct {
	Printer *terminal.Printer
	In      *os.File                 // the terminal's input
	Getenv  func(name string) string // nil is os.Getenv
	Version string                   // of the program, for people
	Log     *slog.Logger             // nil discards; must not write to the terminal
	Migrate func(*migrate.Migrator)  // changes how this process exports; may be nil

	Thumbprint string // pins the vCenter's certificate
	Profile    string // name of the saved profile to connect with
	ConfigDir  string // of profiles; "" is hyper2kvm in the user's configuration directory
	Daemon     string // URL of a daemon to hand jobs to; "" runs them in this process
	VCenter    string // of the daemon's configuration; "" is its default

	// Detach returns the URL of a daemon of this machine to which exports of this
	// process could be handed while they run, "" for none; may be nil.
	Detach func() string

	DaemonClient client.Options // how the daemon is reached
}

// OutcomeError says that not every export was completed. It has been told to the
// person already. It unwraps to the errors of the exports, and to
// context.Canceled when some were cancelled.
type OutcomeError struct {
	Failed, Cancelled, Total int
	Errs                     []error
}

// Error counts.
func (e *OutcomeError) Error() string {
	return fmt.Sprintf("of %d export(s), %d failed and %d were cancelled", e.Total, e.Failed, e.Cancelled)
}

// Unwrap gives the errors of the exports.
func (e *OutcomeError) Unwrap() []error { return e.Errs }

// Interactive reports whether o has a terminal that can be drawn on.
func (o Options) Interactive() bool {
	return o.Printer.TTY && o.In != nil && term.IsTerminal(int(o.In.Fd())) && o.getenv("TERM") != "dumb"
}

// NoTerminal is [ErrNoTerminal] with what one may do about it: a terminal may be there,
// and be called one that cannot be drawn on.
func (o Options) NoTerminal() error {
	out, ok := o.Printer.Out.(*os.File)
	if ok && o.In != nil && term.IsTerminal(int(out.Fd())) && term.IsTerminal(int(o.In.Fd())) && o.getenv("TERM") == "dumb" {
		return fmt.Errorf("%w that can be drawn on, and TERM=dumb says that this one cannot: set TERM to what it is, such as xterm-256color", ErrNoTerminal)
	}
	return ErrNoTerminal
}

func (o Options) getenv(name string) string {
	if o.Getenv == nil {
		return os.Getenv(name)
	}
	return o.Getenv(name)
}

// Run lets a person choose VMs and exports them. It returns when they leave.
//
// Errors: [ErrNoTerminal], an [*OutcomeError], those of [vsphere.Dial] and of
// package client, and the context's.
func Run(ctx context.Context, o Options) error {
	if !o.Interactive() {
		return o.NoTerminal()
	}
	format, err := profile.DefaultFormat(o.getenv, profile.Profile{}, job.FormatQcow2)
	if err != nil {
		return err
	}
	banner(o)
	if o.Daemon != "" {
		return runDaemon(ctx, o, format)
	}
	store, err := profile.Open(o.ConfigDir)
	if err != nil {
		return err
	}
	c := connector{o: o, store: store, ask: prompter{in: o.In, out: o.Printer.Out}}
	client, cfg, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer logOut(ctx, o.Printer, client)
	if format, err = c.format(cfg); err != nil {
		return err
	}
	inv := ownInventory{client}
	vms, err := listVMs(ctx, o, inv)
	if err != nil {
		return err
	}
	cfg.DialOutage = vsphere.DefaultOutage // it has answered just now: a VM whose turn comes in an outage waits
	m := migrate.Migrator{
		Endpoint: func(job.Definition) (vsphere.Config, error) { return cfg, nil },
		Limits:   &migrate.Limits{}, Reservations: &migrate.Reservations{}, Log: o.Log, AcceptFinished: true,
	}
	s := services{
		title: cfg.URL.Host, pinned: cfg.Thumbprint, inspect: inv.inspect, survey: inv.survey, free: freeAt,
		begin: func(_ context.Context, specs []runs.Spec, c plan.Choices) (*runs.Group, error) {
			return runs.NewGroup(runs.Local{Migrator: m}, specs, runs.Options{Parallel: c.VMs}), nil
		},
	}
	if o.Detach != nil {
		s.handover = &handover{url: o.Detach, client: o.DaemonClient, cfg: cfg}
	}
	return screens(ctx, o, s, func(s services) *wizard { return newWizard(s, vms, defaults(o, format)) })
}

// session is what [vsphere.Client] is while it is logged in.
type session interface {
	Close(ctx context.Context) error
}

// logOut ends a session, also when ctx has ended, and says so when that fails.
func logOut(ctx context.Context, p *terminal.Printer, s session) {
	if err := s.Close(context.WithoutCancel(ctx)); err != nil {
		p.Warning("log out: %s", safeLines(err.Error()))
	}
}

// defaults are the choices that a person finds.
func defaults(o Options, format job.Format) plan.Choices {
	c := plan.Choices{Output: "vms", VMs: runs.DefaultParallel, VCenter: o.VCenter}
	c.Options.Format = format
	c.Options.ParallelDownloads = job.DefaultParallelDownloads
	var workers int
	if _, err := fmt.Sscanf(o.getenv("DOWNLOAD_WORKERS"), "%d", &workers); err == nil && workers >= 1 && workers <= job.MaxParallelDownloads {
		c.Options.ParallelDownloads = workers
	}
	if o.Daemon != "" {
		c.Output = "/var/lib/hyper2kvm/vms"
	} else if dir, err := os.Getwd(); err == nil {
		c.Output = dir + "/vms"
	}
	return c
}

// runDaemon is Run with the jobs handed to a daemon.
func runDaemon(ctx context.Context, o Options, format job.Format) error {
	d, err := client.New(o.Daemon, o.DaemonClient)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := greetDaemon(ctx, o, d); err != nil {
		return err
	}
	inv := &daemonInventory{client: d, vcenter: o.VCenter}
	vms, err := listVMs(ctx, o, inv)
	if err != nil {
		return err
	}
	s := daemonServices(d)
	s.inspect, s.survey = inv.inspect, inv.survey
	return screens(ctx, o, s, func(s services) *wizard { return newWizard(s, vms, defaults(o, format)) })
}

func daemonServices(d *client.Client) services {
	return services{
		title: d.BaseURL(), leavable: true,
		command: "h2kvmctl -daemon " + outcome.Quote(d.BaseURL()) + " submit -file hyper2kvm-jobs.yaml",
		free:    func(string) int64 { return -1 },
		begin: func(ctx context.Context, specs []runs.Spec, _ plan.Choices) (*runs.Group, error) {
			defs := make([]job.Definition, len(specs))
			for i, s := range specs {
				defs[i] = s.Def
			}
			r, err := d.Submit(ctx, defs, true)
			if err != nil {
				return nil, err
			}
			if len(r.JobIDs) != len(specs) {
				return nil, fmt.Errorf("the daemon accepted %d of %d jobs", len(r.JobIDs), len(specs))
			}
			for i, id := range r.JobIDs {
				specs[i].ID = id
			}
			return runs.NewGroup(runs.Daemon{Client: d}, specs, runs.Options{Parallel: -1}), nil
		},
	}
}

// recent is how long [Watch] shows a job that has ended: who left in the evening
// wants to see in the morning what came of it.
const recent = 16 * time.Hour

// Watch shows the jobs that a daemon has not ended yet, and those that ended in
// the last hours. Errors are as for [Run].
func Watch(ctx context.Context, o Options) error {
	if !o.Interactive() {
		return o.NoTerminal()
	}
	d, err := client.New(o.Daemon, o.DaemonClient)
	if err != nil {
		return err
	}
	defer d.Close()
	var specs []runs.Spec
	for page, err := range d.QueryPages(ctx, models.Query{All: true}) {
		if err != nil {
			return err
		}
		specs = append(watched(page.Jobs, page.Timestamp), specs...) // pages go back in time
	}
	if len(specs) == 0 {
		o.Printer.Info("No job is pending or running at %s, and none ended lately", d.BaseURL())
		return nil
	}
	g := runs.NewGroup(runs.Daemon{Client: d}, specs, runs.Options{Parallel: -1})
	return screens(ctx, o, daemonServices(d), func(s services) *wizard {
		s.start(g)
		w := newWizard(s, nil, defaults(o, job.FormatQcow2))
		w.watch(g)
		return w
	})
}

// watched are the jobs worth showing at the time now of the daemon, the oldest
// first.
func watched(jobs []models.Job, now time.Time) []runs.Spec {
	var specs []runs.Spec
	for _, j := range slices.Backward(jobs) {
		if j.Status.Final() && (j.CompletedAt == nil || now.Sub(*j.CompletedAt) > recent) {
			continue
		}
		specs = append(specs, runs.Spec{Name: j.Definition.Name, ID: j.Definition.ID, Def: j.Definition})
	}
	return specs
}

// screens runs the full-screen program and tells how it ended.
func screens(ctx context.Context, o Options, s services, build func(services) *wizard) error {
	var groups sync.WaitGroup
	running, stop := context.WithCancelCause(ctx)
	s.do = func(f func(context.Context) tea.Msg) tea.Cmd {
		return func() tea.Msg { return f(ctx) }
	}
	s.start = func(g *runs.Group) {
		groups.Go(func() { g.Run(running) })
	}
	w := build(s)
	p := tea.NewProgram(w, tea.WithInput(o.In), tea.WithOutput(o.Printer.Out), tea.WithoutSignalHandler(), tea.WithFPS(frames))
	unhook := context.AfterFunc(ctx, func() { p.Send(monitor.Interrupt{}) })
	defer unhook()
	_, err := p.Run()
	stop(runs.ErrLeft)
	if !w.forced {
		groups.Wait()
	}
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	return summarize(o.Printer, w.done, w.forced, w.s.leavable)
}
