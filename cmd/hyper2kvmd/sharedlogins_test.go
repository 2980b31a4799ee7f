package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/limits"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// common is a database that can be away.
type common struct {
	*memory.Store
	away atomic.Bool
}

var errAway = &jobs.StoreError{Trouble: jobs.TroubleAway, Err: errors.New("the database is away")}

func (c *common) Divide(ctx context.Context, owner string, hold time.Duration, needs []limits.Need) ([]limits.Share, error) {
	if c.away.Load() {
		return nil, errAway
	}
	return c.Store.Divide(ctx, owner, hold, needs)
}

func (c *common) Refusals(ctx context.Context, account string) ([]limits.Refusal, error) {
	if c.away.Load() {
		return nil, errAway
	}
	return c.Store.Refusals(ctx, account)
}

func (c *common) Refuse(ctx context.Context, r limits.Refusal, hold time.Duration) error {
	if c.away.Load() {
		return errAway
	}
	return c.Store.Refuse(ctx, r, hold)
}

// plain is a hash that a test can read.
func plain(text string) [][]byte { return [][]byte{[]byte("hash of " + text)} }

// join is the gate of one more daemon on the database, until stop is called.
func (c *common) join(t *testing.T, hash func(string) [][]byte) (gate *logins, stop func()) {
	t.Helper()
	return c.joinWith(t, hash, limits.Options{})
}

func (c *common) joinWith(t *testing.T, hash func(string) [][]byte, o limits.Options) (gate *logins, stop func()) {
	t.Helper()
	gate = newLogins()
	o.Store, o.Owner = c, fmt.Sprintf("%p", gate)
	keeper := limits.New(o)
	gate.shared = &sharedLogins{turns: keeper, refusals: c, hash: hash, log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var over sync.WaitGroup
	over.Go(func() { _ = keeper.Run(ctx) })
	return gate, func() {
		cancel()
		over.Wait()
	}
}

// three are three daemons on a database, and a vCenter. What f does is over in virtual time.
func three(t *testing.T, f func(t *testing.T, v *vc, db *common, daemons []*logins)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		db := &common{Store: memory.New()}
		var daemons []*logins
		for range 3 {
			gate, stop := db.join(t, plain)
			defer stop()
			daemons = append(daemons, gate)
		}
		f(t, newVC("right"), db, daemons)
	})
}

// herds logs in n times at each of the daemons, all at once.
func (v *vc) herds(t *testing.T, daemons []*logins, n int, password func(i int) string) (errs []error) {
	t.Helper()
	got := make(chan error)
	for i := range n * len(daemons) {
		go func() { got <- v.by(t.Context(), daemons[i%len(daemons)], "svc", password(i)) }()
	}
	for range n * len(daemons) {
		errs = append(errs, <-got)
	}
	return errs
}

func TestAWrongPasswordIsTriedOnceByAllDaemonsOnADatabase(t *testing.T) {
	t.Parallel()
	three(t, func(t *testing.T, v *vc, db *common, daemons []*logins) {
		for _, err := range v.herds(t, daemons, 67, always("wrong")) {
			if refused := (*refusedError)(nil); !errors.As(err, &refused) || !errors.Is(err, vsphere.ErrLogin) {
				t.Fatalf("login = %v, want one that is refused", err)
			}
		}
		later, stop := db.join(t, plain) // a daemon that is started again
		defer stop()
		time.Sleep(refusalHolds - time.Hour)
		_ = v.herds(t, append(daemons, later), 1, always("wrong"))
		if n := v.tried.Load(); n != 1 {
			t.Errorf("%d logins, want 1", n)
		}
		for _, err := range v.herds(t, append(daemons, later), 1, always("right")) {
			if err != nil {
				t.Errorf("with another password: %v", err)
			}
		}
		v.tried.Store(0)
		time.Sleep(time.Hour)
		_ = v.herds(t, append(daemons, later), 1, always("wrong"))
		if n := v.tried.Load(); n != 1 {
			t.Errorf("%d logins after its time, want 1", n)
		}
	})
}

func TestDaemonsLogInOneAfterAnother(t *testing.T) {
	t.Parallel()
	three(t, func(t *testing.T, v *vc, _ *common, daemons []*logins) {
		for _, err := range v.herds(t, daemons, 5, always("right")) {
			if err != nil {
				t.Error(err)
			}
		}
		if v.most.Load() != 1 || v.tried.Load() != 15 {
			t.Errorf("%d logins, %d of them at a time", v.tried.Load(), v.most.Load())
		}
	})
}

func TestManyWrongPasswordsAtManyDaemonsAreHeldForAWhile(t *testing.T) {
	t.Parallel()
	three(t, func(t *testing.T, v *vc, _ *common, daemons []*logins) {
		_ = v.herds(t, daemons, 10, func(i int) string { return fmt.Sprint(i) })
		if n := v.tried.Load(); n != strikes {
			t.Errorf("%d logins, want %d", n, strikes)
		}
		if held := (*heldError)(nil); !errors.As(v.by(t.Context(), daemons[1], "svc", "right"), &held) {
			t.Error("the account is not held at a daemon that may not have been refused")
		}
		if err := v.by(t.Context(), daemons[1], "bob", "right"); err != nil {
			t.Errorf("another user: %v", err)
		}
		time.Sleep(strikeTime)
		for _, err := range v.herds(t, daemons, 1, always("right")) {
			if err != nil {
				t.Errorf("after a while: %v", err)
			}
		}
		// That it was accepted makes an end of the strikes, at all of them.
		_ = v.by(t.Context(), daemons[0], "svc", "another")
		_ = v.by(t.Context(), daemons[0], "svc", "right")
		for i, gate := range daemons {
			if err := v.by(t.Context(), gate, "svc", fmt.Sprint("wrong at ", i)); !errors.As(err, new(*refusedError)) {
				t.Errorf("daemon %d: %v", i, err)
			}
		}
	})
}

