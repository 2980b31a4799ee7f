package memory

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
)

// outage is one that goes on until then. Its Wait is in next.
type outage struct {
	jobs.Outage
	next    time.Time // all by the steady clock
	until   time.Time
	prober  string
	probing time.Time
}

// ShareOutages implements [jobs.Outages].
func (s *Store) ShareOutages(ctx context.Context, owner string, hold time.Duration, met []jobs.Outage, over []string) ([]jobs.Outage, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Steady()
	s.outages = slices.DeleteFunc(s.outages, func(o *outage) bool { return slices.Contains(over, o.VCenter) || !o.until.After(now) })
	for _, m := range met {
		i := slices.IndexFunc(s.outages, func(o *outage) bool { return o.VCenter == m.VCenter })
		if i < 0 && !m.New {
			continue
		}
		if i < 0 {
			s.outages = append(s.outages, &outage{Outage: m, next: now.Add(m.Wait), until: now.Add(hold)})
			continue
		}
		o := s.outages[i]
		if until := now.Add(hold); until.After(o.until) {
			o.until = until
		}
		if m.Probed && o.prober == owner {
			m.Named = o.Named
			o.Outage, o.next, o.prober, o.probing = m, now.Add(m.Wait), "", time.Time{}
		}
	}
	slices.SortFunc(s.outages, func(a, b *outage) int { return strings.Compare(a.VCenter, b.VCenter) })
	var all []jobs.Outage
	for _, o := range s.outages {
		seen := o.Outage
		seen.Wait, seen.Probed = max(0, o.next.Sub(now)), false
		seen.New = false
		seen.Since = seen.Since.UTC().Truncate(time.Millisecond)
		all = append(all, seen)
	}
	return all, nil
}

// ClaimProbe implements [jobs.Outages].
func (s *Store) ClaimProbe(ctx context.Context, vcenter, owner string, hold time.Duration, now bool) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.clock.Steady()
	for _, o := range s.outages {
		if o.VCenter == vcenter && (now || !o.next.After(at)) && (o.prober == owner || !o.probing.After(at)) {
			o.prober, o.probing = owner, at.Add(hold)
			return true, nil
		}
	}
	return false, nil
}
