package limits_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/daemon/limits"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rate is a bandwidth that is read by the test.
type rate struct{ atomic.Int64 }

func (r *rate) SetLimit(n int64) { r.Store(n) }

// link is a daemon's way to the store, which can be cut.
type link struct {
	limits.Store
	cut atomic.Bool
}

var errCut = errors.New("the network is cut")

func (l *link) Divide(ctx context.Context, owner string, hold time.Duration, needs []limits.Need) ([]limits.Share, error) {
	if l.cut.Load() {
		return nil, errCut
	}
	return l.Store.Divide(ctx, owner, hold, needs)
}

// daemon is a Keeper that runs until the test ends, or is killed.
type daemon struct {
	*limits.Keeper
	link *link
	rate rate
	kill func()
}

func start(t *testing.T, s limits.Store, name string, o limits.Options) *daemon {
	d := &daemon{link: &link{Store: s}}
	o.Store, o.Owner = d.link, name
	if o.Bandwidth != "" {
		o.Rate = &d.rate
	}
	d.Keeper = limits.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = d.Run(ctx)
	}()
	d.kill = func() {
		d.link.cut.Store(true)
		cancel()
		<-ended
	}
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return d
}

// hold takes places until the test ends, and returns how many have been got.
func (d *daemon) hold(t *testing.T, name string, most, n int) *atomic.Int64 {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var got atomic.Int64
	for range n {
		wg.Go(func() {
			release, err := d.Acquire(ctx, name, most)
			if err != nil {
				return
			}
			got.Add(1)
			<-ctx.Done()
			release()
		})
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return &got
}

func TestPlacesAreWithinTheLimitOfAllDaemonsAndDividedFairly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const most, each = 7, 40
		store := memory.New()
		var now, worst atomic.Int64
		var wg sync.WaitGroup
		done := make([]atomic.Int64, 3)
		for i, name := range []string{"a", "b", "c"} {
			d := start(t, store, name, limits.Options{})
			for range each {
				wg.Go(func() {
					release, err := d.Acquire(t.Context(), "disks", most)
					if err != nil {
						t.Error(err)
						return
					}
					n := now.Add(1)
					for w := worst.Load(); n > w && !worst.CompareAndSwap(w, n); w = worst.Load() {
					}
					time.Sleep(time.Minute)
					done[i].Add(1)
					now.Add(-1)
					release()
				})
			}
		}
		// Half of the work takes about nine rounds of a minute.
		time.Sleep(9*time.Minute + 30*time.Second)
		synctest.Wait()
		for i := range done {
			if n := done[i].Load(); n < 12 || n > 30 {
				t.Errorf("daemon %d has done %d of %d: not fair", i, n, each)
			}
		}
		wg.Wait()
		if worst.Load() != most {
			t.Errorf("at most %d places were used at once; want %d", worst.Load(), most)
		}
	})
}

func TestWhatADeadDaemonHeldIsFreeWhenItsClaimHasRunOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		dead, alive := start(t, store, "dead", limits.Options{}), start(t, store, "alive", limits.Options{})
		had := dead.hold(t, "disks", 3, 3)
		synctest.Wait()
		got := alive.hold(t, "disks", 3, 3)
		synctest.Wait()
		if had.Load() != 3 || got.Load() != 0 {
			t.Fatalf("%d and %d", had.Load(), got.Load())
		}
		dead.kill()
		time.Sleep(24 * time.Second)
		synctest.Wait()
		if got.Load() != 0 {
			t.Errorf("%d places of a claim that holds", got.Load())
		}
		time.Sleep(7 * time.Second)
		synctest.Wait()
		if got.Load() != 3 {
			t.Errorf("%d places when the claim has run out, want 3", got.Load())
		}
	})
}

func TestADaemonThatEndsGivesBackAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		k := limits.New(limits.Options{Store: store, Owner: "a"})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = k.Run(ctx)
		}()
		release, err := k.Acquire(t.Context(), "disks", 3)
		if err != nil {
			t.Fatal(err)
		}
		release()
		cancel()
		<-ended
		if h, err := store.Holdings(t.Context()); err != nil || len(h) > 0 {
			t.Errorf("holdings %+v, %v", h, err)
		}
		if _, ok := k.TryAcquire("disks", 3); ok {
			t.Error("a place after the end")
		}
	})
}

func TestADaemonThatIsCutOffHandsOutNothingNew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		d := start(t, store, "a", limits.Options{Bandwidth: "bandwidth", Limit: 1000})
		defer d.Moving()()
		first := d.hold(t, "disks", 2, 1)
		synctest.Wait()
		if first.Load() != 1 || d.rate.Load() != 1000 {
			t.Fatalf("%d places, %d bytes/s", first.Load(), d.rate.Load())
		}
		d.link.cut.Store(true)
		more := d.hold(t, "disks", 2, 1)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if more.Load() != 0 {
			t.Error("a place that nobody has given")
		}
		if d.rate.Load() != 1000 {
			t.Errorf("%d bytes/s while the claim holds", d.rate.Load())
		}
		time.Sleep(10 * time.Second) // before the claim has run out, after 30 s
		synctest.Wait()
		if d.rate.Load() != 1 {
			t.Errorf("%d bytes/s that another daemon may have soon", d.rate.Load())
		}
		d.link.cut.Store(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if more.Load() != 1 || d.rate.Load() != 1000 {
			t.Errorf("%d places, %d bytes/s when it is back", more.Load(), d.rate.Load())
		}
	})
}

func TestABandwidthIsDividedByWhatMovesAndNeverExceeded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		o := limits.Options{Bandwidth: "bandwidth", Limit: 900}
		all := []*daemon{start(t, store, "a", o), start(t, store, "b", o), start(t, store, "c", o)}
		sum := func() (n int64) {
			for _, d := range all {
				if r := d.rate.Load(); r > 1 { // which stands for nothing
					n += r
				}
			}
			return n
		}
		// settle lets time go by in steps, so that each state on the way is looked at.
		settle := func(what string, limit int64, want ...int64) {
			t.Helper()
			for range 60 {
				time.Sleep(100 * time.Millisecond)
				synctest.Wait()
				if sum() > limit {
					t.Fatalf("%s: %d bytes/s in sum, more than %d", what, sum(), limit)
				}
			}
			for i, d := range all {
				if d.rate.Load() != want[i] {
					t.Errorf("%s: daemon %d may move %d bytes/s, want %d", what, i, d.rate.Load(), want[i])
				}
			}
		}
		settle("idle", 900, 1, 1, 1)
		end := all[0].Moving()
		settle("one moves", 900, 900, 1, 1)
		defer all[1].Moving()()
		settle("two move", 900, 450, 450, 1)
		defer all[1].Moving()()
		settle("one moves twice as much", 900, 300, 600, 1)
		defer all[2].Moving()()
		settle("three move", 900, 225, 450, 225)
		end()
		settle("one has ended", 900, 1, 600, 300)
		if err := all[0].SetLimit(t.Context(), 300); err != nil {
			t.Fatal(err)
		}
		settle("another limit", 900, 1, 200, 100)
		all[1].kill()
		settle("one has died", 300, 1, 200, 100)
		time.Sleep(30 * time.Second)
		settle("the dead one's claim has run out", 500, 1, 200, 300)
		if err := all[2].SetLimit(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if all[2].rate.Load() != 0 || all[2].Limit() != 0 {
			t.Errorf("%d bytes/s, limit %d: want none", all[2].rate.Load(), all[2].Limit())
		}
	})
}

func TestWhoDoesNotWaitIsAnsweredByTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		a, b := start(t, store, "a", limits.Options{}), start(t, store, "b", limits.Options{})
		release, ok := a.TryAcquire("disks", 1)
		if !ok {
			t.Fatal("no place")
		}
		if _, ok := b.TryAcquire("disks", 1); ok {
			t.Error("a place too many")
		}
		release()
		synctest.Wait()
		release, ok = b.TryAcquire("disks", 1)
		if !ok {
			t.Fatal("no place that was given back")
		}
		release()
		synctest.Wait()
		b.link.cut.Store(true)
		if _, ok := b.TryAcquire("disks", 1); ok {
			t.Error("a place from nowhere")
		}
	})
}

func TestWhoStopsWaitingLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		a, b := start(t, store, "a", limits.Options{}), start(t, store, "b", limits.Options{})
		release, err := a.Acquire(t.Context(), "disks", 1)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := b.Acquire(ctx, "disks", 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		release()
		time.Sleep(time.Second)
		synctest.Wait()
		if h, err := store.Holdings(t.Context()); err != nil || len(h) > 0 {
			t.Errorf("holdings %+v, %v", h, err)
		}
	})
}

func TestWhoGoesOnWithoutAPlaceDoesNotWaitForAStoreThatCannotBeAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		d := start(t, s, "a", limits.Options{})
		release, err := d.AcquireOrFail(t.Context(), "logins", 1, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		second := make(chan error, 1)
		go func() {
			release, err := d.AcquireOrFail(t.Context(), "logins", 1, time.Minute)
			if err == nil {
				release()
			}
			second <- err
		}()
		time.Sleep(time.Minute)
		select {
		case err := <-second:
			t.Errorf("a second one has not waited: %v", err)
		default:
		}
		release()
		if err := <-second; err != nil {
			t.Errorf("a second one: %v", err)
		}
		time.Sleep(time.Minute) // it is given back
		d.link.cut.Store(true)
		if _, err := d.AcquireOrFail(t.Context(), "logins", 1, time.Minute); !errors.Is(err, limits.ErrNotDivided) {
			t.Errorf("while the store is away: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		waits := make(chan error, 1)
		go func() {
			_, err := d.Acquire(ctx, "logins", 1)
			waits <- err
		}()
		d.kill()
		cancel() // what waits when the daemon ends gives up
		if err := <-waits; !errors.Is(err, context.Canceled) {
			t.Errorf("who waits: %v", err)
		}
		if _, err := d.AcquireOrFail(t.Context(), "logins", 1, time.Minute); !errors.Is(err, limits.ErrNotDivided) {
			t.Errorf("when the daemon has ended: %v", err)
		}
	})
}

func TestAKeeperTellsWhatItUsesAndWhatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := start(t, memory.New(), "a", limits.Options{Bandwidth: "bandwidth", Limit: 1000})
		defer d.Moving()()
		d.hold(t, "places", 2, 5)
		time.Sleep(time.Minute)
		uses := d.Uses()
		if len(uses) != 1 || uses[0] != (limits.Use{Name: "places", Used: 2, Waiting: 3}) {
			t.Errorf("uses %+v", uses)
		}
		if d.Part() != 1000 || d.Limit() != 1000 {
			t.Errorf("the part is %d of %d", d.Part(), d.Limit())
		}
	})
}

func TestWhatADeadDaemonHeldForAShortTimeOnlyIsFreeAfterThat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		o := limits.Options{Hold: time.Hour, Every: 10 * time.Minute}
		dead, alive := start(t, store, "dead", o), start(t, store, "alive", o)
		if _, err := dead.AcquireOrFail(t.Context(), "logins", 1, time.Minute); err != nil {
			t.Fatal(err)
		}
		had := dead.hold(t, "disks", 1, 1)
		synctest.Wait()
		dead.kill()
		got := alive.hold(t, "disks", 1, 1)
		began := time.Now()
		release, err := alive.AcquireOrFail(t.Context(), "logins", 1, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		release()
		if waited := time.Since(began); waited < 50*time.Second || waited > 70*time.Second {
			t.Errorf("it is free after %v", waited)
		}
		if had.Load() != 1 || got.Load() != 0 {
			t.Errorf("%d and %d of what holds for as long as claims", had.Load(), got.Load())
		}
	})
}
