package storetest

import (
	"errors"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/limits"
)

func (f *fixture) refusals() limits.Refusals {
	f.Helper()
	s, ok := f.Store.(limits.Refusals)
	if !ok {
		f.Fatalf("%T is no limits.Refusals", f.Store)
	}
	return s
}

// refused are the passwords that an account was refused, those of which no login has
// succeeded since with a mark.
func (f *fixture) refused(account string) []string {
	f.Helper()
	all, err := f.refusals().Refusals(f.Context(), account)
	f.must(err)
	words := []string{}
	for _, r := range all {
		word := string(r.Password)
		if r.Strike {
			word += "!"
		}
		words = append(words, word)
	}
	return words
}

func (f *fixture) refuse(account string, passwords ...string) {
	f.Helper()
	for _, p := range passwords {
		f.must(f.refusals().Refuse(f.Context(), limits.Refusal{Account: account, Password: []byte(p), Reason: "incorrect password"}, hold))
		f.advance(time.Millisecond)
	}
}

func refusedPasswordsAreKnownToAll(f *fixture) {
	f.equal("nothing", f.refused("svc at vc"), []string{})
	f.refuse("svc at vc", "\x00one\xff", "two", "three")
	f.refuse("svc at other", "one")
	f.equal("in their order", f.refused("svc at vc"), []string{"\x00one\xff!", "two!", "three!"})
	f.must(f.refusals().Accepted(f.Context(), "svc at vc"))
	f.equal("one was accepted", f.refused("svc at vc"), []string{"\x00one\xff", "two", "three"})
	f.refuse("svc at vc", "two")
	f.equal("one is refused again", f.refused("svc at vc"), []string{"\x00one\xff", "three", "two!"})
	f.must(f.refusals().Forgive(f.Context(), "svc at vc"))
	f.equal("forgiven", f.refused("svc at vc"), []string{})
	f.equal("another account", f.refused("svc at other"), []string{"one!"})
}

func refusalsHoldForTheirTime(f *fixture) {
	f.refuse("svc at vc", "one")
	f.advance(hold - 2*time.Second)
	f.jump(-time.Hour)
	all, err := f.refusals().Refusals(f.Context(), "svc at vc")
	f.must(err)
	if len(all) != 1 || all[0].Age < hold-3*time.Second || all[0].Age > hold || all[0].Reason != "incorrect password" || all[0].At.IsZero() {
		f.Errorf("refusals %+v", all)
	}
	f.advance(3 * time.Second)
	f.equal("its time is over", f.refused("svc at vc"), []string{})
	f.refuse("svc at vc", "two")
	f.equal("the next", f.refused("svc at vc"), []string{"two!"})
}

func refusalsThatManyDaemonsNote(f *fixture) {
	errs := make(chan error)
	for range 8 {
		go func() {
			errs <- errors.Join(
				f.refusals().Refuse(f.Context(), limits.Refusal{Account: "svc at vc", Password: []byte("one"), Reason: "no"}, hold),
				f.refusals().Accepted(f.Context(), "svc at vc"))
		}()
	}
	for range 8 {
		f.must(<-errs)
	}
	f.equal("one", len(f.refused("svc at vc")), 1)
}
