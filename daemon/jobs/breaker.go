package jobs

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
)

// breaker keeps jobs from vCenters that cannot be used. A run that ends with
// [Unavailable] opens it for that vCenter: its jobs stay pending. From then on
// the vCenter is asked, once at a time and at growing distances, until it
// answers; then all go on. It is memory only: after a restart the first run
// that fails opens it again, at no job's cost. Daemons that share a store tell
// each other by it, and ask one at a time (outages.go).
type breaker struct {
	o    Options
	log  *slog.Logger
	back func()        // called when a vCenter can be used again
	news chan struct{} // holds one token when other daemons are to be told

	probes sync.WaitGroup

	mu       sync.Mutex
	vcenters map[string]*vcenter // by key; those that were ever in trouble
	asking   int                 // probes that go on
	over     []string            // those of which others are to be told that they can be used
}

// vcenter is what the breaker knows of one.
type vcenter struct {
	state   VCenterState // empty when it can be used
	reason  string
	since   time.Time
	cameUp  time.Time // when it could last be used again
	tries   int       // probes in a row that failed, or that did not hold
	next    time.Time // when it is asked again
	probing bool
	claim   Claimed // the job that met the trouble: it is asked for that one
	met     bool    // by this daemon, not only by others
	named   bool    // the configuration has it
	shared  bool    // other daemons know
	alone   bool    // others can use it: this daemon asks for itself
	probed  bool    // others are to be told what a probe has found
	at      bool    // a person wants it asked now
}

const (
	probeTimeout = 30 * time.Second // of one probe
	maxProbes    = 16               // at once
)

func newBreaker(o Options, back func()) *breaker {
	return &breaker{o: o, log: o.Logger, back: back, news: make(chan struct{}, 1), vcenters: make(map[string]*vcenter)}
}

// trip notes that a run of the claimed job met a vCenter that cannot be used.
// It says so once, not for each job.
func (b *breaker) trip(c Claimed, u *Unavailable) {
	key := c.Job.Definition.VCenterKey()
	b.mu.Lock()
	defer b.mu.Unlock()
	v := b.vcenters[key]
	if v == nil {
		v = &vcenter{}
		b.vcenters[key] = v
	}
	known := v.state == u.State || v.state.blocksAll()
	if !v.met {
		v.met, v.claim = true, c
		def := c.Job.Definition
		v.named = def.VCenterURL == "" && def.Username == ""
		b.tell()
	}
	if known {
		return
	}
	now := time.Now()
	if v.state == "" {
		v.tries++ // it comes and goes: it is asked more and more rarely
		if now.Sub(v.cameUp) > 2*b.o.ProbeMax {
			v.tries = 0
		}
	}
	v.state, v.reason, v.since, v.claim = u.State, u.Err.Error(), now, c
	v.next = now.Add(b.pause(v))
	b.log.Warn("the vCenter cannot be used: its jobs wait", "vcenter", vcenterName(key), "state", v.state, "reason", v.reason)
}

// pause is how long to wait before the vCenter is asked next. For a refused
// login nobody is asked, only what has changed here is looked at. The caller
// holds b.mu.
func (b *breaker) pause(v *vcenter) time.Duration {
	d := b.o.ProbeMin
	if v.state != LoginRefused {
		for i := 0; i < v.tries && d < b.o.ProbeMax; i++ {
			d *= 2
		}
	}
	d = min(d, b.o.ProbeMax)
	return d - d/10 + rand.N(d/5+1) // several daemons do not ask at the same time
}

// blocked names the vCenters of which no job is to be run, and those of which
// only jobs with a user of their own are.
func (b *breaker) blocked() (all, refused []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, v := range b.vcenters {
		switch {
		case v.state.blocksAll():
			all = append(all, key)
		case v.state == LoginRefused:
			refused = append(refused, key)
		}
	}
	return all, refused
}

// waiting says what a job that is not running waits for, or is empty.
func (b *breaker) waiting(def job.Definition) string {
	key := def.VCenterKey()
	b.mu.Lock()
	defer b.mu.Unlock()
	if v := b.vcenters[key]; v != nil && v.state.blocks(def) {
		return v.waitingFor(key)
	}
	return ""
}

// probe asks the vCenters whose time has come, each in a goroutine of its own
// that ends with ctx, and no more than maxProbes at once.
func (b *breaker) probe(ctx context.Context, m *Manager) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, v := range b.vcenters {
		if v.state == "" || v.probing || b.asking == maxProbes || time.Now().Before(v.next) || !v.met && !v.named {
			continue
		}
		v.probing = true
		b.asking++
		claim, turns, now := v.claim, b.o.Outages != nil && v.shared, v.at
		b.probes.Go(func() {
			if turns && !b.mayAsk(ctx, key, now) {
				b.postpone(v)
				return
			}
			err := m.probe(ctx, claim)
			if ctx.Err() == nil {
				b.answered(key, v, unavailable(err))
			}
		})
	}
}

// answered notes the outcome of a probe. Every error other than Unavailable is
// an answer.
func (b *breaker) answered(key string, v *vcenter, u *Unavailable) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	v.probing, v.at = false, false
	b.asking--
	if u == nil {
		if !v.alone {
			b.over = append(b.over, key)
		}
		b.usable(key, v, now)
		b.tell()
		return
	}
	v.met, v.probed = true, true
	b.tell()
	if v.state != u.State {
		b.log.Warn("the vCenter cannot be used: its jobs wait", "vcenter", vcenterName(key), "state", u.State, "reason", u.Err.Error())
		v.state, v.since, v.tries = u.State, now, 0
	}
	v.reason = u.Err.Error()
	v.tries++
	v.next = now.Add(b.pause(v))
}

// usable notes that the vCenter can be used again. The caller holds b.mu.
func (b *breaker) usable(key string, v *vcenter, now time.Time) {
	if v.state == "" {
		return
	}
	b.log.Info("the vCenter can be used again: its jobs go on", "vcenter", vcenterName(key), "state", v.state,
		"after", now.Sub(v.since).Round(time.Second))
	v.state, v.cameUp = "", now
	v.met, v.shared, v.alone, v.probed = false, false, false, false
	b.back()
}

// trouble returns the job that met a vCenter that cannot be used; false when it
// can be.
func (b *breaker) trouble(key string) (Claimed, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := b.vcenters[key]
	if v == nil || v.state == "" {
		return Claimed{}, false
	}
	return v.claim, true
}

// resume has a vCenter that cannot be used asked now.
func (b *breaker) resume(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if v := b.vcenters[key]; v != nil {
		v.next, v.at = time.Now(), true
	}
}

// list returns the vCenters that cannot be used, by name.
func (b *breaker) list() []VCenter {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []VCenter
	for _, key := range slices.Sorted(maps.Keys(b.vcenters)) {
		if v := b.vcenters[key]; v.state != "" {
			out = append(out, VCenter{Name: key, State: v.state, Since: v.since.UTC(), Reason: v.reason, NextProbe: v.next.UTC()})
		}
	}
	return out
}

// probe asks the vCenter of a claimed job. Silence is an answer too.
func (m *Manager) probe(ctx context.Context, c Claimed) error {
	def, err := m.unseal(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err = safely(m.log, func() (job.Result, error) { return job.Result{}, m.o.VCenters.Probe(ctx, def) })
	return err
}
