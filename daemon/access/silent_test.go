package access_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

// silentTokens are in a store that does not answer.
type silentTokens struct{ access.Tokens }

func (silentTokens) Any(ctx context.Context) (bool, error) {
	<-ctx.Done()
	return false, ctx.Err()
}

func TestAStoreThatDoesNotAnswerKeepsARequestForSecondsOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := access.New(access.Options{Tokens: silentTokens{}}).Identify(t.Context(), access.Peer{Loopback: true}, nil)
		denied := new(access.Denied)
		if !errors.As(err, &denied) || denied.Reason != access.Unavailable {
			t.Errorf("Identify = %v", err)
		}
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}
