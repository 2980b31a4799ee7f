package tui

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/tui/monitor"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// Detaching: jobs of this process go on at a daemon of this machine, so that a lost
// connection costs nothing. They are stopped here, with what has arrived kept, and the
// daemon's runs resume from that.
//
// A daemon that knows the vCenter itself gets no credentials. One that does not gets
// them over its own socket only, never over a port, on which anybody may listen.

// handover is what hands jobs to a daemon.
type handover struct {
	url    func() string // where the daemon may be
	client client.Options
	cfg    vsphere.Config    // of this process
	uuids  map[string]string // of the VMs, by Ref
}

const (
	probeTime  = 5 * time.Second // bounds the question whether a daemon is there
	submitTime = time.Minute     // bounds its look at a job, and the submission
)

// find returns where a daemon is that answers, "" when none does.
func (h handover) find(ctx context.Context) string {
	url := h.url()
	if url == "" {
		return ""
	}
	d, err := client.New(url, h.client)
	if err != nil {
		return ""
	}
	defer d.Close()
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	if _, err := d.Health(ctx); err != nil {
		return ""
	}
	return d.BaseURL()
}

// errRefused says that the daemon will not do it; nothing was stopped then.
var errRefused = errors.New("not handed over, and everything goes on here")

// give hands the jobs of a group that have not ended to d. It returns them as the
// daemon's, and which of the group's jobs they were.
func (h handover) give(ctx context.Context, d *client.Client, g *runs.Group) (specs []runs.Spec, given []int, err error) {
	first := slices.IndexFunc(g.Statuses(), func(s runs.Status) bool { return !s.State.Ended() })
	if first < 0 {
		return nil, nil, errors.New("every export has ended")
	}
	bounded, cancel := context.WithTimeout(ctx, submitTime)
	defer cancel()
	wording, err := h.accepted(bounded, d, g.Statuses()[first].Spec)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errRefused, err)
	}
	if given, err = g.Release(ctx); err != nil {
		return nil, nil, err
	}
	jobs := g.Statuses()
	defs := make([]job.Definition, len(given))
	for n, i := range given {
		specs = append(specs, jobs[i].Spec)
		defs[n] = wording(jobs[i].Def)
	}
	if len(defs) == 0 {
		return nil, nil, errors.New("every export has ended")
	}
	bounded, stop := context.WithTimeout(ctx, submitTime)
	defer stop()
	r, err := d.Submit(bounded, defs, true)
	if err == nil && len(r.JobIDs) != len(defs) {
		err = fmt.Errorf("the daemon took %d of %d jobs: %s", len(r.JobIDs), len(defs), strings.Join(r.Errors, "; "))
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%w: %w", errRefused, err), g.Reclaim(ctx, given))
	}
	for n, id := range r.JobIDs {
		specs[n].ID = id
	}
	return specs, given, nil
}

// accepted asks whether the daemon would take a job, and returns how jobs are to be
// worded for it.
func (h handover) accepted(ctx context.Context, d *client.Client, s runs.Spec) (func(job.Definition) job.Definition, error) {
	own := func(def job.Definition) job.Definition { return def }
	err := h.check(ctx, d, s, own(s.Def))
	if err == nil {
		return own, nil
	}
	if !strings.HasPrefix(d.BaseURL(), "unix:") {
		return nil, fmt.Errorf("%w (the password is given to a daemon on its own socket only, not on a port)", err)
	}
	full := func(def job.Definition) job.Definition {
		def.VCenterURL, def.Username, def.Password = h.cfg.URL.String(), h.cfg.Username, h.cfg.Password
		def.Insecure, def.Thumbprint = h.cfg.Insecure, h.cfg.Thumbprint
		return def
	}
	if err := h.check(ctx, d, s, full(s.Def)); err != nil {
		return nil, err
	}
	return full, nil
}

// check has the daemon look at a job: it has to see the same VM, and be able to write.
func (h handover) check(ctx context.Context, d *client.Client, s runs.Spec, def job.Definition) error {
	r, err := d.Check(ctx, def)
	if err != nil {
		return err
	}
	for _, f := range r.Findings {
		if f.Code == migrate.CodeOutputDir && f.Severity == models.SeverityError {
			return errors.New(f.Message)
		}
	}
	if r.VM == nil || r.VM.UUID == "" || r.VM.UUID != h.uuids[s.Ref] {
		return fmt.Errorf("the daemon's vCenter is another: it does not know %s", s.Def.VMPath)
	}
	return nil
}

// handed is what came of a handover.
type handed struct {
	group *runs.Group // of the daemon
	from  *runs.Group
	given []int // jobs of the first group
	url   string
	err   error
}

// detach hands what is left to the daemon at url.
func (w *wizard) detach(url string) tea.Cmd {
	g, h := w.group, w.handover()
	return w.s.do(func(ctx context.Context) tea.Msg {
		d, err := client.New(url, h.client)
		if err != nil {
			return handed{from: g, err: err}
		}
		specs, given, err := h.give(ctx, d, g)
		if err != nil {
			d.Close()
			return handed{from: g, err: err}
		}
		to := runs.NewGroup(runs.Daemon{Client: d}, specs, runs.Options{Parallel: -1})
		w.s.start(to)
		return handed{group: to, from: g, given: given, url: url}
	})
}

// handover is the service with what is known of the VMs.
func (w *wizard) handover() handover {
	h := *w.s.handover
	h.uuids = map[string]string{}
	for _, vm := range w.chosen {
		h.uuids[vm.Ref] = vm.InstanceUUID
	}
	return h
}

// follow turns to the transfers as the daemon runs them.
func (w *wizard) follow(h handed) tea.Cmd {
	if h.from != w.group {
		return nil
	}
	if h.err != nil {
		return w.run.Update(monitor.Trouble{Err: h.err})
	}
	for i, s := range h.from.Statuses() {
		if !slices.Contains(h.given, i) {
			w.done = append(w.done, s)
		}
	}
	w.s.title, w.s.leavable, w.s.handover = h.url, true, nil
	w.group, w.run = h.group, newMonitor(w.s, h.group, false)
	w.run.Update(w.size)
	return w.run.Init()
}
