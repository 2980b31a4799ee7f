package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// The disks of an export are of one state of the VM. While a lease is open the VM
// cannot be powered on (F-NFC-1); between two leases it can, and its disks may be
// others afterwards. So a run reads the VM again after each lease that it opens,
// and before it keeps anything of a lease that was lost. What is left of another state
// is fetched again. A temporary snapshot stays what it is, whatever becomes of
// its VM. That leases themselves change nothing of the VM is F-NFC-21.

// maxStates is how often a run begins again because the VM has changed.
const maxStates = 3

// ErrChanging: the VM changed between two leases, and again after that.
var ErrChanging = errors.New("the VM keeps changing while it is exported")

// sameState reads the VM and, when it is not what the run knows any more, makes
// the run begin again with the VM as it is now. The error is errLater when the
// open lease is of no use because it was matched with other disks.
func (r *run) sameState(ctx context.Context) error {
	if r.target.Snapshot.Ref != "" {
		return nil
	}
	now, err := r.client.Refresh(ctx, r.vm)
	if err != nil {
		return leaseError(ctx, err)
	}
	what := difference(r.vm, now)
	if what == "" {
		return nil
	}
	known := r.known()
	if known {
		if r.states++; r.states >= maxStates {
			return fault.WithHint(fmt.Errorf("%w: %d times between two leases, at last in %s", ErrChanging, r.states, what),
				"see in vCenter's events who changes it (backup, automation, a person) and export it when it is left alone, or from a temporary snapshot while it runs")
		}
	}
	before := r.vm
	if err := r.beginState(now); err != nil {
		return err
	}
	if known {
		r.note("the VM was changed in %s between two leases: its disks are fetched again, so that all are of one state", what)
	}
	if !slices.Equal(before.Disks, now.Disks) {
		return fmt.Errorf("%w: the VM has other disks than when the lease was asked for", errLater)
	}
	return nil
}

// difference names what tells one state of a VM from another; "" when nothing
// does.
func difference(a, b vsphere.VM) string {
	switch {
	case a.Power != b.Power:
		return "its power state"
	case !slices.Equal(a.Disks, b.Disks):
		return "its disks"
	case a.ChangeVersion != b.ChangeVersion:
		return "its configuration"
	}
	return ""
}

// known reports whether the run has anything of the VM's state yet.
func (r *run) known() bool {
	done, partial := r.work.Kept()
	return done+partial > 0 || r.ovf() && len(r.extras) > 0
}

// beginState makes the run one of the VM as it is now, of which nothing was
// fetched yet.
func (r *run) beginState(now vsphere.VM) error {
	r.vm, r.target.VM = now, now
	if r.ovf() {
		r.extras = nil
	}
	if err := r.work.Restart(r.identity()); err != nil {
		return err
	}
	r.planDisks()
	return nil
}
