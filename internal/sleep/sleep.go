// Package sleep waits, and bounds for how long something outlives a context.
package sleep

import (
	"context"
	"fmt"
	"time"
)

// For waits for d, or until ctx ends, whose error it then returns. It returns at
// once when d is 0 or less, or ctx has ended.
func For(ctx context.Context, d time.Duration) error {
	if d <= 0 || ctx.Err() != nil {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Outlasting returns a context that ends d after ctx has ended, with its cause, and
// carries its values: for what must not be given up half-way.
func Outlasting(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(d, func() { cancel(fmt.Errorf("no answer within %v of the end: %w", d, context.Cause(ctx))) })
	})
	return out, func() { stop(); cancel(context.Canceled) }
}
