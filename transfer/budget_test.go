package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

var errCut = errors.New("connection cut")

func TestABudgetRunsOutWithoutProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := transfer.NewBudget(transfer.BudgetOptions{Retries: 3})
		for range 3 {
			if err := b.Retry(t.Context(), errCut); err != nil {
				t.Fatal(err)
			}
		}
		wantError(t, b.Retry(t.Context(), errCut), transfer.ErrExhausted, errCut)
	})
}

func TestABudgetIsRestoredByProgressAndNotByBytesFetchedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := transfer.NewBudget(transfer.BudgetOptions{Retries: 2, Refill: 1000})
		for pos := int64(1000); pos <= 50_000; pos += 1000 {
			if err := b.Retry(t.Context(), errCut); err != nil {
				t.Fatalf("at %d: %v", pos, err)
			}
			b.Advance(pos)
		}
		for pos := int64(0); pos <= 50_999; pos += 10 { // again from the start, and not quite far enough
			b.Advance(pos)
		}
		_ = b.Retry(t.Context(), errCut)
		_ = b.Retry(t.Context(), errCut)
		wantError(t, b.Retry(t.Context(), errCut), transfer.ErrExhausted)
	})
}

func TestPausesGrowWithinTheirBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := transfer.NewBudget(transfer.BudgetOptions{Retries: 10, Min: time.Second, Max: 8 * time.Second})
		for _, usual := range []time.Duration{1, 2, 4, 8, 8, 8} {
			began := time.Now()
			if err := b.Retry(t.Context(), errCut); err != nil {
				t.Fatal(err)
			}
			took, least, most := time.Since(began), usual*700*time.Millisecond, min(usual*1300*time.Millisecond, 8*time.Second)
			if took < least || took > most {
				t.Errorf("paused %v, want %v to %v", took, least, most)
			}
		}
	})
}

func TestRetryAfterIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := transfer.NewBudget(transfer.BudgetOptions{Max: time.Minute})
		began := time.Now()
		if err := b.Retry(t.Context(), &transfer.StatusError{Code: 503, RetryAfter: 24 * time.Hour}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("paused %v, want 1m", took)
		}
	})
}

func TestFailuresDuringOnePauseAreOneFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := transfer.NewBudget(transfer.BudgetOptions{Retries: 2})
		for left := 1; left >= 0; left-- {
			var workers sync.WaitGroup
			for range 8 {
				workers.Go(func() {
					if err := b.Retry(t.Context(), errCut); err != nil {
						t.Error(err)
					}
				})
			}
			workers.Wait()
			if b.Left() != left {
				t.Errorf("%d retries left, want %d", b.Left(), left)
			}
		}
	})
}

func TestAPauseEndsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		b := transfer.NewBudget(transfer.BudgetOptions{Min: time.Hour, Max: time.Hour})
		began := time.Now()
		wantError(t, b.Retry(ctx, errCut), context.DeadlineExceeded)
		if took := time.Since(began); took != time.Second {
			t.Errorf("paused %v, want 1s", took)
		}
	})
}

func TestWhatTryingAgainCannotMendIsNotRetried(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{context.Canceled, false},
		{transfer.ErrNoRange, false},
		{transfer.ErrChanged, false},
		{fmt.Errorf("disk 1: %w", transfer.ErrEmptyBody), false},
		{transfer.Permanent(errCut), false},
		{fmt.Errorf("disk 1: %w", transfer.Permanent(errCut)), false},
		{&net.DNSError{IsNotFound: true}, false},
		{&net.DNSError{IsTimeout: true}, true},
		{&transfer.StatusError{Code: 400}, false},
		{&transfer.StatusError{Code: 408}, true},
		{&transfer.StatusError{Code: 501}, false},
		{&transfer.StatusError{Code: 502}, true},
		{transfer.ErrStalled, true},
		{io.ErrUnexpectedEOF, true},
		{errCut, true},
	} {
		if got := transfer.Temporary(test.err); got != test.want {
			t.Errorf("Temporary(%v) = %v", test.err, got)
		}
		if test.err == nil || test.want {
			continue
		}
		if err := quick(5).Retry(t.Context(), test.err); err != test.err { //nolint:errorlint // itself
			t.Errorf("Retry(%v) = %v, want the error itself", test.err, err)
		}
	}
	if transfer.Permanent(nil) != nil {
		t.Error("Permanent(nil) is not nil")
	}
}
