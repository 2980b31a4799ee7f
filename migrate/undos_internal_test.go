package migrate

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/panics"
	"github.com/hyper2kvm/hyper2kvm/job"
)

func TestWhatARunHasBegunIsUndoneFromTheLastToTheFirst(t *testing.T) {
	t.Parallel()
	for cause, want := range map[error][]string{
		nil:              {"changes", "work", "session"},
		job.ErrShutdown:  {"changes", "work", "session"},
		job.ErrClaimLost: {"unlock", "session"},
	} {
		var got []string
		does := func(what string) func() { return func() { got = append(got, what) } }
		var end undos
		end.push(does("session"))
		end.pushOwn(does("work"), does("unlock"))
		end.pushOwn(does("changes"), nil)
		ctx, cancel := context.WithCancelCause(t.Context())
		if cause != nil {
			cancel(cause)
		}
		if err := errors.Join(end.unwind(ctx), end.unwind(ctx)); err != nil { // the second time there is nothing any more
			t.Error(err)
		}
		cancel(nil)
		if !slices.Equal(got, want) {
			t.Errorf("after %v it does %v, want %v", cause, got, want)
		}
	}
}

func TestAnUndoThatPanicsKeepsNoOtherFromBeingDone(t *testing.T) {
	t.Parallel()
	done := false
	var end undos
	end.push(func() { done = true })
	end.push(func() { panic("boom") })
	var p *panics.Error
	if err := end.unwind(t.Context()); !errors.As(err, &p) || !done {
		t.Errorf("done %t, error %v", done, err)
	}
}
