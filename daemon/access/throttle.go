package access

import (
	"container/list"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// Bounds of the slow-down of guesses. An address may fail freeFailures times;
// from then on each further failure makes it wait, twice as long each time.
const (
	freeFailures = 5
	firstDelay   = time.Second
	maxDelay     = 30 * time.Second
	forgetAfter  = 15 * time.Minute // without a failure
	maxAddresses = 4096             // remembered at once; the oldest failure is forgotten first
	maxAccepted  = 1024             // credentials remembered as good
)

// throttle slows down who keeps sending wrong credentials. While an address has
// to wait, a credential from there is not looked at, so that guessing gets no
// faster by not waiting. Those that were accepted lately pass: a neighbour behind
// the same address, or a forgotten script, locks out nobody who is at work.
type throttle struct {
	now func() time.Time

	mu       sync.Mutex
	failed   *recent[string, failures]
	accepted *recent[Digest, struct{}]
}

type failures struct {
	n     int
	last  time.Time
	until time.Time
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, failed: newRecent[string, failures](maxAddresses), accepted: newRecent[Digest, struct{}](maxAccepted)}
}

// wait returns how long a credential from an address has to wait, 0 when it may
// be looked at.
func (t *throttle) wait(address string, credential Digest) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.accepted.get(credential); ok {
		return 0
	}
	f, _ := t.failed.get(address)
	return max(0, f.until.Sub(t.now()))
}

// failure notes a wrong credential. began tells that from now on the address has
// to wait, which it had not to before.
func (t *throttle) failure(address string) (began bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	f, _ := t.failed.get(address)
	if now.Sub(f.last) > forgetAfter {
		f = failures{}
	}
	f.n++
	f.last = now
	if over := f.n - freeFailures; over >= 0 {
		f.until = now.Add(min(maxDelay, firstDelay<<min(over, 10)))
	}
	t.failed.put(address, f)
	return f.n == freeFailures
}

// success remembers a credential as good.
func (t *throttle) success(credential Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.accepted.put(credential, struct{}{})
}

// forget makes a credential one like any other, because it is good no longer.
func (t *throttle) forget(credential Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.accepted.remove(credential)
}

// addressOf is by what guesses are counted: the address, of IPv6 the network that
// one host commonly has whole, and the user for a unix socket.
func addressOf(p Peer) string {
	switch {
	case p.Unix:
		return "uid " + strconv.FormatUint(uint64(p.UID), 10)
	case p.Addr.Unmap().Is6():
		net, err := p.Addr.WithZone("").Prefix(64)
		if err != nil {
			return p.Addr.String()
		}
		return net.String()
	}
	return netip.Addr.Unmap(p.Addr).String()
}

// recent is a map of bounded size that drops what was put or got longest ago.
type recent[K comparable, V any] struct {
	max   int
	order *list.List // of entry, the latest first
	at    map[K]*list.Element
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

func newRecent[K comparable, V any](n int) *recent[K, V] {
	return &recent[K, V]{max: n, order: list.New(), at: make(map[K]*list.Element)}
}

func (r *recent[K, V]) get(k K) (v V, ok bool) {
	e, ok := r.at[k]
	if !ok {
		return v, false
	}
	r.order.MoveToFront(e)
	return e.Value.(*entry[K, V]).value, true
}

func (r *recent[K, V]) put(k K, v V) {
	if e, ok := r.at[k]; ok {
		e.Value.(*entry[K, V]).value = v
		r.order.MoveToFront(e)
		return
	}
	r.at[k] = r.order.PushFront(&entry[K, V]{k, v})
	if r.order.Len() > r.max {
		r.remove(r.order.Back().Value.(*entry[K, V]).key)
	}
}

func (r *recent[K, V]) remove(k K) {
	if e, ok := r.at[k]; ok {
		r.order.Remove(e)
		delete(r.at, k)
	}
}
