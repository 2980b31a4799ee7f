package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// guardedBody cancels its request when the server lets a Read wait for longer
// than stall. The clock runs only while we wait for the server, so a consumer
// that takes its time is no stall.
type guardedBody struct {
	body   io.ReadCloser
	stall  time.Duration
	timer  *time.Timer
	cause  func() error // why the request's context ended, nil while it has not
	cancel context.CancelCauseFunc
}

// guard opens a body under a watchdog. Both the opening and every Read of the
// body end with [ErrStalled] when nothing comes for stall.
func guard(ctx context.Context, stall time.Duration, open func(context.Context) (io.ReadCloser, error)) (*guardedBody, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	g := &guardedBody{
		stall:  stall,
		timer:  time.AfterFunc(stall, func() { cancel(ErrStalled) }),
		cause:  func() error { return context.Cause(ctx) },
		cancel: cancel,
	}
	body, err := open(ctx)
	g.timer.Stop()
	if err != nil {
		err = g.explain(err)
		cancel(nil)
		return nil, err
	}
	g.body = body
	return g, nil
}

// Read reads what the server has sent. io.EOF is passed on as it is.
func (g *guardedBody) Read(p []byte) (int, error) {
	g.timer.Reset(g.stall)
	n, err := g.body.Read(p)
	g.timer.Stop()
	if err != nil && err != io.EOF {
		err = g.explain(err)
	}
	return n, err
}

// explain replaces the cancellation that the watchdog caused by its reason.
func (g *guardedBody) explain(err error) error {
	if errors.Is(g.cause(), ErrStalled) {
		return fmt.Errorf("%w: no byte for %v", ErrStalled, g.stall)
	}
	return err
}

// Close ends the request.
func (g *guardedBody) Close() error {
	g.timer.Stop()
	err := g.body.Close()
	g.cancel(nil)
	return err
}