func TestAnAccountIsHeldUntilFewEnoughStrikesAreLeft(t *testing.T) {
	t.Parallel()
	three(t, func(t *testing.T, v *vc, db *common, daemons []*logins) {
		db.away.Store(true) // each goes by what it knows
		for i, gate := range daemons {
			for n := range strikes {
				_ = v.by(t.Context(), gate, "svc", fmt.Sprint("wrong at ", i, " ", n))
			}
		}
		db.away.Store(false)
		for _, gate := range daemons { // each tells the others
			_ = v.by(t.Context(), gate, "svc", "right")
			time.Sleep(time.Minute)
		}
		var held *heldError
		if err := v.by(t.Context(), daemons[0], "svc", "right"); !errors.As(err, &held) {
			t.Fatalf("login = %v", err)
		}
		time.Sleep(time.Until(held.until))
		if err := v.by(t.Context(), daemons[0], "svc", "right"); err != nil {
			t.Errorf("when it is held no longer: %v", err)
		}
	})
}

func TestARefusedPasswordThatAPersonForgivesIsTriedOnceMoreByAllDaemons(t *testing.T) {
	t.Parallel()
	three(t, func(t *testing.T, v *vc, _ *common, daemons []*logins) {
		_ = v.herds(t, daemons, 1, always("wrong"))
		daemons[1].forgive(vsphere.Config{URL: &url.URL{Host: "VC.example"}, Username: "svc"})
		_ = v.herds(t, daemons, 10, always("wrong"))
		if n := v.tried.Load(); n != 2 {
			t.Errorf("%d logins, want one more", n)
		}
	})
}

func TestDaemonsThatTheDatabaseCannotAnswerGoByWhatTheyKnowAndTellTheOthersLater(t *testing.T) {
	t.Parallel()
	three(t, func(t *testing.T, v *vc, db *common, daemons []*logins) {
		_ = v.by(t.Context(), daemons[0], "svc", "known")
		v.tried.Store(0)
		db.away.Store(true)
		for range 3 {
			_ = v.by(t.Context(), daemons[0], "svc", "known")
			_ = v.by(t.Context(), daemons[1], "svc", "wrong")
			if err := v.by(t.Context(), daemons[2], "svc", "right"); err != nil {
				t.Errorf("while the database is away: %v", err)
			}
		}
		if n := v.tried.Load(); n != 1+3 {
			t.Errorf("%d logins, want that of the one that did not know, and those that are right", n)
		}
		db.away.Store(false)
		_ = v.by(t.Context(), daemons[1], "svc", "wrong") // by this it looks
		_ = v.by(t.Context(), daemons[0], "svc", "wrong")
		if n := v.tried.Load(); n != 1+3 {
			t.Errorf("%d logins: the others were not told", n)
		}
	})
}

func TestTheTurnOfADaemonThatDiesIsFreeWhenItsClaimHasRunOut(t *testing.T) {
	t.Parallel()
	three(t, func(t *testing.T, v *vc, db *common, daemons []*logins) {
		_, err := db.Divide(t.Context(), "dead", 30*time.Second, []limits.Need{{Name: "logins of svc at vc.example", Limit: 1, Want: 1}})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := v.by(t.Context(), daemons[0], "svc", "right"); err != nil {
			t.Error(err)
		}
		if waited := time.Since(began); waited < 30*time.Second || waited > 40*time.Second {
			t.Errorf("logged in after %v", waited)
		}
		time.Sleep(10 * time.Second) // the turn is given back
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _ = db.Divide(t.Context(), "dead", time.Hour, []limits.Need{{Name: "logins of svc at vc.example", Limit: 1, Want: 1}})
		if err := v.by(ctx, daemons[0], "svc", "right"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who waits for his turn cannot give up: %v", err)
		}
	})
}

func TestADaemonThatDiesWhileItLogsInHoldsUpNobodyForAsLongAsItsJobs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, v := &common{Store: memory.New()}, newVC("right")
		o := limits.Options{Hold: time.Hour, Every: 10 * time.Minute} // takeover_after: 1h
		dies, stop := db.joinWith(t, plain, o)
		lives, end := db.joinWith(t, plain, o)
		defer end()
		v.takes = 10 * time.Second
		over := make(chan error, 1)
		go func() { over <- v.by(t.Context(), dies, "svc", "right") }()
		time.Sleep(5 * time.Second) // it logs in
		db.away.Store(true)
		stop() // nothing is given back
		db.away.Store(false)
		began := time.Now()
		if err := v.by(t.Context(), lives, "svc", "right"); err != nil {
			t.Error(err)
		}
		if waited := time.Since(began); waited > 5*time.Minute {
			t.Errorf("logged in after %v", waited)
		}
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
}

func TestARefusedPasswordIsKnownAlsoAfterTheKeyWasReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, v := &common{Store: memory.New()}, newVC("right")
		before, stop := db.join(t, plain)
		defer stop()
		after, end := db.join(t, func(text string) [][]byte { return append([][]byte{[]byte("new hash of " + text)}, plain(text)...) })
		defer end()
		_ = v.by(t.Context(), before, "svc", "wrong")
		_ = v.by(t.Context(), after, "svc", "wrong")
		if n := v.tried.Load(); n != 1 {
			t.Errorf("%d logins, want 1", n)
		}
	})
}
