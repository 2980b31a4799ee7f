package migrate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/kvm"
	"github.com/hyper2kvm/hyper2kvm/landing"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// Land brings a finished export, or what was converted, to the libvirt that def's
// options name, as the export itself would have, and asks no vCenter. The files may have
// been moved together since. Where the same landing has been done already, nothing is
// done again.
//
// The network map of def is of the networks that the exported domain has its cards on.
func (m *Migrator) Land(ctx context.Context, def job.Definition, e Exported, t *progress.Tracker) (result job.Result, err error) {
	r := m.newRun(def, t)
	receipt, end, err := r.openFinished(ctx, e.Base)
	defer func() { err = errors.Join(err, end()) }()
	switch {
	case err != nil:
		return result, err
	case receipt.Format.Streams():
		return result, fault.Permanent(fault.WithHint(fmt.Errorf("what was exported to %s is of format %s, which libvirt does not take", r.def.OutputPath, receipt.Format),
			"make images of it: hyper2kvm convert"))
	case !receipt.Restarted.IsZero():
		return result, r.outdated(receipt)
	}
	r.notes = slices.Clone(receipt.Result.Notes)
	s := &landingStep{run: r}
	if receipt.Did(string(s.phase()), s.asked()) {
		r.info("", "this was landed earlier")
		receipt.Result.Earlier = true
		return receipt.Result, nil
	}
	if s.here, err = r.planOf(receipt); err != nil {
		return result, err
	}
	if err := r.unobstructed(ctx, receipt.VMPath, s); err != nil {
		return result, err
	}
	if receipt.WasOn && r.def.Options.Start {
		r.note("the source %s is not asked whether it is off: it and the guest must not run at the same time", receipt.VMPath)
	}
	if err := r.take(ctx, s, &receipt); err != nil {
		return result, fmt.Errorf("%s: %w", s.phase(), err)
	}
	t.SetPhase(progress.Done)
	return receipt.Result, nil
}

// landingPlan is a landing that is known from the files of an export.
type landingPlan struct {
	landing.Plan
	xml []byte
}

// planOf is what the files of an export say of its landing.
func (r *run) planOf(receipt workdir.Receipt) (*landingPlan, error) {
	target := (&landingStep{run: r}).target()
	p := &landingPlan{}
	if receipt.Result.DomainXML != "" {
		// Beside the receipt, wherever that is now.
		xml, err := os.ReadFile(r.work.Final(filepath.Base(receipt.Result.DomainXML)))
		if err != nil {
			return nil, err
		}
		if p.Plan, p.xml, err = landing.OfDomain(xml, r.def.Options.NetworkMap); err != nil {
			return nil, err
		}
	} else if target.Defines() {
		return nil, fault.Permanent(fault.WithHint(fmt.Errorf("what is in %s has no libvirt domain", r.def.OutputPath),
			"its images can be brought into a storage pool: -pool without -define and -start"))
	}
	p.Target = target
	if _, moved := r.def.Options.Network(kvm.DefaultNetwork); !moved {
		p.Unmapped = receipt.Result.Unmapped // they are on it for want of another
	}
	for _, d := range receipt.Result.Disks {
		p.Images = append(p.Images, landing.Image{Path: r.work.Final(filepath.Base(d.File))})
	}
	return p, nil
}
