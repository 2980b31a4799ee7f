package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// Stopping a VM that runs, and powering it on again.
//
// That the VM ran is in the ledger before anything is asked of it, and struck out when
// it runs again, or when it is to stay off: after the whole job has succeeded, or once
// what became of it may run in its place. A VM whose power state somebody else has
// changed meanwhile is left as it is.

// ErrStillOn: a guest that was asked to shut down did not.
var ErrStillOn = errors.New("the guest has not shut down")

// powerPause is how long a power state is believed.
const powerPause = time.Second

// willStop reports whether the VM runs and is to be stopped.
func (r *run) willStop() bool { return r.vm.Power == vsphere.PoweredOn && r.def.Options.Stops() }

// stop stops a VM that runs, if the job asks for that. Afterwards it is off.
func (r *run) stop(ctx context.Context) (stopped bool, err error) {
	if !r.willStop() {
		return false, nil
	}
	// What there is of its disks is from before it ran.
	if err := r.work.Restart(r.identity()); err != nil {
		return false, err
	}
	if err := r.halt(ctx); err != nil {
		return true, err
	}
	now, err := r.client.Refresh(ctx, r.vm)
	if err != nil {
		return true, err
	}
	if now.Power != vsphere.PoweredOff {
		return true, fault.WithHint(fmt.Errorf("%s is %s after it was stopped", r.vm.Path, now.Power),
			"see in vCenter's events who has powered it on (HA, automation, a person)")
	}
	r.vm = now
	return true, r.work.NotePowerSettled()
}

// halt shuts the guest down or powers the VM off, as the job says.
func (r *run) halt(ctx context.Context) error {
	o := r.def.Options
	if o.Shutdown && r.vm.ToolsRunning {
		err := r.shutDown(ctx, o.ShutdownWait())
		if err == nil || !o.PowerOff || ctx.Err() != nil {
			return err
		}
		r.note("%v: powering the VM off", err)
	} else if !o.PowerOff {
		return fault.WithHint(fmt.Errorf("%w: VMware Tools do not run in it", ErrStillOn), "shut it down from within, or have it powered off (-power-off)")
	}
	r.info("", "powering the VM off")
	var until time.Time // of a guest that was asked before
	if p := r.work.Owed().Power; p != nil {
		until = p.Until
	}
	return r.insist(ctx, "power the VM off",
		func(w vsphere.Wait) error { return r.work.NotePower(until, w) },
		func() error { return r.client.PowerOff(ctx, r.vm) },
		func() (bool, error) { return r.isOff(ctx) })
}

// shutDown has the guest shut down and waits until the VM is off.
func (r *run) shutDown(ctx context.Context, limit time.Duration) error {
	r.info("", "shutting the guest down, for which it has %s", limit)
	end := time.Now().Add(limit)
	err := r.insist(ctx, "shut the guest down",
		func(w vsphere.Wait) error { return r.work.NotePower(end.Add(r.arrivalWindow()), w) },
		func() error { return r.client.ShutdownGuest(ctx, r.vm) },
		func() (bool, error) { return r.isOff(ctx) })
	var lost *vsphere.PendingError
	if errors.As(err, &lost) && ctx.Err() == nil { // it may have been asked all the same
		err = r.work.NoteAnswer(nil)
	} else if err != nil && lost == nil {
		err = errors.Join(err, r.work.NotePowerSettled())
	}
	if err != nil {
		return err
	}
	defer r.slow("", "waiting until the guest has shut down").end()
	off, err := r.goesOff(ctx, end)
	if err == nil && !off {
		err = fault.WithHint(fmt.Errorf("%w within %s", ErrStillOn, limit),
			"look at its console for what it waits for; give it more time (-shutdown-timeout), or have it powered off then (-power-off)")
	}
	return err
}

// isOff reports whether the VM is off.
func (r *run) isOff(ctx context.Context) (bool, error) {
	power, err := r.client.Power(ctx, r.vm)
	return power == vsphere.PoweredOff, err
}

