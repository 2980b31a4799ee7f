package limits

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Rate is what keeps a bandwidth: a *transfer.Limiter.
type Rate interface {
	// SetLimit bounds it to bytesPerSecond; 0 is no bound.
	SetLimit(bytesPerSecond int64)
}

// Options are those of a [Keeper].
type Options struct {
	Store Store
	Owner string // this process, as in its other claims
	// Hold is how long shares hold that are not renewed: as long as claims on jobs do. 0
	// means 30 s.
	Hold time.Duration
	// Every is how often shares are renewed, 0 means 5 s. A run whose claim cannot be
	// renewed ends two of them before the claim, and with it what it uses.
	Every time.Duration
	// Again is how soon is asked again while something is waited for, 0 means 1 s.
	Again time.Duration

	// Bandwidth is the name of the limit of all bytes that the daemons move, Rate what
	// keeps this daemon's part of it, and Limit what the configuration says, in bytes
	// per second, 0 for none. Without a Rate there is none.
	Bandwidth string
	Rate      Rate
	Limit     int64

	Logger *slog.Logger // nil discards
}

// Keeper holds a daemon's shares. Its methods may be called from any goroutine; what
// waits does so until [Keeper.Run] has been called.
type Keeper struct {
	o    Options
	log  *slog.Logger
	kick chan struct{} // holds one token when it is to be asked anew

	mu        sync.Mutex
	places    map[string]*places
	moving    int // transfers and runs that use bandwidth
	bandwidth bandwidth
	round     int       // of asking the store, the one that goes on
	until     time.Time // when nothing may be used any more that was given
	trouble   string    // of the last round, told once
	ended     bool      // Run is over: nothing is given any more
}

// places are this daemon's of one limit.
type places struct {
	most    int
	hold    time.Duration // see Need
	may     int           // may be in use
	fair    int           // as the store said last: what is given back above that is for others
	used    int
	waiting []*waiter // the first first
}

// waiter waits for a place.
type waiter struct {
	got   chan bool // what became of it, once
	once  bool      // it does not wait longer than it takes to ask
	frail bool      // it does not wait for a store that cannot be asked
	since int       // the round in which it came
	hold  time.Duration
}

// bandwidth is this daemon's part of the bandwidth, in bytes per second.
type bandwidth struct {
	limit int64 // of all daemons, 0 for none
	may   int64 // may be used, as Rate has it; 0 when there is no limit
	fair  int64 // as the store said last
}

// New returns a Keeper. Call [Keeper.Run] to have it ask.
func New(o Options) *Keeper {
	o.Hold = cmp.Or(o.Hold, 30*time.Second)
	o.Every = cmp.Or(o.Every, 5*time.Second)
	o.Again = cmp.Or(o.Again, time.Second)
	k := &Keeper{o: o, log: o.Logger, kick: make(chan struct{}, 1), places: make(map[string]*places)}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	if o.Rate != nil {
		k.bandwidth.limit = o.Limit
		k.setRate(0)
	}
	return k
}

