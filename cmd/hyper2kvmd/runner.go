package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/config"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/limits"
	"github.com/hyper2kvm/hyper2kvm/guestnet"
	"github.com/hyper2kvm/hyper2kvm/internal/appliance"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/v2v"
	"github.com/hyper2kvm/hyper2kvm/vddk"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// runner exports VMs, under the limits of the vCenter that a job names.
type runner struct {
	vcenters vcenters
	migrator migrate.Migrator
	limits   map[string]*migrate.Limits // by name in the configuration
	others   *migrate.Limits
	shared   *limits.Keeper // what this daemon has of limits that hold for several; nil where there is one only
}

func newRunner(v vcenters, bandwidth *transfer.Limiter, shared *limits.Keeper) *runner {
	r := &runner{
		vcenters: v,
		migrator: migrate.Migrator{
			Endpoint: v.endpoint, Log: v.log, Limiter: bandwidth, JobLimits: &migrate.JobLimits{}, Reservations: &migrate.Reservations{},
		},
		limits: make(map[string]*migrate.Limits),
		shared: shared,
	}
	r.others = r.newLimits(config.Limits{})
	if dir := v.config.Daemon.VDDKLibDir; dir != "" {
		r.migrator.VDDK = &vddk.Tool{LibDir: dir}
	}
	machine := new(appliance.Machine)
	r.migrator.Fish = &guestnet.Fish{Machine: machine}
	r.migrator.V2V = &v2v.Tool{VirtioWin: v.config.Daemon.VirtioWin, Machine: machine}
	for name, c := range v.config.VCenters {
		r.limits[name] = r.newLimits(c.Limits)
	}
	if name := v.config.DefaultVCenter(); name != "" {
		r.limits[""] = r.limits[name]
	}
	return r
}

// newLimits are the limits of disks that a configuration gives a vCenter.
func (r *runner) newLimits(c config.Limits) *migrate.Limits {
	l := &migrate.Limits{DisksPerHost: int(c.DisksPerHost), DisksPerVCenter: int(c.Disks)}
	if r.shared != nil {
		l.Places, l.Moving = r.shared, r.shared.Moving
	}
	return l
}

// Run implements jobs.Runner.
func (r *runner) Run(ctx context.Context, def job.Definition, t *progress.Tracker) (job.Result, error) {
	if err := r.vcenters.policy.Admit(def); err != nil { // it was taken under another configuration, or its directory is another one by now
		return job.Result{}, err
	}
	m := r.engine()
	m.Limits = r.others
	if l, ok := r.limits[def.VCenter]; ok && def.VCenterURL == "" {
		m.Limits = l
	}
	if r.shared != nil { // it may use bandwidth also while no disk moves
		defer r.shared.Moving()()
	}
	if note := r.vcenters.insecureIgnored(def); note != "" {
		t.Event(progress.Warning, "", note)
	}
	res, err := m.Run(ctx, def, t)
	return res, r.judge(ctx, def, t.Phase(), err)
}

// engine is the migrator, as what jobs may touch is now.
func (r *runner) engine() *migrate.Migrator {
	m := r.migrator
	m.Outputs = r.vcenters.policy.Outputs()
	return &m
}

// CleanUp implements jobs.Runner.
func (r *runner) CleanUp(ctx context.Context, def job.Definition, keepParts bool, t *progress.Tracker) (job.Result, error) {
	res, err := r.engine().CleanUp(ctx, def, keepParts, t)
	return res, r.judge(ctx, def, t.Phase(), err)
}

// Settle implements jobs.Settler.
func (r *runner) Settle(ctx context.Context, def job.Definition, t *progress.Tracker) error {
	return r.judge(ctx, def, t.Phase(), r.engine().Settle(ctx, def, t))
}

// Owes implements jobs.Debtor.
func (r *runner) Owes(_ context.Context, def job.Definition) (bool, error) {
	return r.engine().Owes(def)
}

// Resumes implements jobs.Resumer.
func (r *runner) Resumes(_ context.Context, def job.Definition) (bool, error) {
	return r.engine().Resumes(def)
}

// judge tells failures of a vCenter from those of a job: what it puts down to
// the vCenter becomes a [jobs.Unavailable]. phase is the one in which the run
// ended.
func (r *runner) judge(ctx context.Context, def job.Definition, phase progress.Phase, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	if u := r.trouble(def, phase == progress.Connecting, err); u != nil {
		return u
	}
	if phase == progress.Connecting || migrate.Permanent(err) {
		return err
	}
	// In the middle of a run "unreachable" may be about one VM or ESXi host; and
	// when a whole site is away, it may be a transfer that fails. The vCenter
	// knows, or it does not answer.
	probe, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	u := new(jobs.Unavailable)
	switch {
	case errors.As(r.Probe(probe, def), &u):
		return &jobs.Unavailable{State: u.State, Err: err}
	case errors.Is(err, vsphere.ErrUnreachable):
		return &jobs.Unavailable{State: jobs.Unreachable, Err: err, Back: true}
	}
	return err
}

// answerTime is how long a vCenter may take to answer a probe.
const answerTime = 20 * time.Second

// trouble returns what is wrong with the vCenter that a job could not connect
// to, or that refused a login later on; nil when nothing is.
func (r *runner) trouble(def job.Definition, connecting bool, err error) *jobs.Unavailable {
	own := def.Username != "" // the job's own credentials do not change
	var refused *refusedError
	var held *heldError
	var secret *passwordError
	switch {
	case errors.As(err, &held) && own:
		return &jobs.Unavailable{State: jobs.LoginRefused, Err: err, Delay: max(time.Until(held.until), time.Second)}
	case errors.As(err, &held), errors.As(err, &refused) && !own, errors.As(err, &secret):
		return &jobs.Unavailable{State: jobs.LoginRefused, Err: err}
	case errors.As(err, &refused), !connecting,
		errors.Is(err, api.ErrUnknownVCenter), errors.Is(err, api.ErrNoInventory):
		return nil
	case errors.Is(err, vsphere.ErrUnreachable):
		if def.VCenterURL != "" && unknownName(err) {
			return nil // more likely mistyped in the job than away
		}
		return &jobs.Unavailable{State: jobs.Unreachable, Err: err}
	case def.VCenterURL != "":
		return nil // what the job says of it does not change either
	}
	return &jobs.Unavailable{State: jobs.Misconfigured, Err: err}
}

// unknownName reports whether there is no host of the name.
func unknownName(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

// Probe implements jobs.VCenters by logging in and out again.
func (r *runner) Probe(ctx context.Context, def job.Definition) error {
	cfg, err := r.vcenters.endpoint(def)
	if err == nil {
		cfg.KeepAlive = -1
		var c *vsphere.Client
		if c, err = vsphere.Dial(ctx, cfg); err == nil {
			_ = c.Close(context.WithoutCancel(ctx)) // it ends by itself otherwise (F-INV-2)
			return nil
		}
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &jobs.Unavailable{State: jobs.Unreachable, Err: fmt.Errorf("no answer to a probe: %w", err)}
	}
	if u := r.trouble(def, true, err); u != nil {
		return u
	}
	return err
}

// Forgive implements jobs.VCenters.
func (r *runner) Forgive(def job.Definition) {
	if cfg, err := r.vcenters.endpoint(def); err == nil {
		r.vcenters.logins.forgive(cfg)
	}
}
