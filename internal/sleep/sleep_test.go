package sleep_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
)

func TestASleepLastsAsLongAsItIsTo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := sleep.For(t.Context(), time.Hour); err != nil || time.Since(start) != time.Hour {
			t.Errorf("it lasted %v (%v), want an hour", time.Since(start), err)
		}
		if err := sleep.For(t.Context(), -time.Hour); err != nil || time.Since(start) != time.Hour {
			t.Errorf("a negative one took time (%v)", err)
		}
	})
}

func TestASleepEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, d := range []time.Duration{time.Hour, time.Hour, 0} {
			if err := sleep.For(ctx, d); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a sleep of %v: %v, want the context's error", d, err)
			}
		}
		if took := time.Since(start); took != time.Minute {
			t.Errorf("they took %v, want a minute", took)
		}
	})
}
