package migrate

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// ErrNoExport: there is no finished export to go back from.
var ErrNoExport = errors.New("no finished export is there")

// Exported is a finished export, for whoever wants to go back to its source.
type Exported struct {
	VM     string // inventory path when it was exported
	Base   string // how its files begin
	Domain string // path of the libvirt domain; "" for an OVF
	WasOn  bool   // the source ran before it was stopped for the export
	Marked bool   // the source is marked
	Landed bool   // a machine was made of it
}

// Exports lists the finished exports in an output directory that are of the VM, which
// may be named by its path, name or UUID; "" is every VM.
func (m *Migrator) Exports(output, vm string) ([]Exported, error) {
	r := m.newRun(job.Definition{OutputPath: output}, progress.New())
	if err := r.absolute(); err != nil {
		return nil, err
	}
	bases, err := workdir.Receipts(m.Outputs, r.def.OutputPath)
	if err != nil {
		return nil, err
	}
	var out []Exported
	for _, base := range bases {
		w, _ := workdir.Peek(m.Outputs, r.def.OutputPath, base)
		receipt, err := w.ReadReceipt()
		w.Release()
		if err != nil {
			return nil, fmt.Errorf("the receipt of %s: %w", base, err)
		}
		if vm != "" && vm != receipt.VMPath && vm != path.Base(receipt.VMPath) && vm != receipt.InstanceUUID && vm != base {
			continue
		}
		out = append(out, Exported{
			VM: receipt.VMPath, Base: base, Domain: receipt.Result.DomainXML, WasOn: receipt.WasOn,
			Marked: receipt.Mark != nil, Landed: landedBy(receipt),
		})
	}
	return out, nil
}

// Rollback makes the source of a finished export what it was: its marks are undone, and it is powered on if
// it ran. Whoever calls it has stopped what became of it. The exported files stay; the
// receipt says that they are older than the VM when that runs. t tells what was done.
// left names what somebody else has changed at the source since, and what is left
// as it is for that. It may be called again, also after an error.
func (m *Migrator) Rollback(ctx context.Context, output string, e Exported, t *progress.Tracker) (left []string, err error) {
	r := m.newRun(job.Definition{OutputPath: output, VMPath: e.VM}, t)
	if err := r.absolute(); err != nil {
		return nil, err
	}
	if r.work, err = workdir.Open(m.Outputs, r.def.OutputPath, e.Base); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.work.Close(true)) }()
	if err := r.settleStep(ctx); err != nil {
		return nil, err
	}
	receipt, err := r.work.ReadReceipt()
	if err != nil {
		return nil, err
	}
	err = r.connect(ctx, func(ctx context.Context) (err error) {
		r.vm, err = r.client.Find(ctx, receipt.InstanceUUID)
		if errors.Is(err, vsphere.ErrNotFound) {
			err = fault.Permanent(fmt.Errorf("the source %s is gone, so that there is nothing to go back to: %w", receipt.VMPath, err))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	defer r.hangUp(ctx)
	if left, err = r.unmark(ctx, &receipt); err != nil {
		return left, err
	}
	stays, err := r.startAgain(ctx, &receipt)
	return append(left, stays...), err
}

// unmark undoes the marks of the source.
func (r *run) unmark(ctx context.Context, receipt *workdir.Receipt) (left []string, err error) {
	if receipt.Mark == nil {
		r.info("", "%s: not marked", r.vm.Path)
		return nil, nil
	}
	if left, err = r.client.Undo(ctx, r.vm, *receipt.Mark); err != nil {
		return left, err
	}
	r.info("", "%s: its marks are undone", r.vm.Path)
	receipt.Mark = nil
	receipt.Steps = without(receipt.Steps, progress.Finishing)
	return left, r.work.WriteReceipt(receipt)
}

func without(steps []workdir.StepDone, phase progress.Phase) []workdir.StepDone {
	var out []workdir.StepDone
	for _, s := range steps {
		if s.Name != string(phase) {
			out = append(out, s)
		}
	}
	return out
}

// startAgain powers the source on if it ran.
func (r *run) startAgain(ctx context.Context, receipt *workdir.Receipt) (left []string, err error) {
	if !receipt.WasOn {
		r.info("", "%s: its power state is left alone, for the export did not stop it", r.vm.Path)
		return nil, nil
	}
	power, err := r.client.Power(ctx, r.vm)
	if err != nil {
		return nil, err
	}
	if receipt.Restarted.IsZero() { // before it is so: the disks are old from then on
		receipt.Restarted = time.Now().UTC().Truncate(time.Second)
		if err := r.work.WriteReceipt(receipt); err != nil {
			return nil, err
		}
	}
	switch power {
	case vsphere.PoweredOn:
		r.info("", "%s: runs already", r.vm.Path)
		return nil, nil
	case vsphere.PoweredOff:
		return nil, r.powerOn(ctx, false)
	}
	return []string{"the VM is " + power + " now"}, nil
}
