package transfer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// BudgetOptions are the choices of a [Budget]. The zero value works.
type BudgetOptions struct {
	Retries int           // retries without progress; 0 means 8, negative means none
	Refill  int64         // bytes of new progress that restore them all; 0 means 64 MiB
	Min     time.Duration // first pause; 0 means 500 ms
	Max     time.Duration // longest pause, a server's Retry-After included; 0 means 60 s
}

// Budget is how many failures one object may still have. It is spent by
// retries and restored whenever the transfer has come [BudgetOptions.Refill]
// bytes farther than it ever was: a long transfer over a poor network ends,
// one that always breaks at the same place does not go on for ever. Bytes that
// are fetched again after a restart are no progress.
//
// One Budget serves all attempts at one object, so that retries at several
// places do not multiply. Failures that come while another one's pause lasts
// share that pause and cost nothing, and so do, in the readers of this package, those of
// requests that were under way when that one was counted: an outage that breaks eight
// connections, at once or one after the other, is one failure. Its methods may be called
// from several goroutines.
type Budget struct {
	retries int
	refill  int64
	max     time.Duration

	mu      sync.Mutex
	spent   int
	counted int   // failures that cost a retry, ever
	high    int64 // farthest position at the last refill
	until   time.Time
	backoff *backoff.ExponentialBackOff
}

// NewBudget returns a full budget.
func NewBudget(o BudgetOptions) *Budget {
	if o.Retries == 0 {
		o.Retries = 8
	}
	if o.Refill <= 0 {
		o.Refill = 64 << 20
	}
	if o.Min <= 0 {
		o.Min = 500 * time.Millisecond
	}
	if o.Max <= 0 {
		o.Max = 60 * time.Second
	}
	pauses := &backoff.ExponentialBackOff{
		InitialInterval:     o.Min,
		RandomizationFactor: 0.3,
		Multiplier:          2,
		MaxInterval:         o.Max,
	}
	pauses.Reset()
	return &Budget{retries: max(o.Retries, 0), refill: o.Refill, max: o.Max, backoff: pauses}
}

// Advance says that pos bytes of the object have arrived, in whatever order.
func (b *Budget) Advance(pos int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if pos-b.high < b.refill {
		return
	}
	b.high = pos
	b.spent = 0
	b.backoff.Reset()
}

// Left returns how many retries remain.
func (b *Budget) Left() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.retries - b.spent
}

// Retry pauses before another attempt and returns nil when it may be made. The
// pause grows exponentially with jitter, and is at least what an error in cause with
// a method Pause() time.Duration asks for, as a [StatusError] does, within
// BudgetOptions.Max. Otherwise it returns the error
// to end with: cause itself when [Temporary] says that it cannot be mended,
// cause and [ErrExhausted] when no retry is left, or the context's error.
func (b *Budget) Retry(ctx context.Context, cause error) error {
	return b.retry(ctx, b.mark(), cause, func(time.Duration) {})
}

// mark is taken before an attempt, for retry or pause to tell whether a failure has been
// counted since.
func (b *Budget) mark() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counted
}

// retry is Retry for an attempt that began at a mark; paused is called before a pause that
// this failure began, not for one that it shares.
func (b *Budget) retry(ctx context.Context, mark int, cause error, paused func(time.Duration)) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	if !Temporary(cause) {
		return cause
	}
	return b.pause(ctx, mark, cause, paused)
}

// pause is retry whatever the cause is.
func (b *Budget) pause(ctx context.Context, mark int, cause error, paused func(time.Duration)) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	pause, own, err := b.spend(mark, cause)
	if err != nil {
		return err
	}
	if own {
		paused(pause)
	}
	return waitFor(ctx, pause)
}

// spend takes one retry, or joins the pause that lasts, or has lasted since the mark.
func (b *Budget) spend(mark int, cause error) (pause time.Duration, own bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	var patient interface{ Pause() time.Duration }
	if errors.As(cause, &patient) {
		pause = min(patient.Pause(), b.max)
	}
	left := b.until.Sub(now)
	switch {
	case left > 0:
		return left, false, nil
	case mark != b.counted:
		return pause, false, nil
	}
	if b.spent >= b.retries {
		return 0, false, fmt.Errorf("%w after %d retries without progress: %w", ErrExhausted, b.spent, cause)
	}
	b.spent++
	b.counted++
	pause = min(max(pause, b.backoff.NextBackOff()), b.max)
	b.until = now.Add(pause)
	return pause, true, nil
}
