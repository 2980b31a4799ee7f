package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/kvm"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// Here is a machine that is described here, and of which no vCenter is asked.
type Here struct {
	Base  string    // of the names of its files
	Guest kvm.Guest // as it was; the paths of its disks are not looked at
	// Capacities are those of its disks, in bytes.
	Capacities []int64
	// Bare: little but the disks is known, and nothing that describes a machine is written.
	Bare bool
	// Network is what VMware Tools have reported of the guest; nil is nothing.
	Network *job.GuestNetwork
}

// InsideHere is what is done inside the disks of a machine that is here, as the options of a
// job ask for it: the guest is converted, and keeps its addresses.
type InsideHere struct {
	r       *run
	checked bool
}

// InsideHere is what def asks to be done inside the disks of a machine, once its images are in
// def's output directory and have a receipt. Nothing is done yet.
func (m *Migrator) InsideHere(def job.Definition, h Here, t *progress.Tracker) *InsideHere {
	r := m.newRun(def, t)
	r.here = &h
	r.vm = vsphere.VM{
		Name: h.Guest.Name, Path: def.VMPath, GuestID: h.Guest.GuestID, GuestFullName: h.Guest.GuestFullName, Power: vsphere.PoweredOff,
	}
	for _, c := range h.Capacities {
		r.vm.Disks = append(r.vm.Disks, vsphere.Disk{Capacity: c})
	}
	for _, n := range h.Guest.NICs {
		r.vm.NICs = append(r.vm.NICs, vsphere.NIC{MAC: n.MAC, Type: n.Model, Network: n.Network})
	}
	return &InsideHere{r: r}
}

// Check says what is in the way of it, without changing anything: a [PreflightError], and
// warnings as events.
func (i *InsideHere) Check(ctx context.Context) error {
	i.checked = true
	return i.r.unobstructed(ctx, i.r.vm.Path, &insideStep{i.r})
}

// Settle makes an end of what an earlier run has begun with the machine's files and not
// ended, whatever step that was. work is the work directory, which stays the caller's.
func (i *InsideHere) Settle(ctx context.Context, work *workdir.Dir) error {
	i.r.work = work
	defer func() { i.r.work = nil }()
	return i.r.settleStep(ctx)
}

// Asked reports whether anything is asked for.
func (i *InsideHere) Asked() bool { return (&insideStep{i.r}).asked() != "" }

// Do does it, or what of it an earlier run has not done: all of it, or nothing. It counts
// into the tracker, and returns the result of the whole.
func (i *InsideHere) Do(ctx context.Context) (result job.Result, err error) {
	r := i.r
	receipt, end, err := r.openFinished(ctx, r.here.Base)
	defer func() { err = errors.Join(err, end()) }()
	if err != nil {
		return result, err
	}
	r.notes = append(slices.Clone(receipt.Result.Notes), r.notes...)
	s := &insideStep{r}
	if len(s.missing(&receipt)) == 0 {
		receipt.Result.Earlier = true
		return receipt.Result, nil
	}
	if !i.checked {
		if err := i.Check(ctx); err != nil {
			return result, err
		}
	}
	if err := r.take(ctx, s, &receipt); err != nil {
		return result, fault.WithHint(fmt.Errorf("%s: %w", s.phase(), err), r.hintAfterExport(err))
	}
	return receipt.Result, nil
}

// openFinished opens what is finished in the output directory under a base of file names,
// settles what was begun with it, and reads its receipt. end is to be called in any case.
func (r *run) openFinished(ctx context.Context, base string) (receipt workdir.Receipt, end func() error, err error) {
	end = func() error { return nil }
	if err := r.absolute(); err != nil {
		return receipt, end, err
	}
	if r.work, err = workdir.Open(r.m.Outputs, r.def.OutputPath, base); err != nil {
		return receipt, end, err
	}
	end = func() error { return errors.Join(r.unsettled, r.work.Close(true)) }
	if err := r.settleStep(ctx); err != nil {
		return receipt, end, err
	}
	if receipt, err = r.work.ReadReceipt(); err != nil {
		return receipt, end, err
	}
	if why := r.work.Broken(receipt); why != "" {
		return receipt, end, fault.Permanent(fmt.Errorf("what was exported to %s is not whole: %s", r.def.OutputPath, why))
	}
	return receipt, end, nil
}

// unobstructed says what is in the way of steps after the export of a VM, or that nothing
// is.
func (r *run) unobstructed(ctx context.Context, vm string, steps ...step) error {
	var fatal []vsphere.Obstacle
	for _, o := range r.stepObstacles(ctx, steps) {
		if o.Severity == vsphere.SeverityError {
			fatal = append(fatal, o)
		} else {
			r.note("%s", o.Text)
		}
	}
	if len(fatal) > 0 {
		return &PreflightError{VM: vm, Obstacles: fatal, Exported: true}
	}
	return nil
}
