package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/panics"
	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// How often a run opens a lease again without having finished a disk since,
// and the pauses between.
const (
	maxLeases  = 6
	leasePause = time.Second
	maxPause   = 30 * time.Second
)

// maxStrangers is how often in a row a host may show another certificate than its
// lease tells, without a byte in between: once is a certificate that was renewed,
// and the next lease tells the new one.
const maxStrangers = 2

// errLater marks an error that a new lease may mend.
var errLater = errors.New("a new lease may help")

// export fetches every disk and the NVRAM, under as many leases as it takes: one
// for all disks as a rule, another one after a lease was lost, and one for
// each disk where the host sends empty streams under a shared one (F-NFC-13).
func (r *run) export(ctx context.Context) error {
	r.t.SetPhase(progress.Exporting)
	pauses := &backoff.ExponentialBackOff{InitialInterval: cmp.Or(r.m.LeasePause, leasePause), Multiplier: 2, RandomizationFactor: 0.2, MaxInterval: maxPause}
	pauses.Reset()
	separate, failures, strangers, finished := false, 0, 0, r.finished()
	var received int64 // when a host was last a stranger
	if !r.ovf() {
		r.extras = []extra{} // there are none to fetch
	}
	extras := len(r.extras)
	for {
		err := r.settle(ctx)
		if err == nil && len(r.pending()) == 0 && r.extras != nil {
			return nil
		}
		if err == nil {
			err = r.lease(ctx, separate)
		}
		n := r.finished()
		if n > finished || len(r.extras) > extras {
			failures = 0
			pauses.Reset()
		}
		finished, extras = n, len(r.extras)
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil:
			return err
		case errors.Is(err, transfer.ErrEmptyBody) && !separate:
			separate = true
			r.info("", "the host sends an empty stream under a lease for several disks: taking a lease for each")
			continue
		case errors.Is(err, transfer.ErrEmptyBody):
			return fault.WithHint(fmt.Errorf("%w: %w", ErrEmptyStream, err), "look at the host's hostd.log for NFC errors; with vSAN, try another host")
		case !errors.Is(err, errLater):
			return err
		}
		if errors.Is(err, vsphere.ErrThumbprint) {
			if now := r.t.Snapshot().Received(); now > received { // it was the right one since
				strangers, received = 0, now
			}
			strangers++
		}
		if failures++; failures >= maxLeases || strangers >= maxStrangers {
			return fmt.Errorf("after %d leases without progress: %w", failures, err)
		}
		pause := pauses.NextBackOff()
		r.info("", "%v; opening another lease in %s", err, pause.Round(100*time.Millisecond))
		if err := sleep.For(ctx, pause); err != nil {
			return err
		}
	}
}

// pending are the disks that are not verified yet.
func (r *run) pending() []*diskRun {
	var out []*diskRun
	for _, d := range r.disks {
		if d.state != verified {
			out = append(out, d)
		}
	}
	return out
}

func (r *run) finished() int { return len(r.disks) - len(r.pending()) }

// lease fetches what is not verified yet under one lease: all disks, or with
// separate the first of them, and the NVRAM. The lease is kept alive beside the
// download; a lost lease stops it.
func (r *run) lease(ctx context.Context, separate bool) (err error) {
	lease, err := r.openLease(ctx)
	if err != nil {
		return err
	}
	complete := false
	defer func() { err = errors.Join(err, r.closeLease(ctx, lease, complete)) }()
	work, cancel := context.WithCancelCause(ctx)
	keep, stopKeeper := context.WithCancel(work)
	kept := make(chan error, 1)
	go func() {
		err := panics.Catch(func() error {
			return later(lease.Keep(keep, func() int { return int(r.t.Snapshot().Percent()) }))
		})
		if err != nil {
			cancel(err)
		}
		kept <- err
	}()
	err = panics.Catch(func() error { // of whatever kind its end is, the keeper's comes first
		if err := r.sameState(work); err != nil {
			return err
		}
		group := r.pending()
		if separate && len(group) > 1 {
			group = group[:1]
		}
		return r.fetchGroup(work, lease, group)
	})
	stopKeeper()
	lost := <-kept
	cancel(nil)
	if lost != nil {
		r.t.Count(progress.LeasesLost)
		r.unlocked = true
		return lost
	}
	if err != nil {
		return err
	}
	complete = true
	return nil
}

