package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// How often a run looks whether a VM is free that is busy with a lease that
// nobody renews.
const (
	minStalePause = 500 * time.Millisecond
	maxStalePause = 5 * time.Second
)

// openLease opens a lease, and enters its id into the ledger. That it does so is
// written down first: a run that dies before the id is there leaves a lease that
// nobody can abort, and the next run must know that the VM is busy only until it
// times out.
func (r *run) openLease(ctx context.Context) (*vsphere.Lease, error) {
	if err := r.endLease(ctx); err != nil {
		r.log.Info("an earlier lease is still there", "error", err)
	}
	was := r.work.Owed()
	lease, err := r.askLease(ctx, was.Lease != "" || time.Now().Before(was.BusyUntil))
	var left *vsphere.LeftLeaseError
	switch {
	case err == nil:
		r.t.Count(progress.LeasesOpened)
		if err := r.work.NoteLease(lease.Ref()); err != nil {
			return nil, errors.Join(err, r.closeLease(ctx, lease, false))
		}
		return lease, nil
	case errors.As(err, &left):
		return nil, errors.Join(err, r.work.NoteLeftLease(left.Ref, workdir.StaleLease))
	case errors.Is(err, vsphere.ErrUncertain):
		return nil, err // the ledger says so already
	}
	return nil, errors.Join(err, r.work.NoteRefused(was))
}

// askLease asks for a lease until it has one. A VM that is busy is waited for when
// it may be a stale lease that keeps it so.
func (r *run) askLease(ctx context.Context, stale bool) (*vsphere.Lease, error) {
	deadline := time.Now().Add(workdir.StaleLease)
	var waiting *slow
	defer func() {
		if waiting != nil {
			waiting.end()
		}
	}()
	for pause := minStalePause; ; pause = min(2*pause, maxStalePause) {
		if err := r.work.NoteAsking(); err != nil {
			return nil, err
		}
		opening := r.slow("", "waiting for the export lease")
		lease, err := r.client.OpenLease(ctx, r.target)
		opening.end()
		switch {
		case err == nil:
			return lease, nil
		case !errors.Is(err, vsphere.ErrBusy):
			if transfer.Temporary(err) && !refused(err) {
				err = fmt.Errorf("%w: %w", errLater, err)
			}
			return nil, err
		case !stale:
			return nil, fmt.Errorf("%w: %w", errLater, err)
		case time.Now().After(deadline):
			return nil, err
		}
		if waiting == nil {
			waiting = r.slow("", "the VM is busy, probably with a lease that an earlier run left: waiting for it to time out")
		}
		if err := sleep.For(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// renewed counts a renewal of the lease.
func (r *run) renewed(err error) {
	if err != nil {
		r.t.Count(progress.LeaseRenewalFailures)
		return
	}
	r.t.Count(progress.LeaseRenewals)
}

// refused says whether vSphere itself has said no, and will again.
func refused(err error) bool {
	for _, no := range []error{
		vsphere.ErrBusy, vsphere.ErrPoweredOn, vsphere.ErrNotExportable, vsphere.ErrNoPermission, vsphere.ErrNotFound, vsphere.ErrLogin,
	} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// closeLease completes a lease whose every file is here and verified, and aborts
// any other, or one that cannot be completed: all that it does then is to lock
// the VM. The ledger forgets it only when it has ended.
func (r *run) closeLease(ctx context.Context, lease *vsphere.Lease, complete bool) error {
	if complete {
		ending := r.slow("", "waiting for the end of the export lease")
		err := lease.Complete(ctx)
		ending.end()
		if err == nil {
			return r.work.NoteLease("")
		}
		r.unlocked = errors.Is(err, vsphere.ErrLeaseLost)
		r.note("completing the lease: %v", err)
	}
	if err := lease.Abort(ctx, "the export did not complete"); err != nil {
		r.note("%v; the VM stays locked until the lease times out, within %s", err, lease.Timeout())
		return r.work.NoteLeftLease(lease.Ref(), lease.Timeout())
	}
	return r.work.NoteLease("")
}

// endLease aborts the lease that an earlier run, or an earlier try of this one,
// could not end. Whether another session's abort takes effect is not known
// (F-NFC-20): until the lease must have timed out, a VM that is busy is waited
// for.
func (r *run) endLease(ctx context.Context) error {
	ref := r.work.Owed().Lease
	if ref == "" {
		return nil
	}
	r.info("", "aborting a lease that was left open")
	if err := r.client.AbortLease(ctx, ref); err != nil {
		return err
	}
	return r.work.StrikeLease()
}
