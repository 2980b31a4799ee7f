package vsphere

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
)

// Outage tells that calls wait for a service that gives no answer, and when
// none does any more.
type Outage struct {
	Host   string    // host[:port] of the service
	Since  time.Time // since when the first of the calls that wait has had no answer
	Reason string    // what the last attempt gave, as "connection refused"
	Back   bool      // no call waits any more: it answers again, or
	GaveUp bool      // with Back: the last call that waited has ended without an answer
}

// DefaultOutage is what a zero [Config.Outage] stands for.
const DefaultOutage = 2 * time.Minute

const (
	tellOutage = time.Second      // a call that waits for longer than this says so
	slowAnswer = 10 * time.Second // so does one whose answer takes this long

	minOutagePause = 200 * time.Millisecond
	maxOutagePause = 5 * time.Second
)

// outages knows which calls wait for the service, and tells of it: once when
// the first begins to wait, and once when the last no longer does.
type outages struct {
	host string
	tell func(Outage) // may be nil
	log  *slog.Logger

	mu      sync.Mutex // held while tell is called, so that it is told in order
	waiting int
	since   time.Time
}

// waiter is one call that may come to wait.
type waiter struct {
	all  *outages
	slow *time.Timer
	mu   sync.Mutex
	said bool
	over bool
}

// begin watches a call to a method. done is to be called at its end.
func (o *outages) begin(method string) *waiter {
	w := &waiter{all: o}
	began := time.Now()
	w.slow = time.AfterFunc(slowAnswer, func() { w.waits(began, "no answer to "+method+" yet") })
	return w
}

// waits tells that the call waits, since when, and why.
func (w *waiter) waits(since time.Time, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.said && !w.over {
		w.said = true
		w.all.enter(since, reason)
	}
}

// done tells that the call does not wait any more, and whether it was answered.
func (w *waiter) done(answered bool) {
	w.slow.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if w.said {
		w.said = false
		w.all.leave(answered)
	}
}

func (o *outages) enter(since time.Time, reason string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting++
	if o.waiting > 1 {
		return
	}
	o.since = since
	o.log.Warn("waiting for vSphere", "host", o.host, "since", since, "reason", reason)
	if o.tell != nil {
		o.tell(Outage{Host: o.host, Since: since, Reason: reason})
	}
}

func (o *outages) leave(answered bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.waiting--; o.waiting > 0 {
		return
	}
	o.log.Info("no longer waiting for vSphere", "host", o.host, "waited", time.Since(o.since).Round(time.Millisecond), "answered", answered)
	if o.tell != nil {
		o.tell(Outage{Host: o.host, Since: o.since, Back: true, GaveUp: !answered})
	}
}

// persistence is how a call is repeated while there is no answer.
type persistence struct {
	kind    kind
	budget  time.Duration // how long, counted from the call's beginning
	known   func() bool   // SOAP was spoken at that address before
	outages *outages
}

// run calls try until there is an answer, or the budget is used up. It returns
// the last error, which is an [ErrUncertain] where the call may have taken
// effect although nobody repeats it.
func (p persistence) run(ctx context.Context, try func() error) (err error) {
	began, caller := time.Now(), ctx
	if p.kind.repeat.once() {
		caller = callerOf(ctx)
	}
	watch := p.outages.begin(p.kind.method)
	defer func() { watch.done(outcomeOf(err, true) == answered) }()
	lost := false // an attempt that may have arrived got no answer
	for pause := minOutagePause; ; pause = min(2*pause, maxOutagePause) {
		err = try()
		out := outcomeOf(err, p.known())
		switch {
		case out == answered && lost && err != nil:
			if p.kind.repeat.once() {
				err = &uncertain{err}
			}
			return &repeated{err}
		case out == answered, p.kind.repeat == repeatElsewhere:
			return err
		case out == unknown && p.kind.repeat.once(), out == doubtful && p.kind.repeat == repeatUnsent:
			return &uncertain{err}
		case ctx.Err() != nil, caller.Err() != nil:
			return err
		}
		lost = lost || out == unknown || out == doubtful
		waited := time.Since(began)
		if waited >= p.budget {
			if p.budget > 0 {
				err = &wearied{err, waited}
			}
			return err
		}
		if waited+pause >= tellOutage {
			watch.waits(began, reason(err))
		}
		if cerr := sleep.For(caller, jitter(pause)); cerr != nil {
			if errors.Is(cerr, context.DeadlineExceeded) {
				return err // says more
			}
			return cerr
		}
	}
}

// reason words what keeps a call waiting, without saying of what.
func reason(err error) string {
	var done *Error
	if errors.As(err, &done) {
		err = done.Err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err // without addresses
	}
	return plainFault(err).Error()
}

// jitter spreads d by a fifth, so that many who wait do not all come at once.
func jitter(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5+1) // no secret
}

// uncertain is an [ErrUncertain] with what happened.
type uncertain struct{ err error }

func (u *uncertain) Error() string   { return u.err.Error() }
func (u *uncertain) Unwrap() []error { return []error{ErrUncertain, u.err} }

// repeated is the answer to a call that was sent again after an attempt that
// may have taken effect.
type repeated struct{ err error }

func (r *repeated) Error() string { return r.err.Error() }
func (r *repeated) Unwrap() error { return r.err }

// wearied is the last error of a call that was repeated for a while.
type wearied struct {
	err   error
	after time.Duration
}

func (w *wearied) Error() string { return w.err.Error() }
func (w *wearied) Unwrap() error { return w.err }
