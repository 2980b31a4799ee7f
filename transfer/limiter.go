package transfer

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
)

// Limiter bounds the bytes per second of all readers that share it. A limiter
// may have a parent, whose bound holds for all its children together: a job's
// limiter under the daemon's. A nil *Limiter is no limit. Its methods may be
// called from several goroutines.
//
// Bytes are paid for after they were read, so what arrives in the first moment
// may exceed the bound by a socket buffer; over ten seconds the bound is kept
// within 2 %.
type Limiter struct {
	parent *Limiter

	mu     sync.Mutex // makes burst and reservation one step
	bucket *rate.Limiter
}

// NewLimiter returns a limiter of bytesPerSecond, where 0 or less is no limit.
// parent may be nil.
func NewLimiter(bytesPerSecond int64, parent *Limiter) *Limiter {
	l := &Limiter{parent: parent, bucket: rate.NewLimiter(rate.Inf, 0)}
	l.SetLimit(bytesPerSecond)
	return l
}

// SetLimit changes the bound, also for readers that are waiting. 0 or less is
// no limit.
func (l *Limiter) SetLimit(bytesPerSecond int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytesPerSecond <= 0 {
		l.bucket.SetLimit(rate.Inf)
		return
	}
	l.bucket.SetBurst(burst(bytesPerSecond))
	l.bucket.SetLimit(rate.Limit(bytesPerSecond))
}

// burst is what may pass at once: 50 ms worth, enough to make up for a timer
// that fires late, and no more than 0.5 % of ten seconds.
func burst(bytesPerSecond int64) int {
	return int(min(max(bytesPerSecond/20, 1), 1<<30))
}

// Limit returns the bound in bytes per second, or 0 for none. A parent's bound
// is not considered.
func (l *Limiter) Limit() int64 {
	if l == nil {
		return 0
	}
	if r := l.bucket.Limit(); r != rate.Inf {
		return int64(r)
	}
	return 0
}

// Wait returns when n more bytes are within the bound of l and of its parents,
// or with the context's error.
func (l *Limiter) Wait(ctx context.Context, n int) error {
	for ; l != nil; l = l.parent {
		if err := l.wait(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// wait pays for n bytes in portions of a burst, so that a change of the bound
// takes effect within about 50 ms of the old one.
func (l *Limiter) wait(ctx context.Context, n int) error {
	for n > 0 {
		portion, reservation := l.reserve(n)
		if err := waitFor(ctx, reservation.Delay()); err != nil {
			reservation.Cancel()
			return err
		}
		n -= portion
	}
	return nil
}

func (l *Limiter) reserve(n int) (int, *rate.Reservation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bucket.Limit() != rate.Inf {
		n = min(n, l.bucket.Burst())
	}
	return n, l.bucket.ReserveN(time.Now(), n)
}

// waitFor sleeps; its error says why ctx ended.
func waitFor(ctx context.Context, d time.Duration) error {
	if sleep.For(ctx, d) != nil {
		return contextError(ctx)
	}
	return nil
}