// Run asks the store, when something has changed and every few seconds, until ctx ends.
// Then it gives back what is not used any more.
func (k *Keeper) Run(ctx context.Context) error {
	defer k.end(ctx)
	for {
		pause := k.ask(ctx)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-k.kick:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// end gives back what is not used.
func (k *Keeper) end(ctx context.Context) {
	k.mu.Lock()
	k.ended = true
	for _, p := range k.places {
		p.dropOnce(k.round + 1)
		p.dropFrail()
		p.waiting = nil // they wait for the ends of their contexts
	}
	k.mu.Unlock()
	k.ask(context.WithoutCancel(ctx))
}

// dropOnce answers those that came before a round and do not wait longer than that.
func (p *places) dropOnce(round int) {
	p.drop(func(w *waiter) bool { return w.once && w.since < round })
}

// dropFrail answers those that do not wait for a store that cannot be asked.
func (p *places) dropFrail() { p.drop(func(w *waiter) bool { return w.frail }) }

// drop answers that some get no place.
func (p *places) drop(which func(*waiter) bool) {
	p.waiting = slices.DeleteFunc(p.waiting, func(w *waiter) bool {
		over := which(w)
		if over {
			w.got <- false
		}
		return over
	})
}

// Look has the store asked now, because another daemon has changed something.
func (k *Keeper) Look() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

// Acquire waits for a place of the limit with that name, of which the configuration
// gives most, until ctx ends. Call release once.
func (k *Keeper) Acquire(ctx context.Context, name string, most int) (release func(), err error) {
	return k.acquire(ctx, name, most, waiter{})
}

// ErrNotDivided is that a limit cannot be divided now: the store cannot be asked.
var ErrNotDivided = errors.New("the daemons' parts of their limits cannot be asked for")

// AcquireOrFail is Acquire that returns [ErrNotDivided] as soon as the store cannot be
// asked, for what goes on without a place then. Places of that name are free for other
// daemons when this one has not renewed them for hold, which is longer than one is used:
// what has died keeps nobody waiting for as long as a claim on a job may hold.
func (k *Keeper) AcquireOrFail(ctx context.Context, name string, most int, hold time.Duration) (release func(), err error) {
	return k.acquire(ctx, name, most, waiter{frail: true, hold: hold})
}

func (k *Keeper) acquire(ctx context.Context, name string, most int, how waiter) (release func(), err error) {
	w, ok := k.enter(name, most, how)
	if ok {
		return k.releaser(name), nil
	}
	select {
	case got := <-w.got:
		if !got {
			return nil, ErrNotDivided
		}
		return k.releaser(name), nil
	case <-ctx.Done():
	}
	k.mu.Lock()
	p := k.places[name]
	i := slices.Index(p.waiting, w)
	if i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
	k.mu.Unlock()
	if i < 0 {
		select {
		case got := <-w.got:
			if got { // just now
				k.releaser(name)()
			}
		default: // the keeper has ended
		}
	}
	k.Look() // it wants less
	return nil, context.Cause(ctx)
}

// TryAcquire is Acquire that does not wait longer than it takes to ask the store.
func (k *Keeper) TryAcquire(name string, most int) (release func(), ok bool) {
	w, ok := k.enter(name, most, waiter{once: true})
	if !ok {
		ok = <-w.got
	}
	if !ok {
		return nil, false
	}
	return k.releaser(name), true
}

// enter takes a place, or a turn in the queue for one.
func (k *Keeper) enter(name string, most int, how waiter) (*waiter, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.places[name]
	if p == nil {
		p = &places{}
		k.places[name] = p
	}
	p.most, p.hold = most, how.hold
	if p.used < p.may && len(p.waiting) == 0 {
		p.used++
		return nil, true
	}
	w := &waiter{got: make(chan bool, 1), once: how.once, frail: how.frail, since: k.round}
	if k.ended {
		if w.once || w.frail {
			w.got <- false
		}
		return w, false
	}
	p.waiting = append(p.waiting, w)
	k.Look()
	return w, false
}

// releaser returns what gives a place back, once.
func (k *Keeper) releaser(name string) func() {
	return sync.OnceFunc(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		p := k.places[name]
		p.used--
		p.may = min(p.may, max(p.used, p.fair))
		p.serve()
		k.Look()
	})
}

// serve gives free places to those who wait.
func (p *places) serve() {
	for len(p.waiting) > 0 && p.used < p.may {
		p.used++
		p.waiting[0].got <- true
		p.waiting = p.waiting[1:]
	}
}

// Moving notes that something begins to use bandwidth. Call end once.
func (k *Keeper) Moving() (end func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.moving++
	k.Look()
	return sync.OnceFunc(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.moving--
		k.Look()
	})
}

// Limit is the bandwidth of all daemons together in bytes per second, 0 for none, as
// far as this one knows.
func (k *Keeper) Limit() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.bandwidth.limit
}

// Use is what this daemon has of one limit's places now.
type Use struct {
	Name          string // of the limit
	Used, Waiting int
}

