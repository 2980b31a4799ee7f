// Package sleep waits without outliving a context.
package sleep

import (
	"context"
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
