// Package limits keeps limits that hold for all daemons on a store together: places
// for disks at a vCenter and at an ESXi host, and bandwidth.
//
// Each daemon holds a part of a limit, by a claim of its own in the [Store], for as
// long as it renews it. The parts never add up to more than the limit: what one daemon
// gives back, or has not renewed in time, is there for the others, and nothing else is.
// A daemon that cannot reach the store hands out nothing new, and is down to nothing
// before another one may have its part.
//
// [Divide] says what is whose: everybody gets what he asks for, and where that is too
// much, equal parts by weight. What cannot be divided goes round. Nothing that is in
// use is taken away: who has more than his part gets nothing until he is below it.
//
// A [Keeper] is one daemon's side of that. It asks for what is used and waited for, so
// nobody holds what he does not need, and it asks when that changes and every few
// seconds; a daemon that moves nothing costs the store one look every few seconds, and
// none without a bandwidth to keep.
package limits

import (
	"context"
	"time"
)

// Unlimited is the limit that is none.
const Unlimited = 0

// Need is what a daemon asks of one limit.
type Need struct {
	// Name is that of the limit: the same one at all daemons.
	Name string
	// Limit is what this daemon's configuration says, in whatever is counted; 0 is
	// none. The smallest of all daemons' holds, unless somebody has chosen another.
	Limit int64
	// Keep is what the daemon holds and does not give back now.
	Keep int64
	// Want is how much it could use. With a Want and a Keep of 0 it holds nothing any
	// more.
	Want int64
	// Weight is how large its part is to be beside those of others; 0 counts as 1.
	Weight int64
	// Hold, when not zero, is how long the part holds that is not renewed, where that is
	// less than for the daemon's others.
	Hold time.Duration
}

// HoldOf is for how long a part holds that is not renewed, hold that of the daemon's others.
func (n Need) HoldOf(hold time.Duration) time.Duration {
	if n.Hold > 0 {
		return min(n.Hold, hold)
	}
	return hold
}

// Share is what a daemon has of a limit.
type Share struct {
	Name  string
	Limit int64 // that holds now, 0 for none
	// Held is what the daemon may use.
	Held int64
	// Fair is what it should be down to: where that is less than Held, others wait for
	// the rest.
	Fair int64
}

// Holding is a part of a limit as people see it.
type Holding struct {
	Name  string // of the limit
	Owner string // the daemon that holds the part
	Limit int64  // that holds now, 0 for none
	Held  int64
	// Waiting is how much more it wants, of what is not measured in bytes.
	Waiting int64
}

// Store is where daemons divide limits. Its errors are those of the jobs' store.
type Store interface {
	// Divide renews what owner holds of the limits until hold from now, or the need's own
	// ([Need.HoldOf]), and gives it more where there is more, all in one transaction. It returns the shares in the
	// order of needs. No two needs have the same name.
	Divide(ctx context.Context, owner string, hold time.Duration, needs []Need) ([]Share, error)
	// Choose sets a limit to what a person wants, for all daemons and until it is
	// chosen again: before what their configuration says. 0 is no limit.
	Choose(ctx context.Context, name string, limit int64) error
	// Chosen is what was chosen last; ok is false when nothing was.
	Chosen(ctx context.Context, name string) (limit int64, ok bool, err error)
	// Holdings are all parts that are held now, by name and owner.
	Holdings(ctx context.Context) ([]Holding, error)
}