// later marks err, if it is one, as one that a new lease may mend.
func later(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errLater, err)
}

// fetchGroup moves the group's disks side by side. An empty stream leaves the
// other disks alone; any other failure stops them.
func (r *run) fetchGroup(ctx context.Context, lease *vsphere.Lease, group []*diskRun) error {
	algorithm, err := r.checksumType(ctx, lease)
	if err != nil {
		return err
	}
	if err := r.wantsManifest(ctx, lease); err != nil {
		return err
	}
	if err := r.match(lease, group, algorithm); err != nil {
		return err
	}
	parallel := r.def.Options.ParallelDownloads
	atOnce := max(1, min(parallel, len(group)))
	window := transfer.DefaultWindow / int64(atOnce) // all together hold what one may
	o := pace{transfer.Options{Workers: parallel / atOnce, Window: window}, max(2, disk.DefaultWorkers()/atOnce)}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	empty := make([]error, len(group))
	for i, d := range group {
		g.Go(func() error {
			err := d.move(gctx, o)
			if errors.Is(err, transfer.ErrEmptyBody) {
				empty[i] = err
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return classify(ctx, err)
	}
	if err := r.verify(ctx, lease, group); err != nil {
		return classify(ctx, err)
	}
	if err := errors.Join(empty...); err != nil {
		return err
	}
	return classify(ctx, r.fetchExtras(ctx, lease))
}

// checksumType asks for SHA-256 in the manifest, and returns the algorithm that
// it will have.
func (r *run) checksumType(ctx context.Context, lease *vsphere.Lease) (string, error) {
	err := lease.SetSHA256(ctx)
	if errors.Is(err, vsphere.ErrUnsupported) {
		return algSHA1, nil
	}
	return algSHA256, leaseError(ctx, err)
}

// wantsManifest ends the run before a byte moves when the job wants a manifest to
// vouch for every disk and the host has none.
func (r *run) wantsManifest(ctx context.Context, lease *vsphere.Lease) error {
	if r.def.Options.Verify != job.VerifyManifest {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if _, err := lease.Manifest(ctx); errors.Is(err, vsphere.ErrUnsupported) {
		return withoutManifestError(err)
	}
	return nil // whatever else it is shows when the manifest is needed
}

// classify says which failures of a download a new lease may mend: a lost
// lease, and refusals that come of a lease or session that has ended.
func classify(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, ErrDatastore) || errors.Is(err, ErrNFC902) || errors.Is(err, ErrVDDK) {
		return err
	}
	if cause := context.Cause(ctx); errors.Is(cause, errLater) {
		return cause
	}
	if errors.Is(err, vsphere.ErrLeaseLost) && !errors.Is(err, errLater) {
		return later(err)
	}
	var status *transfer.StatusError
	if errors.As(err, &status) && (status.Code == 401 || status.Code == 403 || status.Code == 404 || status.Code == 410) {
		return later(err)
	}
	if errors.Is(err, vsphere.ErrThumbprint) { // it may have been renewed: a new lease names the new one
		return later(err)
	}
	return err
}

// match gives each disk its item. Items that are no disks are ISO and floppy
// images, and the NVRAM (F-NFC-14).
func (r *run) match(lease *vsphere.Lease, group []*diskRun, algorithm string) error {
	for _, d := range group {
		item, err := lease.Disk(d.disk)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNotOffered, err)
		}
		d.lease.under(lease, item, algorithm)
	}
	return nil
}
