package vspheretest

import (
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// sessionTable knows the sessions of a vCenter and when they were last used.
type sessionTable struct {
	mu     sync.Mutex
	active map[string]time.Time
	waits  []*simulator.PropertyCollector // that were asked to wait for updates
	logins loginCounter
}

// touch notes that a session made a call and returns how long it was idle
// before; known is false for sessions that are not a client's.
func (t *sessionTable) touch(key string) (idle time.Duration, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last, known := t.active[key]
	if known {
		t.active[key] = time.Now()
	}
	return time.Since(last), known
}

func (t *sessionTable) add(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.active[key] = time.Now()
}

func (t *sessionTable) remove(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.active, key)
}

func (t *sessionTable) has(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.active[key]
	return ok
}

func (t *sessionTable) any() bool { return len(t.keys()) > 0 }

func (t *sessionTable) keys() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var keys []string
	for k := range t.active {
		keys = append(keys, k)
	}
	return keys
}

// waiting notes a property collector whose wait may have to be ended by
// cancelWaits: the simulator does not notice that a client has gone.
func (t *sessionTable) waiting(pc *simulator.PropertyCollector) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range t.waits {
		if w == pc {
			return
		}
	}
	t.waits = append(t.waits, pc)
}

func (t *sessionTable) cancelWaits() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, pc := range t.waits {
		pc.CancelWaitForUpdates(&types.CancelWaitForUpdates{This: pc.Self})
	}
}

// login registers a session that vCenter has just handed out.
func (s *Server) login(key string) {
	first := !s.sessions.any()
	s.sessions.add(key)
	if !first {
		return
	}
	for _, f := range s.faults.find(func(f *fault) bool { return f.kind == faultSession && f.at < 0 }) {
		s.armSessionFault(f)
	}
}

func (s *Server) armSessionFault(f *fault) {
	s.timers.after(f.after, func() {
		if s.faults.take(f) {
			s.endSessions(f.keep)
		}
	})
}

// EndSessions logs every session out, as a restart of vCenter's API would.
// Their leases end with them: a lease is an object of its session.
func (s *Server) EndSessions() { s.endSessions(false) }

func (s *Server) endSessions(keepLeases bool) {
	for _, key := range s.sessions.keys() {
		s.endSession(key, keepLeases)
	}
}

func (s *Server) endSession(key string, keepLeases bool) {
	ctx := s.simContext()
	s.sessions.remove(key)
	s.dropViews(ctx, key)
	ctx.Map.SessionManager().TerminateSession(ctx, &types.TerminateSession{SessionId: []string{key}})
	if !keepLeases {
		s.dropLeases(key)
	}
}

// dropLeases ends a session's leases and forgets them.
func (s *Server) dropLeases(session string) {
	for _, l := range s.leases.all(session) {
		ctx := s.simContext()
		s.endLease(ctx, l, LeaseDropped)
		ctx.Map.Remove(ctx, l.object.Self)
	}
}

// Sessions is how many clients are logged in.
func (s *Server) Sessions() int { return len(s.sessions.keys()) }

// quoteCookie puts double quotes around the session's value, as vCenter does (F-NFC-7).
func quoteCookie(header string) (quoted, key string) {
	name, rest, ok := strings.Cut(header, "=")
	if !ok || name != soap.SessionCookieName {
		return header, ""
	}
	value, attrs, _ := strings.Cut(rest, ";")
	return name + `="` + value + `";` + attrs, value
}
