package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// daemons is the part of the store that knows the daemons.
func (f *fixture) daemons() jobs.Daemons {
	f.Helper()
	d, ok := f.Store.(jobs.Daemons)
	if !ok {
		f.Fatalf("%T is no jobs.Daemons", f.Store)
	}
	return d
}

// member is a process of a daemon.
func member(id string, process int) jobs.Member {
	return jobs.Member{
		ID: id, Owner: fmt.Sprint(id, " process ", process), Host: "host of " + id, Version: "v1",
		Labels: job.Labels{"site": "dc1"},
	}
}

func (f *fixture) enter(m jobs.Member, first bool) jobs.Drain {
	f.Helper()
	drain, err := f.daemons().Enter(f.Context(), m, hold, first)
	f.must(err)
	return drain
}

func (f *fixture) drain(id string, d jobs.Drain) {
	f.Helper()
	f.must(f.daemons().Drain(f.Context(), id, d))
}

// roll says of each daemon its id, whether it lives, and what it was asked for.
func (f *fixture) roll() string {
	f.Helper()
	all, err := f.daemons().Daemons(f.Context())
	f.must(err)
	var words []string
	for _, d := range all {
		word := d.ID
		if !d.Alive {
			word += " dead"
		}
		if d.Drain != jobs.DrainNone {
			word += " " + string(d.Drain)
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

func daemonsAreListed(f *fixture) {
	b, a := member("b", 1), member("a", 1)
	a.Labels = nil
	f.enter(b, true)
	f.advance(time.Second)
	f.enter(a, true)
	f.create(definition("one"), definition("two"), definition("three"))
	f.claim(b.Owner)
	f.finish(f.claim("nobody known").Claim, "completed")
	f.claim(b.Owner)
	all, err := f.daemons().Daemons(f.Context())
	f.must(err)
	for i := range all {
		if all[i].Started.IsZero() || all[i].LastBeat.IsZero() {
			f.Errorf("times of daemon %s: %+v", all[i].ID, all[i])
		}
		all[i].Started, all[i].LastBeat = time.Time{}, time.Time{}
	}
	f.equal("daemons", all, []jobs.Daemon{
		{Member: a, Alive: true},
		{Member: b, Alive: true, Jobs: []string{"one", "three"}},
	})
}

func daemonsThatAreSilentAreDead(f *fixture) {
	a := member("a", 1)
	f.enter(a, true)
	f.advance(hold - time.Second)
	f.equal("before its entry runs out", f.roll(), "a")
	f.enter(a, false)
	f.advance(hold - time.Second)
	f.equal("after a heartbeat", f.roll(), "a")
	before, err := f.daemons().Daemons(f.Context())
	f.must(err)
	f.jump(-time.Hour)
	f.equal("when the wall clock was set back", f.roll(), "a")
	f.jump(2 * time.Hour)
	f.equal("when the wall clock was set ahead", f.roll(), "a")
	f.advance(time.Second)
	f.equal("after its entry ran out", f.roll(), "a dead")
	f.enter(a, false)
	f.equal("when it is heard of again", f.roll(), "a")
	after, err := f.daemons().Daemons(f.Context())
	f.must(err)
	f.equal("start", after[0].Started, before[0].Started)
}

func daemonsLeave(f *fixture) {
	f.enter(member("a", 1), true)
	f.enter(member("b", 1), true)
	f.enter(member("c", 1), true)
	f.drain("b", jobs.DrainNow)
	for _, id := range []string{"a", "b"} {
		f.must(f.daemons().Leave(f.Context(), member(id, 1).Owner))
	}
	f.must(f.daemons().Leave(f.Context(), "nobody"))
	f.equal("who is left", f.roll(), "b dead now, c")
}

func daemonsAreDrained(f *fixture) {
	a := member("a", 1)
	f.equal("a new one is asked for", f.enter(a, true), jobs.DrainNone)
	for _, d := range []jobs.Drain{jobs.DrainWait, jobs.DrainNow, jobs.DrainNone, jobs.DrainNow} {
		f.drain("a", d)
		f.equal("a heartbeat brings", f.enter(a, false), d)
	}
	f.equal("the next process is asked for", f.enter(member("a", 2), true), jobs.DrainNow)
	f.must(f.daemons().Leave(f.Context(), member("a", 2).Owner))
	f.equal("the one after a stop is asked for", f.enter(member("a", 3), true), jobs.DrainNow)
	f.drain("a", jobs.DrainNone)
	f.equal("and at last for", f.enter(member("a", 3), false), jobs.DrainNone)
	if err := f.daemons().Drain(f.Context(), "x", jobs.DrainNow); !errors.Is(err, jobs.ErrNoDaemon) {
		f.Errorf("Drain of an unknown daemon = %v, want ErrNoDaemon", err)
	}
}

func daemonsAreReplaced(f *fixture) {
	first, second := member("a", 1), member("a", 2)
	second.Host, second.Version, second.Labels = "other host", "v2", job.Labels{"site": "dc2", "rack": "7"}
	f.enter(first, true)
	f.enter(second, true)
	if _, err := f.daemons().Enter(f.Context(), first, hold, false); !errors.Is(err, jobs.ErrReplaced) {
		f.Errorf("heartbeat of the process before = %v, want ErrReplaced", err)
	}
	f.must(f.daemons().Leave(f.Context(), first.Owner))
	all, err := f.daemons().Daemons(f.Context())
	f.must(err)
	f.equal("daemons", repeat(len(all), func(i int) jobs.Member { return all[i].Member }), []jobs.Member{second})
	f.advance(hold)
	f.enter(first, false) // it is the one that lives
	f.equal("daemons", f.roll(), "a")
}

func deadDaemonsAreForgotten(f *fixture) {
	for _, id := range []string{"dead", "drained", "alive"} {
		f.enter(member(id, 1), true)
	}
	f.drain("drained", jobs.DrainWait)
	f.advance(jobs.KeepDead)
	f.enter(member("alive", 1), false)
	f.enter(member("new", 1), true)
	f.equal("daemons", f.roll(), "alive, dead dead, drained dead wait, new")
	f.advance(hold + time.Second)
	f.enter(member("alive", 1), false)
	f.enter(member("new", 1), true)
	f.equal("a day later", f.roll(), "alive, drained dead wait, new")
	f.advance(jobs.KeepDrained)
	f.enter(member("new", 1), true)
	f.equal("a month later", f.roll(), "new")
}

func manyDaemonsEnterAtOnce(f *fixture) {
	const n = 8
	done := make(chan error, n)
	daemons := f.daemons()
	for i := range n {
		go func() {
			_, err := daemons.Enter(f.Context(), member(fmt.Sprint(i), 1), hold, true)
			done <- err
		}()
	}
	for range n {
		f.must(<-done)
	}
	words := strings.Split(f.roll(), ", ")
	f.equal("daemons", slices.Sorted(slices.Values(words)), repeat(n, func(i int) string { return fmt.Sprint(i) }))
}

func drainedDaemonsClaimNothing(f *fixture) {
	a := member("a", 1)
	f.enter(a, true)
	f.create(definition("one"), definition("two"))
	f.claim(a.Owner)
	_, err := f.Cancel(f.Context(), "one", job.Cancelled{})
	f.must(err)
	f.advance(hold)
	for _, d := range []jobs.Drain{jobs.DrainNow, jobs.DrainWait} {
		f.drain("a", d)
		f.nothingToClaim(a.Owner)
	}
	f.enter(member("a", 2), true)
	f.nothingToClaim(member("a", 2).Owner)
	c, err := f.claimCancelling(member("a", 2).Owner)
	f.must(err)
	f.equal("job to clean up", c.Claim.JobID, "one")
	f.drain("a", jobs.DrainNone)
	f.equal("job", f.claim(member("a", 2).Owner).Claim.JobID, "two")
}

// wanting is a job for daemons with these labels.
func wanting(id string, l job.Labels) job.Definition {
	return definition(id, func(d *job.Definition) { d.Constraint = l })
}

func constraintsHold(f *fixture) {
	f.create(
		wanting("dc10", job.Labels{"site": "dc10"}),
		wanting("dc1", job.Labels{"site": "dc1"}),
		wanting("rack", job.Labels{"site": "dc1", "rack": "7"}),
		wanting("e", job.Labels{"e": "dc1"}),
		definition("anywhere"),
	)
	f.equal("constraint", f.get("rack").Definition.Constraint, job.Labels{"site": "dc1", "rack": "7"})
	for _, test := range []struct {
		labels job.Labels
		want   []string
	}{
		{job.Labels{"ite": "dc1", "site": "dc", "Site": "dc1"}, []string{"anywhere"}},
		{nil, nil},
		{job.Labels{"site": "dc1"}, []string{"dc1"}},
		{job.Labels{"fast": "yes", "site": "dc1", "rack": "8"}, nil},
		{job.Labels{"fast": "yes", "site": "dc1", "rack": "7"}, []string{"rack"}},
		{job.Labels{"site": "dc10", "e": "dc1"}, []string{"dc10", "e"}},
	} {
		var got []string
		for {
			c, err := f.Claim(f.Context(), jobs.ClaimRequest{Owner: "owner", Hold: hold, Labels: test.labels, Full: []string{"x"}})
			if errors.Is(err, jobs.ErrNoJob) {
				break
			}
			f.must(err)
			got = append(got, c.Claim.JobID)
		}
		f.equal("jobs for "+test.labels.String(), got, test.want)
	}
}

func constraintsHoldForLeftovers(f *fixture) {
	f.create(wanting("a", job.Labels{"site": "dc2"}))
	r := jobs.ClaimRequest{Owner: "dead", Hold: hold, Labels: job.Labels{"site": "dc2"}}
	_, err := f.Claim(f.Context(), r)
	f.must(err)
	f.advance(hold)
	f.nothingToClaim("another")
	_, err = f.Cancel(f.Context(), "a", job.Cancelled{})
	f.must(err)
	if c, err := f.claimCancelling("another"); !errors.Is(err, jobs.ErrNoJob) {
		f.Errorf("a daemon of another site cleans up: %+v, %v", c.Claim, err)
	}
	r.Owner, r.Cancelling = "next", true
	c, err := f.Claim(f.Context(), r)
	f.must(err)
	f.equal("epoch", c.Claim.Epoch, int64(2))
}
