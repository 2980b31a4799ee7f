package migrate

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// Check finds the VM that def asks for and lists every obstacle to its export,
// without changing anything (F-INV-3). With an empty OutputPath the destination
// is not looked at.
func (m *Migrator) Check(ctx context.Context, def job.Definition) (vm vsphere.VM, obstacles []vsphere.Obstacle, err error) {
	return m.checked(ctx, def, func(_ *run, found []vsphere.Obstacle) []vsphere.Obstacle { return found })
}

// checked is Check, with more to be found by then, while the session lasts.
func (m *Migrator) checked(ctx context.Context, def job.Definition, then func(*run, []vsphere.Obstacle) []vsphere.Obstacle) (vm vsphere.VM, obstacles []vsphere.Obstacle, err error) {
	if def.Options.Back {
		return vm, nil, fault.Permanent(errors.New("a rollback is not checked beforehand: it looks at everything before it changes anything"))
	}
	r := m.newRun(def, progress.New())
	if err := r.connect(ctx, r.findAsked); err != nil {
		return vm, nil, err
	}
	defer func() { err = errors.Join(err, detached(ctx, r.client.Close)) }()
	r.work, _ = workdir.Peek(r.m.Outputs, r.def.OutputPath, job.FileBase(r.vm.Name)) // what a run has made there is no stray
	defer r.work.Release()
	if receipt, ok := r.foundFinished(); ok && r.def.OutputPath != "" {
		obstacles = r.stepObstacles(ctx, r.missing(receipt)) // of the export nothing is left to do
	} else {
		obstacles, err = r.obstacles(ctx)
	}
	if err == nil {
		obstacles = then(r, obstacles)
	}
	return r.vm, obstacles, err
}

// check stops the run when there is an obstacle, and notes the warnings. What
// an earlier run that died has started at vSphere goes on there for a while and
// is waited for: its task would be an obstacle, and its snapshot be missed.
func (r *run) check(ctx context.Context) error {
	for deadline := time.Now().Add(workdir.StaleLease); ; {
		obstacles, err := r.obstacles(ctx)
		if err != nil {
			return err
		}
		var fatal, warnings []vsphere.Obstacle
		passing := r.work.Interrupted() && time.Now().Before(deadline)
		for _, o := range obstacles {
			if o.Severity != vsphere.SeverityError {
				warnings = append(warnings, o)
				continue
			}
			fatal = append(fatal, o)
			passing = passing && (o.Code == vsphere.CodeTask || o.Code == vsphere.CodeDisabled)
		}
		if len(fatal) > 0 && passing {
			r.info("", "%s, probably of an earlier run that died: waiting for its end", fatal[0].Text)
			if err := sleep.For(ctx, maxStalePause); err != nil {
				return err
			}
			continue
		}
		for _, o := range warnings {
			if o.Code == vsphere.CodeHost {
				r.doubt = o // the lease may name another address: the transfer will tell
				continue
			}
			r.note("%s", o.Text)
		}
		if len(fatal) > 0 {
			return &PreflightError{VM: r.vm.Path, Obstacles: fatal}
		}
		return nil
	}
}

// obstacles lists every obstacle at once: those at vSphere, those at the
// destination, and those of the steps that follow.
func (r *run) obstacles(ctx context.Context) ([]vsphere.Obstacle, error) {
	out, err := r.client.Preflight(ctx, r.vm, vsphere.PreflightOptions{
		Snapshot:    r.def.Options.Snapshot,
		RemoveCDROM: r.def.Options.RemoveCDROM,
		Shutdown:    r.def.Options.Shutdown,
		PowerOff:    r.def.Options.PowerOff,
		Mark:        r.markOptions(),
		Datastore:   r.wantsDatastore() && slices.ContainsFunc(r.vm.Disks, r.fromDatastore),
		NFC902:      r.def.Options.Transport == job.TransportNFC902 || r.def.Options.Transport == job.TransportVDDK,
		OrLease:     r.def.Options.Transport == job.TransportAuto,
		Known:       []string{r.work.Owed().Snapshot},
		Reach:       r.m.Reach,
	})
	out = append(out, r.datastoreObstacles()...)
	out = append(out, r.frozenObstacles(ctx)...)
	if err != nil {
		return out, err
	}
	if r.def.OutputPath == "" {
		return append(out, r.stepObstacles(ctx, r.steps())...), nil
	}
	return append(append(out, r.destination()...), r.stepObstacles(ctx, r.steps())...), nil
}

// Codes of the obstacles that a [Migrator] adds to those of package vsphere.
const (
	CodeOutputDir    = "output-directory"
	CodeOutputExists = "output-exists"
	CodeSpace        = "free-space"
)

// destination lists what is in the way at the output directory.
func (r *run) destination() []vsphere.Obstacle {
	if err := r.m.Outputs.Check(r.def.OutputPath); err != nil {
		return []vsphere.Obstacle{{Code: CodeOutputDir, Severity: vsphere.SeverityError, Text: err.Error(), Hint: Hint(err)}}
	}
	var out []vsphere.Obstacle
	if taken := r.taken(); taken != "" && !r.def.Options.Overwrite {
		out = append(out, vsphere.Obstacle{Code: CodeOutputExists, Severity: vsphere.SeverityError,
			Text: taken + " is there already",
			Hint: "choose another output directory, or replace what is there: " + workdir.Overwriting})
	}
	if o, fit := r.spaceObstacle(); fit != Fits {
		out = append(out, o)
	}
	return out
}
