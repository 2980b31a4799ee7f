package vspheretest

import (
	"slices"
	"sync"
)

// LeaseEventKind is what happened to a lease.
type LeaseEventKind string

// What can happen to a lease. The last four end it.
const (
	LeaseOpened    LeaseEventKind = "opened"
	LeaseReady     LeaseEventKind = "ready"
	LeaseRenewed   LeaseEventKind = "renewed" // by Progress
	LeaseCompleted LeaseEventKind = "completed"
	LeaseAborted   LeaseEventKind = "aborted"
	LeaseExpired   LeaseEventKind = "expired"
	LeaseDropped   LeaseEventKind = "dropped" // its session ended
)

// LeaseEvent is something that happened to a lease.
type LeaseEvent struct {
	Kind    LeaseEventKind
	VM      string // inventory path
	Ticket  string
	Percent int32 // as last reported by the client

	Session string // which session opened the lease
}

// hooks are what tests asked to be told.
type hooks struct {
	mu     sync.Mutex
	events []func(LeaseEvent)
	bytes  []*byteHook
	calls  []callHook
}

type callHook struct {
	method string
	f      func()
}

// OnCall calls f whenever a call of the API by that name has arrived and before
// it has an effect; "*" is any. The call waits for f, which may use every method
// of the server but Close.
func (s *Server) OnCall(method string, f func()) {
	s.hooks.mu.Lock()
	defer s.hooks.mu.Unlock()
	s.hooks.calls = append(s.hooks.calls, callHook{method, f})
}

func (h *hooks) call(method string) {
	h.mu.Lock()
	hooks := slices.Clone(h.calls)
	h.mu.Unlock()
	for _, c := range hooks {
		if c.method == method || c.method == "*" {
			c.f()
		}
	}
}

type byteHook struct {
	vm   string
	disk int
	at   int64
	f    func()
}

func (h *byteHook) matches(g *guest, disk int) bool { return h.disk == disk && g.called(h.vm) }

// OnLease calls f for everything that happens to a lease from now on, in the
// goroutine in which it happens: f must return soon, must not call the API of
// this server and wait, and may be called concurrently for different leases.
func (s *Server) OnLease(f func(LeaseEvent)) {
	s.hooks.mu.Lock()
	defer s.hooks.mu.Unlock()
	s.hooks.events = append(s.hooks.events, f)
}

// OnByte calls f once, when a transfer of a disk's stream has sent the bytes
// before position n, or when byte n-1 of the disk was read over port 902. The transfer
// waits for f.
func (s *Server) OnByte(vm string, disk int, n int64, f func()) {
	s.hooks.mu.Lock()
	defer s.hooks.mu.Unlock()
	s.hooks.bytes = append(s.hooks.bytes, &byteHook{vm, disk, n, f})
}

// ByteReached returns a channel that is closed when OnByte would call.
func (s *Server) ByteReached(vm string, disk int, n int64) <-chan struct{} {
	ch := make(chan struct{})
	s.OnByte(vm, disk, n, func() { close(ch) })
	return ch
}

func (h *hooks) lease(e LeaseEvent) {
	h.mu.Lock()
	fs := slices.Clone(h.events)
	h.mu.Unlock()
	for _, f := range fs {
		f(e)
	}
}

// next returns the position of the first hook in (pos, stop), or stop.
func (h *hooks) next(g *guest, disk int, pos, stop int64) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range h.bytes {
		if b.at > pos && b.matches(g, disk) {
			stop = min(stop, b.at)
		}
	}
	return stop
}

// passed calls and forgets the hooks at the positions in (from, to], as they come
// where a disk is read at random.
func (h *hooks) passed(g *guest, disk int, from, to int64) {
	h.mu.Lock()
	var at []int64
	for _, b := range h.bytes {
		if b.at > from && b.at <= to && b.matches(g, disk) {
			at = append(at, b.at)
		}
	}
	h.mu.Unlock()
	slices.Sort(at)
	for _, pos := range slices.Compact(at) {
		h.reached(g, disk, pos)
	}
}

// reached calls and forgets the hooks at pos.
func (h *hooks) reached(g *guest, disk int, pos int64) {
	h.mu.Lock()
	var due []*byteHook
	h.bytes = slices.DeleteFunc(h.bytes, func(b *byteHook) bool {
		if b.at == pos && b.matches(g, disk) {
			due = append(due, b)
			return true
		}
		return false
	})
	h.mu.Unlock()
	for _, b := range due {
		b.f()
	}
}
