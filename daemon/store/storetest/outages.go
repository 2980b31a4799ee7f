package storetest

import (
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
)

func (f *fixture) outages() jobs.Outages {
	f.Helper()
	s, ok := f.Store.(jobs.Outages)
	if !ok {
		f.Fatalf("%T is no jobs.Outages", f.Store)
	}
	return s
}

// tell tells of outages that an owner has met, and of those that are over. How long they
// are not asked yet is left out of the answer: a server's clock goes on.
func (f *fixture) tell(owner string, met []jobs.Outage, over ...string) []jobs.Outage {
	f.Helper()
	all, err := f.outages().ShareOutages(f.Context(), owner, hold, met, over)
	f.must(err)
	for i := range all {
		all[i].Wait = 0
	}
	return all
}

// ask reports whether an owner is the one that asks the vCenter.
func (f *fixture) ask(owner string, now bool) bool {
	f.Helper()
	may, err := f.outages().ClaimProbe(f.Context(), "lab", owner, time.Minute, now)
	f.must(err)
	return may
}

// away is an outage as it is told of; known is what comes back.
var away = jobs.Outage{
	VCenter: "lab", State: jobs.Unreachable, Reason: "connection refused", Named: true, Tries: 2, New: true,
	Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Wait: 10 * time.Second,
}

func known(o jobs.Outage) []jobs.Outage {
	o.Wait, o.Probed, o.New = 0, false, false
	return []jobs.Outage{o}
}

func outagesAreKnownToAll(f *fixture) {
	f.equal("nothing", len(f.tell("a", nil)), 0)
	f.tell("a", []jobs.Outage{away})
	f.equal("another daemon", f.tell("b", nil), known(away))
	// Who meets it, too, changes nothing of what is known.
	later := away
	later.Reason, later.Since, later.Wait, later.Tries = "no route", away.Since.Add(time.Minute), time.Minute, 0
	f.equal("both", f.tell("b", []jobs.Outage{later}), known(away))
	f.equal("over", len(f.tell("b", nil, "lab")), 0)
	goes := away
	goes.New = false
	f.equal("over, also for one that had met it", len(f.tell("a", []jobs.Outage{goes})), 0)
}

func outagesEndWithThoseWhoMetThem(f *fixture) {
	f.tell("a", []jobs.Outage{away})
	f.advance(hold - time.Second)
	f.tell("a", []jobs.Outage{away})
	f.advance(2 * time.Second)
	f.equal("while it is told of", f.tell("b", nil), known(away))
	f.advance(hold)
	f.equal("when nobody tells of it", len(f.tell("b", nil)), 0)
	f.equal("anew", f.tell("b", []jobs.Outage{away}), known(away))
}

func oneAsksForAll(f *fixture) {
	f.equal("without an outage", f.ask("a", true), false)
	f.tell("a", []jobs.Outage{away})
	f.equal("before it is time", f.ask("a", false), false)
	f.equal("when a person wants it", f.ask("b", true), true)
	f.equal("while another one asks", f.ask("a", true), false)
	f.advance(11 * time.Second)
	f.equal("while another one asks", f.ask("a", false), false)
	found := away
	found.State, found.Reason, found.Tries, found.Wait, found.Probed = jobs.Misconfigured, "certificate", 3, 20*time.Second, true
	f.tell("a", []jobs.Outage{found}) // it did not ask
	f.equal("of one that did not ask", f.tell("a", nil)[0].Reason, away.Reason)
	all := f.tell("b", []jobs.Outage{found})
	f.equal("what was found", all, known(found))
	found.Probed = false
	f.equal("it is not time again", f.ask("a", false), false)
	f.advance(21 * time.Second)
	f.equal("it is time", f.ask("a", false), true)
	f.tell("b", []jobs.Outage{found}) // goes on
	f.advance(20 * time.Second)
	f.tell("b", []jobs.Outage{found})
	f.advance(20 * time.Second)
	f.tell("b", []jobs.Outage{found})
	f.equal("while the claim holds", f.ask("b", false), false)
	f.advance(21 * time.Second)
	f.equal("when who asks has died", f.ask("b", false), true)
}
