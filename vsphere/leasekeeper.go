package vsphere

import (
	"context"
	"fmt"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
)

// Keep renews the lease until ctx ends, and then returns nil. percent tells how
// far the download has come, from 0 to 100; an unchanged number renews as well
// (F-NFC-4), and a nil function counts as 0.
//
// A renewal is due every third of the lease's time. One that fails is tried
// again for as long as the lease can still live, counted from the start of the
// last renewal that succeeded; after that, and as soon as vSphere says that the
// lease is gone, Keep returns an error that is [ErrLeaseLost]: nothing more can
// be fetched, so the download is to be stopped.
func (l *Lease) Keep(ctx context.Context, percent func() int) error {
	k := keeper{timeout: l.timeout, renew: func(ctx context.Context) error {
		p := 0
		if percent != nil {
			p = min(max(percent(), 0), 100)
		}
		_, err := methods.HttpNfcLeaseProgress(ctx, l.client.vim(), &types.HttpNfcLeaseProgress{This: l.ref, Percent: int32(p)})
		if err == nil {
			l.mu.Lock()
			l.renewed = time.Now()
			l.mu.Unlock()
		}
		if tell := l.client.cfg.OnRenewal; tell != nil && ctx.Err() == nil {
			tell(err)
		}
		return err
	}}
	if err := k.run(ctx); err != nil {
		return &Error{
			Op: "keep the export lease", On: l.on, Kind: ErrLeaseLost, Err: plainFault(err),
			Hint: "the export has to begin again with a new lease",
		}
	}
	return nil
}

// Renewed is when [Lease.Keep] last had a renewal answered, the zero time before
// the first: proof that the service answers calls on this lease.
func (l *Lease) Renewed() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.renewed
}

// keeper is the policy of [Lease.Keep], apart from the calls.
type keeper struct {
	timeout time.Duration
	renew   func(context.Context) error
}

// run returns nil when ctx ends, and the last failure when the lease is lost.
func (k keeper) run(ctx context.Context) error {
	alive := time.Now() // the lease lives at least timeout from here on
	for {
		began := time.Now()
		err := k.attempt(ctx, alive.Add(k.timeout))
		if ctx.Err() != nil {
			return nil
		}
		wait := k.timeout / 3
		switch left := k.timeout - time.Since(alive); {
		case err == nil:
			alive = began
			wait -= time.Since(began)
		case gone(err):
			return err
		case left <= 0:
			return fmt.Errorf("not renewed for %v: %w", k.timeout, err)
		default:
			wait = min(k.timeout/30, left)
		}
		if sleep.For(ctx, wait) != nil {
			return nil
		}
	}
}

// attempt renews once, in bounded time: an answer that does not come must not
// use up the time that a second attempt would need.
func (k keeper) attempt(ctx context.Context, deadline time.Time) error {
	if soon := time.Now().Add(k.timeout / 6); soon.Before(deadline) {
		deadline = soon
	}
	call, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	return k.renew(call)
}

// gone says whether a failed renewal tells that the lease has ended, or that
// no further one will succeed.
func gone(err error) bool {
	return isFault(err, over...) || isFault(err, "NotAuthenticated", "InvalidLogin", "NoPermission")
}

// plainFault words a fault or network error without saying of what.
func plainFault(err error) error {
	e := &Error{Err: plain(err)}
	if faultOf(err) != nil {
		e.explainFault(err)
	}
	return e.Err
}
