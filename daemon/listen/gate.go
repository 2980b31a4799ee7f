package listen

import (
	"net/netip"
	"strconv"
	"sync"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

// gate bounds connections: in all, and from one origin.
type gate struct {
	max, maxPer int

	mu    sync.Mutex
	total int
	by    map[string]int
}

func newGate(maxAll, maxPer int) *gate {
	return &gate{max: maxAll, maxPer: maxPer, by: map[string]int{}}
}

// enter lets one more connection of origin in, or says why not.
func (g *gate) enter(origin string) (refusal string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.total >= g.max:
		return "the daemon has as many connections as it may have"
	case g.by[origin] >= g.maxPer:
		return "there are as many connections from this address as there may be"
	}
	g.total++
	g.by[origin]++
	return ""
}

// leave is the end of a connection that was let in.
func (g *gate) leave(origin string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total--
	if g.by[origin]--; g.by[origin] <= 0 {
		delete(g.by, origin)
	}
}

// originOf is what connections of one other end have in common. A host has 2^64
// addresses of IPv6, so that these count together.
func originOf(p access.Peer) string {
	if p.Unix {
		return "uid " + strconv.FormatUint(uint64(p.UID), 10)
	}
	if p.Addr.Is6() && !p.Addr.Is4In6() {
		return netip.PrefixFrom(p.Addr.WithZone(""), 64).Masked().String()
	}
	return p.Addr.Unmap().String()
}
