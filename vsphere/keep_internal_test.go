package vsphere

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// renewals runs a keeper of a lease of five minutes in virtual time against
// answer, and returns when it was asked to renew, and its end.
func renewals(t *testing.T, stop time.Duration, answer func(ctx context.Context, n int) error) (at []time.Duration, end time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), stop)
		defer cancel()
		k := keeper{timeout: 300 * time.Second, renew: func(ctx context.Context) error {
			at = append(at, time.Since(start))
			return answer(ctx, len(at))
		}}
		err = k.run(ctx)
		end = time.Since(start)
	})
	return at, end, err
}

func TestAKeeperRenewsEveryThirdOfTheLeaseTime(t *testing.T) {
	t.Parallel()
	at, _, err := renewals(t, 350*time.Second, func(context.Context, int) error { return nil })
	want := []time.Duration{0, 100 * time.Second, 200 * time.Second, 300 * time.Second}
	if err != nil || !slices.Equal(at, want) {
		t.Errorf("renewed at %v, error %v; want %v", at, err, want)
	}
}

func TestAKeeperOutlivesFailuresShorterThanTheLease(t *testing.T) {
	t.Parallel()
	at, end, err := renewals(t, time.Hour, func(_ context.Context, n int) error {
		if n > 1 && n < 18 { // from 100 s on, for 160 s
			return errors.New("connection refused")
		}
		return nil
	})
	if err != nil || end != time.Hour {
		t.Errorf("ended after %v with %v, renewals at %v", end, err, at)
	}
}

func TestAKeeperGivesUpWhenTheLeaseMustHaveRunOut(t *testing.T) {
	t.Parallel()
	down := errors.New("connection refused")
	_, end, err := renewals(t, time.Hour, func(_ context.Context, n int) error {
		if n == 1 {
			return nil
		}
		return down
	})
	if !errors.Is(err, down) || end != 300*time.Second {
		t.Errorf("ended after %v with %v, want the failure after 5m0s", end, err)
	}
}

func TestAKeeperDoesNotWaitForAnAnswerLongerThanTheLeaseLives(t *testing.T) {
	t.Parallel()
	hung := 0
	_, end, err := renewals(t, time.Hour, func(ctx context.Context, n int) error {
		if n == 1 {
			return nil
		}
		hung++
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, context.DeadlineExceeded) || end != 300*time.Second || hung < 3 {
		t.Errorf("ended after %v and %d attempts with %v", end, hung, err)
	}
}

func TestAKeeperBelievesAnAnswerThatTheLeaseIsGone(t *testing.T) {
	t.Parallel()
	for _, f := range []types.BaseMethodFault{&types.ManagedObjectNotFound{}, &types.InvalidState{}, &types.Timedout{}} {
		at, _, err := renewals(t, time.Hour, func(_ context.Context, n int) error {
			if n == 1 {
				return nil
			}
			return soap.WrapVimFault(f)
		})
		if err == nil || len(at) != 2 {
			t.Errorf("%T: error %v after %d attempts, want one at once", f, err, len(at))
		}
	}
}

func TestAKeeperStopsWithItsContextEvenInMidCall(t *testing.T) {
	t.Parallel()
	_, end, err := renewals(t, 110*time.Second, func(ctx context.Context, n int) error {
		if n == 1 {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	})
	if err != nil || end != 110*time.Second {
		t.Errorf("ended after %v with %v", end, err)
	}
}

func TestAnIdleSessionIsTouched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 34*time.Minute)
		defer cancel()
		start := time.Now()
		last := start.Add(5 * time.Minute) // the last call that somebody else made
		var at []time.Duration
		whenIdle(ctx, 10*time.Minute, func() time.Time { return last }, func(context.Context) {
			last = time.Now()
			at = append(at, time.Since(start))
		})
		want := []time.Duration{15 * time.Minute, 25 * time.Minute}
		if !slices.Equal(at, want) {
			t.Errorf("touched at %v, want %v", at, want)
		}
	})
}

func TestACallThatChangesSomethingMayFinishShortlyAfterItsCallerGaveUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancel(t.Context())
		call, done := bounded(parent, time.Second)
		defer done()
		time.Sleep(time.Hour)
		if call.Err() != nil {
			t.Error("ended before its parent")
		}
		cancel()
		at := time.Now()
		synctest.Wait()
		if call.Err() != nil {
			t.Error("ended with its parent")
		}
		<-call.Done()
		if d := time.Since(at); d != time.Second {
			t.Errorf("ended after %v", d)
		}
	})
}