// Uses are those of the limits of which it uses places, or waits for some, by name.
func (k *Keeper) Uses() []Use {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []Use
	for name, p := range k.places {
		all = append(all, Use{Name: name, Used: p.used, Waiting: len(p.waiting)})
	}
	slices.SortFunc(all, func(a, b Use) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Part is what this daemon may move of the bandwidth of all, in bytes per second; 0 where
// there is no limit.
func (k *Keeper) Part() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.bandwidth.may
}

// SetLimit changes it for all daemons, until it is changed again.
func (k *Keeper) SetLimit(ctx context.Context, bytesPerSecond int64) error {
	if err := k.o.Store.Choose(ctx, k.o.Bandwidth, max(0, bytesPerSecond)); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.bandwidth.limit = max(0, bytesPerSecond)
	k.Look()
	return nil
}

// Holdings are the parts of all limits that daemons hold now.
func (k *Keeper) Holdings(ctx context.Context) ([]Holding, error) { return k.o.Store.Holdings(ctx) }

// ask asks the store once, and returns how long to wait before the next time.
func (k *Keeper) ask(ctx context.Context) time.Duration {
	asked := time.Now()
	call, cancel := context.WithTimeout(ctx, k.o.Every)
	defer cancel()
	needs := k.needs()
	var shares []Share
	var err error
	if len(needs) > 0 {
		shares, err = k.o.Store.Divide(call, k.o.Owner, k.o.Hold, needs)
	} else if k.o.Rate != nil {
		err = k.idle(call)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		return k.failed(ctx, err)
	}
	if k.trouble != "" {
		k.log.Info("limits are divided among the daemons again")
	}
	k.trouble, k.until = "", asked.Add(k.o.Hold-2*k.o.Every)
	for _, s := range shares {
		k.take(s)
	}
	for _, p := range k.places {
		if len(p.waiting) > 0 {
			return k.o.Again
		}
	}
	return k.o.Every
}

// idle looks whether another bandwidth was chosen, while none is used.
func (k *Keeper) idle(ctx context.Context) error {
	limit, ok, err := k.o.Store.Chosen(ctx, k.o.Bandwidth)
	if err != nil {
		return err
	}
	if !ok {
		limit = k.o.Limit
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.moving == 0 {
		k.bandwidth.limit = limit
		k.setRate(0)
	}
	return nil
}

// needs are what the store is asked for. Until it has answered, no more is used than
// it is told: it may give the rest to others.
func (k *Keeper) needs() []Need {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.round++
	var all []Need
	for name, p := range k.places {
		p.may = min(p.may, p.used)
		all = append(all, Need{Name: name, Limit: int64(p.most), Keep: int64(p.used), Want: int64(p.used + len(p.waiting)), Hold: p.hold})
	}
	if k.o.Rate == nil || k.moving == 0 && k.bandwidth.may == 0 {
		return all
	}
	n := Need{Name: k.o.Bandwidth, Limit: k.o.Limit, Weight: int64(k.moving)}
	if k.moving > 0 {
		n.Want = mostRate
		n.Keep = min(k.bandwidth.may, k.bandwidth.fair)
	}
	if k.bandwidth.limit != Unlimited {
		k.setRate(n.Keep)
	}
	return append(all, n)
}

// mostRate is more than any daemon moves, in bytes per second.
const mostRate = 1 << 50

// take uses what the store has given.
func (k *Keeper) take(s Share) {
	if s.Name == k.o.Bandwidth && k.o.Rate != nil {
		k.bandwidth.limit, k.bandwidth.fair = s.Limit, s.Fair
		k.setRate(min(s.Held, s.Fair))
		if s.Fair < s.Held && s.Limit != Unlimited {
			k.Look() // the rest can be given back now
		}
		return
	}
	p := k.places[s.Name]
	p.may, p.fair = int(s.Held), int(s.Fair)
	p.serve()
	p.dropOnce(k.round)
	switch {
	case p.used == 0 && len(p.waiting) == 0 && p.may == 0:
		delete(k.places, s.Name)
	case p.used < p.may:
		k.Look() // whoever wanted it has gone
	}
}

// failed notes that the store could not be asked. What is in use stays so; the runs
// that use it end when they cannot renew their claims either.
func (k *Keeper) failed(ctx context.Context, err error) time.Duration {
	if text := err.Error(); ctx.Err() == nil && k.trouble != text {
		k.trouble = text
		k.log.Error("cannot ask for this daemon's part of the limits; nothing new is begun", "error", err)
	}
	over := time.Now().After(k.until)
	for _, p := range k.places {
		if over {
			p.may = 0
		}
		p.dropOnce(k.round + 1)
		p.dropFrail()
	}
	if over && k.o.Rate != nil && k.bandwidth.limit != Unlimited {
		k.setRate(0)
	}
	return k.o.Again
}

// setRate is what may be used of the bandwidth from now on.
func (k *Keeper) setRate(bytesPerSecond int64) {
	k.bandwidth.may = bytesPerSecond
	switch {
	case k.bandwidth.limit == Unlimited:
		k.bandwidth.may = 0
		k.o.Rate.SetLimit(0)
	default:
		k.o.Rate.SetLimit(max(1, bytesPerSecond)) // 0 would be no bound
	}
}
