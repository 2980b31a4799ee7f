package storetest

import (
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/limits"
)

// shares is what all stores do for limits.
func (f *fixture) shares() limits.Store {
	f.Helper()
	s, ok := f.Store.(limits.Store)
	if !ok {
		f.Fatalf("%T is no limits.Store", f.Store)
	}
	return s
}

// divide asks for want places of a limit, of which keep are in use, and returns how
// many the owner holds.
func (f *fixture) divide(owner, name string, limit, keep, want int64) limits.Share {
	f.Helper()
	got, err := f.shares().Divide(f.Context(), owner, hold, []limits.Need{{Name: name, Limit: limit, Keep: keep, Want: want}})
	f.must(err)
	if len(got) != 1 || got[0].Name != name {
		f.Fatalf("shares %+v", got)
	}
	return got[0]
}

func sharesAreWithinTheLimit(f *fixture) {
	const name = "disks"
	f.equal("alone", f.divide("a", name, 6, 0, 4).Held, int64(4))
	f.equal("what is left", f.divide("b", name, 6, 0, 4).Held, int64(2))
	f.equal("nothing is left", f.divide("c", name, 6, 0, 4).Held, int64(0))
	f.equal("another limit", f.divide("c", "others", 6, 0, 4).Held, int64(4))
	// Who has more than a fair part keeps what is in use, and gets nothing more.
	f.equal("the first", f.divide("a", name, 6, 4, 8), limits.Share{Name: name, Limit: 6, Held: 4, Fair: 2})
	f.equal("one is over", f.divide("a", name, 6, 3, 8).Held, int64(3))
	f.equal("it is for the one that waits", f.divide("c", name, 6, 0, 4).Held, int64(1))
	f.equal("one more is over", f.divide("a", name, 6, 2, 8).Held, int64(2))
	f.equal("it is for the one that waits, too", f.divide("c", name, 6, 1, 4).Held, int64(2))
}

func sharesEndWithTheirClaims(f *fixture) {
	const name = "disks"
	f.divide("dead", name, 4, 0, 4)
	f.divide("alive", name, 4, 0, 1)
	f.advance(hold - time.Second)
	f.equal("while the claim holds", f.divide("alive", name, 4, 0, 4).Held, int64(0))
	f.advance(2 * time.Second)
	f.equal("when it has run out", f.divide("alive", name, 4, 0, 4).Held, int64(4))
	got, err := f.shares().Holdings(f.Context())
	f.must(err)
	f.equal("holdings", got, []limits.Holding{{Name: name, Owner: "alive", Limit: 4, Held: 4}})
	// One that was taken for dead keeps what it says it cannot give back.
	f.equal("the dead comes back", f.divide("dead", name, 4, 2, 4).Held, int64(2))
}

func sharesMayHoldForLess(f *fixture) {
	for name, holds := range map[string]time.Duration{"logins": hold / 2, "disks": 2 * hold} {
		_, err := f.shares().Divide(f.Context(), "dead", hold, []limits.Need{{Name: name, Limit: 1, Want: 1, Hold: holds}})
		f.must(err)
	}
	f.advance(hold/2 - time.Second)
	f.equal("while it holds", f.divide("alive", "logins", 1, 0, 1).Held, int64(0))
	f.advance(2 * time.Second)
	f.equal("when it has run out", f.divide("alive", "logins", 1, 0, 1).Held, int64(1))
	f.equal("what holds as long as the others", f.divide("alive", "disks", 1, 0, 1).Held, int64(0))
	f.advance(hold / 2)
	f.equal("and no longer", f.divide("alive", "disks", 1, 0, 1).Held, int64(1))
}

