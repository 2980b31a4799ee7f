package limits

import (
	"context"
	"time"
)

// Refusal is a password that a vCenter has refused to a user, as daemons on a store tell
// each other: so that each wrong password is tried once by all of them together, and
// not once by each.
type Refusal struct {
	// Account is the user, and the vCenter.
	Account string
	// Password is a keyed hash of the password, under a key that is not in the store.
	Password []byte
	Reason   string    // what the vCenter said; no secret
	At       time.Time // when, by the store's wall clock
	// Age is how long ago that was.
	Age time.Duration
	// Strike is that no login of the account has succeeded since: a few of these in a
	// short time lock an account.
	Strike bool
}

// Refusals is what a [Store] does so that daemons share them. Its errors are those of the
// jobs' store.
type Refusals interface {
	// Refusals are those of an account whose time is not over, the oldest first.
	Refusals(ctx context.Context, account string) ([]Refusal, error)
	// Refuse notes that a vCenter has refused a password just now: it holds for that long.
	// Of r the account, the password and the reason count.
	Refuse(ctx context.Context, r Refusal, hold time.Duration) error
	// Accepted notes that a login of the account has succeeded: what was refused before
	// is no strike any more, but is not tried again either.
	Accepted(ctx context.Context, account string) error
	// Forgive forgets all refusals of the account: a person says so.
	Forgive(ctx context.Context, account string) error
}
