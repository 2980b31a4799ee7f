package vspheretest

import (
	"sync"

	"github.com/vmware/govmomi/vim25/types"
)

// leaseTable holds the open leases of a server.
type leaseTable struct {
	mu     sync.Mutex
	open   map[string]*lease // by ticket
	closed bool              // no further ones
}

// add registers l, unless its guest has another open lease, which is returned.
func (t *leaseTable) add(l *lease, concurrent bool) *lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, other := range t.open {
		if other.guest == l.guest && !concurrent {
			return other
		}
	}
	if t.closed {
		return l // a server that is closing down is busy with itself
	}
	t.open[l.ticket] = l
	return nil
}

func (t *leaseTable) remove(l *lease) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, l.ticket)
}

func (t *leaseTable) byTicket(ticket string) *lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open[ticket]
}

// on returns an open lease on a VM or a snapshot of one, or nil.
func (t *leaseTable) on(ref types.ManagedObjectReference) *lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.open {
		if l.guest.ref == ref || l.source == ref {
			return l
		}
	}
	return nil
}

// all returns the open leases of a session, or every one for "".
func (t *leaseTable) all(session string) []*lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	var leases []*lease
	for _, l := range t.open {
		if session == "" || l.session == session {
			leases = append(leases, l)
		}
	}
	return leases
}

// close refuses further leases.
func (t *leaseTable) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
}
