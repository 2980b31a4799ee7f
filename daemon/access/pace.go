package access

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Pace bounds how often callers may ask: each token, certificate, user of the identity
// provider and user of the socket, and each address of another machine (a /64 of
// IPv6). Who is on this machine and is not told apart is not bounded. It keeps as many
// callers as it has room for; the one that was away longest is forgotten first.
type Pace struct {
	perSecond rate.Limit
	burst     int

	mu      sync.Mutex
	callers *recent[string, *rate.Limiter]
}

// NewPace returns one of so many requests per second, and twice as many at once. 0 is
// no bound: nil.
func NewPace(perSecond int) *Pace {
	if perSecond <= 0 {
		return nil
	}
	return &Pace{perSecond: rate.Limit(perSecond), burst: 2 * perSecond, callers: newRecent[string, *rate.Limiter](maxAddresses)}
}

// Wait counts a request of who from peer at a time, and returns 0 when it may be
// answered. Otherwise it is not counted, and may come again after the time returned.
func (p *Pace) Wait(who Principal, peer Peer, now time.Time) time.Duration {
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var counted []*rate.Reservation
	for _, caller := range callersOf(who, peer) {
		l, known := p.callers.get(caller)
		if !known {
			l = rate.NewLimiter(p.perSecond, p.burst)
			p.callers.put(caller, l)
		}
		r := l.ReserveN(now, 1)
		counted = append(counted, r)
		if wait := r.DelayFrom(now); wait > 0 {
			for _, r := range counted {
				r.CancelAt(now)
			}
			return wait
		}
	}
	return 0
}

// callersOf returns under which names a request counts.
func callersOf(who Principal, peer Peer) []string {
	var names []string
	if !peer.Unix && !peer.Loopback {
		names = append(names, "address "+addressOf(peer))
	}
	if who.Role > Nobody && who.Via != ViaLocal {
		names = append(names, string(who.Via)+" "+who.Name)
	}
	return names
}