func sharesAreGivenBack(f *fixture) {
	const name = "disks"
	f.divide("a", name, 1, 0, 1)
	f.equal("taken", f.divide("b", name, 1, 0, 1).Held, int64(0))
	f.divide("a", name, 1, 0, 0)
	f.equal("given back", f.divide("b", name, 1, 0, 1).Held, int64(1))
	f.divide("b", name, 1, 0, 0)
	got, err := f.shares().Holdings(f.Context())
	f.must(err)
	f.equal("holdings", got, []limits.Holding{})
}

func whatCannotBeDividedGoesRound(f *fixture) {
	const name = "login"
	owners := []string{"a", "b", "c"}
	var served []string
	held := map[string]int64{}
	for range 12 {
		for _, o := range owners { // each of them waits for more
			now := f.divide(o, name, 1, held[o], 5).Held
			if now > held[o] {
				served = append(served, o)
			}
			held[o] = now
		}
		f.equal("held in all", held["a"]+held["b"]+held["c"], int64(1))
		for o, n := range held {
			if n == 1 { // what it does is over
				held[o] = f.divide(o, name, 1, 0, 5).Held
			}
		}
	}
	f.equal("served", served[:6], []string{"a", "b", "c", "a", "b", "c"})
}

func theSmallestLimitHoldsUnlessOneIsChosen(f *fixture) {
	const name = "bandwidth"
	s := f.shares()
	if _, ok, err := s.Chosen(f.Context(), name); ok || err != nil {
		f.Errorf("chosen: %v, %v", ok, err)
	}
	f.equal("none", f.divide("a", name, 0, 0, 1000).Held, int64(1000))
	f.equal("two configurations", f.divide("b", name, 90, 0, 1000), limits.Share{Name: name, Limit: 90, Held: 45, Fair: 45})
	f.equal("the other", f.divide("a", name, 0, 0, 1000), limits.Share{Name: name, Limit: 90, Held: 45, Fair: 45})
	f.must(s.Choose(f.Context(), name, 20))
	f.equal("chosen", f.divide("b", name, 90, 45, 1000), limits.Share{Name: name, Limit: 20, Held: 45, Fair: 10})
	f.equal("it has come down", f.divide("b", name, 90, 10, 1000), limits.Share{Name: name, Limit: 20, Held: 10, Fair: 10})
	n, ok, err := s.Chosen(f.Context(), name)
	f.must(err)
	f.equal("chosen", n, int64(20))
	f.equal("chosen", ok, true)
	f.must(s.Choose(f.Context(), name, limits.Unlimited))
	f.equal("no limit is chosen", f.divide("b", name, 90, 10, 1000).Limit, int64(0))
	f.must(s.Choose(f.Context(), name, 1))
	f.equal("a limit again", f.divide("b", name, 90, 0, 1000).Limit, int64(1))
}

func sharesGoByWeight(f *fixture) {
	s := f.shares()
	ask := func(owner string, weight, keep int64) limits.Share {
		got, err := s.Divide(f.Context(), owner, hold, []limits.Need{{Name: "bandwidth", Limit: 100, Keep: keep, Want: 1 << 40, Weight: weight}})
		f.must(err)
		return got[0]
	}
	f.equal("alone", ask("a", 3, 0).Held, int64(100))
	f.equal("nothing yet", ask("b", 1, 0).Held, int64(0))
	f.equal("told to come down", ask("a", 3, 100).Fair, int64(75))
	f.equal("down", ask("a", 3, 75).Held, int64(75))
	f.equal("the rest", ask("b", 1, 0).Held, int64(25))
}

func severalLimitsAreDividedAtOnce(f *fixture) {
	got, err := f.shares().Divide(f.Context(), "a", hold, []limits.Need{
		{Name: "z", Limit: 3, Want: 2}, {Name: "a", Limit: 3, Want: 5}, {Name: "nothing", Limit: 3},
	})
	f.must(err)
	f.equal("shares", got, []limits.Share{
		{Name: "z", Limit: 3, Held: 2, Fair: 2}, {Name: "a", Limit: 3, Held: 3, Fair: 3}, {Name: "nothing", Limit: 3},
	})
}
