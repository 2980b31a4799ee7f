package jobs

import (
	"context"
	"slices"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// Outage is a vCenter that cannot be used, as daemons on a store tell each other.
type Outage struct {
	VCenter string // see [job.Definition.VCenterKey]
	State   VCenterState
	Reason  string
	Since   time.Time
	// Named is that the daemons' configuration has the vCenter, so that each of them can
	// ask it.
	Named bool
	Tries int           // probes in a row that failed, or that did not hold
	Wait  time.Duration // until it is asked again
	// New says, to the store, that the daemon does not know whether others have met it:
	// it is entered. Otherwise it goes on, unless it was over.
	New bool
	// Probed says, to the store, that the daemon has just asked by its claim: what it
	// found replaces what was known.
	Probed bool
}

// Outages is what a [Store] that several daemons share does so that a vCenter that one of
// them cannot use is asked by one at a time, and left alone by the others. An outage ends
// also when nobody who met it has said so for as long as hold.
type Outages interface {
	// ShareOutages tells of the outages that a daemon has met and that go on, and of
	// those that are over, and returns all that go on.
	ShareOutages(ctx context.Context, owner string, hold time.Duration, met []Outage, over []string) ([]Outage, error)
	// ClaimProbe reports whether owner is to ask the vCenter now: it is time, or now is
	// set, and nobody else is at it. The claim ends with what was found, or after hold.
	ClaimProbe(ctx context.Context, vcenter, owner string, hold time.Duration, now bool) (bool, error)
}

// share tells other daemons of outages, and hears of theirs, until ctx ends.
func (b *breaker) share(ctx context.Context) {
	if b.o.Outages == nil {
		return
	}
	tick := time.NewTicker(b.o.Heartbeat)
	defer tick.Stop()
	var trouble lastTrouble
	for {
		if err := b.exchange(ctx); ctx.Err() == nil && trouble.tell(err) {
			b.log.Warn("cannot tell other daemons which vCenters cannot be used; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-b.news:
		case <-tick.C:
		}
	}
}

// exchange does so once.
func (b *breaker) exchange(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.o.Heartbeat)
	defer cancel()
	met, over := b.told()
	all, err := b.o.Outages.ShareOutages(ctx, b.o.Owner, b.o.Hold, met, over)
	if err != nil {
		b.untold(met, over)
		return err
	}
	b.merge(all)
	return nil
}

// told are the outages to be told of.
func (b *breaker) told() (met []Outage, over []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for key, v := range b.vcenters {
		if v.state != "" && v.met && !v.alone {
			met = append(met, Outage{
				VCenter: key, State: v.state, Reason: v.reason, Since: v.since, Named: v.named,
				Tries: v.tries, Wait: max(0, v.next.Sub(now)), New: !v.shared, Probed: v.probed,
			})
			v.probed = false
		}
	}
	over, b.over = b.over, nil
	return met, over
}

// untold are outages of which the others could not be told.
func (b *breaker) untold(met []Outage, over []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = append(b.over, over...)
	for _, o := range met {
		if v := b.vcenters[o.VCenter]; o.Probed && v.state != "" {
			v.probed = true
		}
	}
}

// merge takes in the outages that go on.
func (b *breaker) merge(all []Outage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	listed := make(map[string]bool, len(all))
	for _, o := range all {
		if slices.Contains(b.over, o.VCenter) {
			continue // they do not know yet that it is over
		}
		listed[o.VCenter] = true
		v := b.vcenters[o.VCenter]
		if v == nil {
			v = &vcenter{}
			b.vcenters[o.VCenter] = v
		}
		if v.state == "" { // another daemon has met it
			v.met, v.alone, v.named = false, false, o.Named
			v.state, v.since = o.State, o.Since
			v.claim = Claimed{Job: jobAt(o.VCenter)}
			b.log.Warn("another daemon cannot use the vCenter: its jobs wait", "vcenter", vcenterName(o.VCenter), "state", o.State, "reason", o.Reason)
		}
		v.shared, v.alone = true, false
		if !v.met {
			v.state, v.reason = o.State, o.Reason
		}
		if !v.probing && !v.at && !v.probed {
			v.tries, v.next = o.Tries, now.Add(o.Wait)
		}
	}
	for key, v := range b.vcenters {
		switch {
		case v.state == "" || !v.shared || listed[key]:
		case v.met: // it is over elsewhere; whoever met it looks for himself
			v.shared, v.alone, v.next = false, true, now
			b.back()
		default:
			b.usable(key, v, now)
		}
	}
}

// jobAt is a job that the daemon's own user would do at the vCenter.
func jobAt(key string) models.Job {
	return models.Job{Definition: job.Definition{VCenter: key}}
}

// mayAsk claims the probe of a vCenter that other daemons have trouble with, too. When the
// store cannot say, this daemon asks for itself.
func (b *breaker) mayAsk(ctx context.Context, key string, now bool) bool {
	ctx, cancel := context.WithTimeout(ctx, b.o.Heartbeat)
	defer cancel()
	may, err := b.o.Outages.ClaimProbe(ctx, key, b.o.Owner, 2*probeTimeout, now)
	return may || err != nil
}

// postpone notes that another daemon asks.
func (b *breaker) postpone(v *vcenter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v.probing, v.at = false, false
	b.asking--
	v.next = time.Now().Add(b.o.ProbeMin)
}

// tell has others told, and heard, now.
func (b *breaker) tell() {
	select {
	case b.news <- struct{}{}:
	default:
	}
}
