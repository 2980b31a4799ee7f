package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// What a lease's manifest says of a file is the only word of vSphere on what it
// has sent (F-NFC-12). A host may enter a file some time after its last byte has
// arrived here, and vCenter, through which the manifest is read, may be away
// just then. Neither is a reason to do without: a run waits.

// manifestPatience is how long a run waits for a manifest that can be read and
// does not list a file; manifestPause is between two looks at it, growing to the
// greatest one.
const (
	manifestPatience = 30 * time.Second
	manifestPause    = 200 * time.Millisecond
	maxManifestPause = 2 * time.Second
)

// lookTimeout bounds a look at the manifest that may as well be taken later.
const lookTimeout = 10 * time.Second

// extraPatience is the share of the patience that a file has which is no disk,
// in a manifest that lists others (F-NFC-22).
const extraPatience = 6

// unvouched says why no manifest vouches for a file that has arrived.
type unvouched struct {
	why      string
	verified job.Verification // how a disk is verified instead
	final    bool             // another lease of this host would have no manifest either
}

func (u *unvouched) Error() string { return u.why }

// lostManifest is for files whose lease ended before its manifest was read.
var lostManifest = &unvouched{why: "the lease ended before its manifest was read", verified: job.ByGrains}

// awaitManifest reads the manifest of lease until look, which is called with
// what it lists, says that it has seen enough, or fails. The error is an
// *unvouched when the host has no manifest, when patience is over, and when
// vCenter has not given one for as long as a lease can live without it; it is
// errLater when the lease is lost.
func (r *run) awaitManifest(ctx context.Context, lease *vsphere.Lease, patience func(listed int) time.Duration, look func([]vsphere.ManifestEntry) (enough bool, err error)) error {
	waiting := r.slow("", "waiting for the host's manifest, which says what it has sent")
	defer waiting.end()
	began := time.Now() // of the time in which it could be read
	var away time.Time  // since when it cannot be read
	for pause := manifestPause; ; pause = min(2*pause, maxManifestPause) {
		asked := time.Now()
		entries, err := lease.Manifest(ctx)
		switch {
		case errors.Is(err, vsphere.ErrUnsupported):
			return &unvouched{why: "the host offers no manifest", verified: job.ByEndOfStream, final: true}
		case err != nil && !passing(ctx, err):
			return fmt.Errorf("read the lease's manifest: %w", leaseError(ctx, err))
		case err != nil:
			if away.IsZero() {
				away = asked
			}
			// Who has answered another call on the lease meanwhile will not answer this one.
			limit := lease.Timeout()
			if !errors.Is(err, vsphere.ErrUnreachable) { // an answer, though not the one that is wanted
				limit = patience(0)
			}
			answers := time.Since(lease.Renewed()) < time.Since(asked)/2
			if answers || time.Since(away) > limit {
				return &unvouched{why: fmt.Sprintf("its manifest could not be read: %v", err), verified: job.ByGrains}
			}
		default:
			if !away.IsZero() {
				began, away = time.Now(), time.Time{}
			}
			if enough, err := look(entries); enough || err != nil {
				return err
			}
			if limit := patience(len(entries)); time.Since(began) >= limit {
				return &unvouched{why: fmt.Sprintf("the host's manifest did not list it within %s", limit), verified: job.ByEndOfStream}
			}
		}
		if err := sleep.For(ctx, pause); err != nil {
			return leaseError(ctx, err)
		}
	}
}

// patience is how long the manifest may take to list a disk.
func (r *run) patience(int) time.Duration { return cmp.Or(r.m.ManifestPatience, manifestPatience) }

// passing says whether the failure of a call on a lease may be over the next
// time, while the lease lives.
func passing(ctx context.Context, err error) bool {
	if ctx.Err() != nil || errors.Is(err, vsphere.ErrLeaseLost) {
		return false
	}
	return errors.Is(err, vsphere.ErrBusy) || transfer.Temporary(err) && !refused(err)
}

// leaseError says which failures of a call on a lease another one may mend: a
// lease that is lost, and whatever passes by itself.
func leaseError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errLater) {
		return cause
	}
	if ctx.Err() == nil && (errors.Is(err, vsphere.ErrLeaseLost) || passing(ctx, err)) {
		return fmt.Errorf("%w: %w", errLater, err)
	}
	return err
}