// goesOff looks until end whether the VM is off.
func (r *run) goesOff(ctx context.Context, end time.Time) (bool, error) {
	for {
		last := !time.Now().Before(end)
		if off, err := r.isOff(ctx); off || err != nil || last {
			return off, err
		}
		if err := sleep.For(ctx, min(powerPause, time.Until(end))); err != nil {
			return false, err
		}
	}
}

// returnPower powers a VM on again that was stopped, unless it is to stay off.
func (r *run) returnPower(ctx context.Context) error {
	p := r.work.Owed().Power
	if p == nil || r.staysOff {
		return nil
	}
	if p.Exported && r.unsettled != nil {
		return errors.New("what has become of the VM may run: a step after the export is not settled")
	}
	if p.Exported && r.landed() {
		r.note("%s stays off: what has become of it may run", r.vm.Path)
		return r.work.StrikePower()
	}
	off, err := r.goesOff(ctx, time.Now())
	if err == nil && !off && time.Now().Before(p.Until) {
		waiting := r.slow("", "the guest was asked to shut down and may still do so: waiting until %s", p.Until.Local().Format(time.TimeOnly))
		off, err = r.goesOff(ctx, p.Until)
		waiting.end()
		if ctx.Err() != nil && err != nil {
			err = &vsphere.PendingError{Wait: r.waitFor("shut the guest down"), Err: fmt.Errorf("the guest was asked to shut down and may still do so: %w", err)}
		}
	}
	switch {
	case err != nil:
		return err
	case !off: // by itself, or by somebody else
		r.info("", "%s is not off: its power state is left as it is", r.vm.Path)
		return errors.Join(r.work.ForgetDisks(), r.work.StrikePower())
	}
	return r.powerOn(ctx, p.Exported)
}

// powerOn powers the VM on. From then on the disks that were fetched are older than it,
// which is written down before.
func (r *run) powerOn(ctx context.Context, exported bool) error {
	if exported {
		if err := r.outdate(); err != nil {
			return err
		}
	}
	if err := r.work.ForgetDisks(); err != nil {
		return err
	}
	var err error
	for range asks {
		err = r.changeBack(workdir.DebtPower, "power the VM on", func() error { return r.client.PowerOn(ctx, r.vm) })
		var lost *vsphere.PendingError
		if !errors.As(err, &lost) || lost.Ref != "" || ctx.Err() != nil {
			break
		}
		off, uerr := r.isOff(ctx) // what is not on yet is asked for again: that is refused where it runs
		if uerr == nil && !off {
			err = r.work.NoteAnswer(nil)
			break
		}
	}
	if err != nil {
		return err
	}
	r.info("", "%s was powered on again", r.vm.Path)
	return r.work.StrikePower()
}

// landed reports whether the receipt says that the export has become a machine.
func (r *run) landed() bool {
	receipt, err := r.work.ReadReceipt()
	return err != nil || landedBy(receipt) // without a receipt nobody knows
}

func landedBy(receipt workdir.Receipt) bool {
	for _, s := range receipt.Steps {
		if s.Name == string(progress.Landing) {
			return true
		}
	}
	return false
}

// outdate makes the receipt say that the VM runs again.
func (r *run) outdate() error {
	receipt, err := r.work.ReadReceipt()
	if err != nil {
		return err
	}
	receipt.Restarted = time.Now().UTC().Truncate(time.Second)
	return r.work.WriteReceipt(&receipt)
}

// outdated is the error of an export whose VM runs again since.
func (r *run) outdated(receipt workdir.Receipt) error {
	return fault.Permanent(fault.WithHint(
		fmt.Errorf("%w: the VM was powered on again at %s, after it was exported: the disks in %s are older than it is",
			ErrExists, receipt.Restarted.Local().Format(time.DateTime), r.def.OutputPath),
		"export it again: "+workdir.Overwriting))
}
