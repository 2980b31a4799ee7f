package transfer

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hyper2kvm/hyper2kvm/progress"
)

// meter is what every byte and every failure of a reader passes: it counts for
// the user, keeps the bandwidth limit, and asks the budget.
type meter struct {
	file     *progress.File
	limiter  *Limiter
	budget   *Budget
	retrying atomic.Bool
}

// received counts n bytes off the wire and waits for the limiter.
func (m *meter) received(ctx context.Context, n int) error {
	if n == 0 {
		return nil
	}
	if m.file != nil {
		m.file.AddReceived(int64(n))
		if m.retrying.Load() && m.retrying.CompareAndSwap(true, false) {
			m.file.SetState(progress.Active)
		}
	}
	return m.limiter.Wait(ctx, n)
}

// retry is [Budget.Retry] for an attempt that began at a mark of the budget, with the
// pause shown to the user. what names what is tried again.
func (m *meter) retry(ctx context.Context, mark int, what string, cause error) error {
	return m.budget.retry(ctx, mark, cause, m.announce(what, cause))
}

// pause is retry whatever the cause is.
func (m *meter) pause(ctx context.Context, mark int, what string, cause error) error {
	return m.budget.pause(ctx, mark, cause, m.announce(what, cause))
}

// restart is the end of a reader whose bytes cannot go on: ErrRestart and cause
// after a pause, or the error to end with.
func (m *meter) restart(ctx context.Context, mark int, cause error) error {
	if err := m.pause(ctx, mark, "starting again", cause); err != nil {
		return err
	}
	return fmt.Errorf("%w: %w", ErrRestart, cause)
}

func (m *meter) announce(what string, cause error) func(time.Duration) {
	return func(pause time.Duration) {
		if m.file == nil {
			return
		}
		m.file.AddRetryFor(Cause(cause))
		m.file.SetState(progress.Retrying)
		m.retrying.Store(true)
		m.file.Event(progress.Warning, fmt.Sprintf("%s in %v: %v", what, pause.Round(10*time.Millisecond), cause))
	}
}
