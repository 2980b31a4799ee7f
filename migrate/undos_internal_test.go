package migrate

import (
	"context"
	"slices"
	"testing"

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
		end.unwind(ctx)
		end.unwind(ctx) // there is nothing any more
		cancel(nil)
		if !slices.Equal(got, want) {
			t.Errorf("after %v it does %v, want %v", cause, got, want)
		}
	}
}
