package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// vc is a vCenter that accepts one password and counts what it was asked.
type vc struct {
	logins   *logins
	password string
	away     bool
	takes    time.Duration

	tried, now, most atomic.Int32
}

func newVC(password string) *vc {
	return &vc{logins: newLogins(), password: password, takes: time.Second}
}

// login is one login as a user.
func (v *vc) login(ctx context.Context, user, password string) error {
	return v.by(ctx, v.logins, user, password)
}

// by is a login by a daemon with that gate.
func (v *vc) by(ctx context.Context, gate *logins, user, password string) error {
	cfg := vsphere.Config{URL: &url.URL{Host: "vc.example"}, Username: user, Password: password}
	return gate.gate(cfg)(ctx, func(ctx context.Context) error {
		v.tried.Add(1)
		v.most.Store(max(v.most.Load(), v.now.Add(1)))
		defer v.now.Add(-1)
		time.Sleep(v.takes)
		switch {
		case v.away:
			return &vsphere.Error{Op: "log in", Kind: vsphere.ErrUnreachable, Err: errors.New("no answer")}
		case password != v.password:
			return &vsphere.Error{Op: "log in", Kind: vsphere.ErrLogin, Err: errors.New("incorrect password")}
		}
		return nil
	})
}

// herd logs in n times at once and returns the errors.
func (v *vc) herd(t *testing.T, n int, password func(i int) string) []error {
	t.Helper()
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- v.login(t.Context(), "svc", password(i)) }()
	}
	var out []error
	for range n {
		out = append(out, <-errs)
	}
	return out
}

func always(password string) func(int) string { return func(int) string { return password } }

func TestAHerdOfJobsTriesAWrongPasswordOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVC("right")
		for _, err := range v.herd(t, 201, always("wrong")) {
			if refused := (*refusedError)(nil); !errors.As(err, &refused) || !errors.Is(err, vsphere.ErrLogin) {
				t.Fatalf("login = %v, want one that is refused", err)
			}
		}
		time.Sleep(24 * time.Hour)
		_ = v.login(t.Context(), "svc", "wrong")
		if n := v.tried.Load(); n != 1 {
			t.Errorf("%d logins, want 1", n)
		}
		if err := v.login(t.Context(), "svc", "right"); err != nil {
			t.Errorf("with another password: %v", err)
		}
	})
}

func TestLoginsOfAnAccountGoOneAfterAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVC("right")
		for _, err := range v.herd(t, 20, always("right")) {
			if err != nil {
				t.Error(err)
			}
		}
		if v.most.Load() != 1 {
			t.Errorf("%d logins at a time: should the password have changed, so many would be refused", v.most.Load())
		}
	})
}

func TestAPasswordThatWasRightIsNotTriedAgainOnceItIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVC("old")
		_ = v.login(t.Context(), "svc", "old")
		v.password = "new"
		_ = v.herd(t, 16, always("old"))
		if n := v.tried.Load(); n != 2 {
			t.Errorf("%d logins, want 2", n)
		}
	})
}

func TestManyWrongPasswordsOfOneUserAreHeldForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVC("right")
		held := 0
		for _, err := range v.herd(t, 50, func(i int) string { return fmt.Sprint(i) }) {
			if h := (*heldError)(nil); errors.As(err, &h) {
				held++
			}
		}
		if n := v.tried.Load(); n != strikes || held != 50-strikes {
			t.Errorf("%d logins, and %d held; want %d and the rest", n, held, strikes)
		}
		if err := v.login(t.Context(), "bob", "right"); err != nil {
			t.Errorf("another user: %v", err)
		}
		time.Sleep(strikeTime)
		if err := v.login(t.Context(), "svc", "right"); err != nil {
			t.Errorf("after a while: %v", err)
		}
	})
}

func TestAVCenterIsTheSameWithAndWithoutItsPort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVC("right")
		_ = v.login(t.Context(), "svc", "wrong")
		cfg := vsphere.Config{URL: &url.URL{Scheme: "https", Host: "vc.example:443"}, Username: "svc", Password: "wrong"}
		err := v.logins.gate(cfg)(t.Context(), func(context.Context) error {
			t.Error("a password that was refused is tried again")
			return nil
		})
		if !errors.As(err, new(*refusedError)) {
			t.Errorf("login = %v", err)
		}
	})
}

func TestAPersonMayHaveARefusedPasswordTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVC("right")
		_ = v.login(t.Context(), "svc", "wrong")
		v.logins.forgive(vsphere.Config{URL: &url.URL{Host: "VC.example"}, Username: "svc"})
		_ = v.herd(t, 10, always("wrong"))
		if n := v.tried.Load(); n != 2 {
			t.Errorf("%d logins, want one more", n)
		}
	})
}

func TestThoseWhoQueueShareTheNewsThatTheVCenterIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVC("right")
		v.away, v.takes = true, time.Minute
		began := time.Now()
		for _, err := range v.herd(t, 16, always("right")) {
			if !errors.Is(err, vsphere.ErrUnreachable) {
				t.Errorf("login = %v", err)
			}
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("16 who queued learnt after %v that the vCenter hangs, want 1m", took)
		}
		v.away = false
		if err := v.login(t.Context(), "svc", "right"); err != nil {
			t.Errorf("when it is back: %v", err)
		}
	})
}

func TestWhoQueuesForALoginCanGiveUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVC("right")
		v.takes = time.Hour
		first := make(chan error, 1)
		go func() { first <- v.login(t.Context(), "svc", "right") }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := v.login(ctx, "svc", "right"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("login = %v", err)
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}
