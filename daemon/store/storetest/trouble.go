package storetest

import (
	"errors"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

func deathsAreCounted(f *fixture) {
	f.create(definition("a"))
	beat := func(c jobs.Claimed, percent float64) int {
		f.Helper()
		s, err := f.Heartbeat(f.Context(), c.Claim, jobs.Beat{Hold: hold, Progress: &models.Progress{Phase: "exporting", PercentComplete: percent}})
		f.must(err)
		return s.Deaths
	}
	owners := []string{"first", "second", "third", "fourth", "fifth"}
	claim := func(life, deaths int) jobs.Claimed {
		f.Helper()
		f.advance(2 * hold)
		c := f.claim(owners[life])
		f.equal("deaths", c.Deaths, deaths)
		return c
	}
	claim(0, 0)
	claim(1, 1)
	c := claim(2, 2)
	f.equal("deaths after less than a per cent", beat(c, 0.9), 2)
	f.equal("deaths after some progress", beat(c, 40), 0)
	c = claim(3, 1)
	f.equal("deaths after less progress than an earlier run made", beat(c, 40.5), 1)
	c = claim(4, 2)
	f.equal("progress of the run that died", c.Job.Progress.PercentComplete, 40.5)
	f.must(f.Finish(f.Context(), c.Claim, jobs.Outcome{Status: models.StatusPending}))
	f.equal("deaths after an end in good order", f.claim("first").Deaths, 0)
	f.advance(2 * hold)
	c = f.claim("second")
	f.equal("deaths again", c.Deaths, 1)
	f.finish(c.Claim, models.StatusFailed)
	f.retry("a")
	f.equal("deaths of a job that is tried again", f.claim("first").Deaths, 0)
}

func claimByDeaths(f *fixture) {
	f.create(definition("quiet"), definition("deadly"))
	quiet := f.claim("first")
	f.claim("first")
	f.finish(quiet.Claim, models.StatusPending)
	f.advance(2 * hold)
	ask := func(deaths int) (jobs.Claimed, error) {
		return f.Claim(f.Context(), jobs.ClaimRequest{Owner: "second", Hold: hold, Deaths: deaths})
	}
	if c, err := ask(2); !errors.Is(err, jobs.ErrNoJob) {
		f.Errorf("claim of a job with two deaths = %s, %v; want ErrNoJob", c.Claim.JobID, err)
	}
	c, err := ask(1)
	f.must(err)
	f.equal("job", c.Claim.JobID, "deadly")
	f.equal("deaths", c.Deaths, 1)
}

func untouchedJob(f *fixture) {
	f.create(definition("a"))
	c := f.claim("owner")
	f.must(f.Finish(f.Context(), c.Claim, jobs.Outcome{Status: models.StatusPending, Error: "the vCenter is away", Untouched: true}))
	if j := f.get("a"); j.StartedAt != nil {
		f.Errorf("a job that never ran was started at %v", j.StartedAt)
	}
	f.equal("status after a cancel", f.cancel("a", job.Cancelled{}), models.StatusCancelled)

	f.create(definition("b"))
	f.finish(f.claim("owner").Claim, models.StatusPending) // this run may have left something
	c = f.claim("owner")
	f.must(f.Finish(f.Context(), c.Claim, jobs.Outcome{Status: models.StatusPending, Untouched: true}))
	if j := f.get("b"); j.StartedAt == nil {
		f.Error("a job that ran was never started")
	}
	f.equal("status after a cancel", f.cancel("b", job.Cancelled{}), models.StatusPending)
}

func ownUser(d *job.Definition) { d.Username = "alice" }

func refusedVCentersArePassedOver(f *fixture) {
	f.create(definition("the daemon's", vcenter("a")), definition("alice's", vcenter("a"), ownUser), definition("elsewhere", vcenter("b")))
	ask := func() (jobs.Claimed, error) {
		return f.Claim(f.Context(), jobs.ClaimRequest{Owner: "owner", Hold: hold, Refused: []string{"a", "c"}})
	}
	for _, want := range []string{"alice's", "elsewhere"} {
		c, err := ask()
		f.must(err)
		f.equal("job", c.Claim.JobID, want)
	}
	if c, err := ask(); !errors.Is(err, jobs.ErrNoJob) {
		f.Errorf("Claim = %s, %v; want ErrNoJob", c.Claim.JobID, err)
	}
	f.equal("job", f.claim("owner").Claim.JobID, "the daemon's")
}

func waitingAreCounted(f *fixture) {
	f.create(definition("a1", vcenter("a")), definition("a2", vcenter("a")), definition("a3", vcenter("a")), definition("b", vcenter("b")))
	f.claim("owner", "b")
	for name, want := range map[string]int{"a": 2, "b": 1, "c": 0} {
		n, err := f.Waiting(f.Context(), name)
		f.must(err)
		f.equal("jobs waiting for "+name, n, want)
	}
}

func clockJumpsBack(f *fixture) {
	f.create(definition("delayed"), definition("held"), definition("fresh"))
	c := f.claim("owner")
	f.must(f.Finish(f.Context(), c.Claim, jobs.Outcome{Status: models.StatusPending, Delay: time.Minute}))
	held := f.claim("owner")
	f.jump(-time.Hour)
	f.equal("job", f.claim("owner").Claim.JobID, "fresh")
	if at := f.get("delayed").NextAttempt; at == nil || time.Until(*at)+time.Hour > time.Minute {
		f.Errorf("the next attempt is shown for %v", at)
	}
	if at := f.get("fresh").UpdatedAt; time.Since(at) < 50*time.Minute {
		f.Errorf("what people see is not by the wall clock: %v", at)
	}
	_, err := f.Heartbeat(f.Context(), held.Claim, jobs.Beat{Hold: hold})
	f.must(err)
	f.advance(hold + time.Second)
	f.equal("job whose claim ran out", f.claim("another").Claim.JobID, "held")
	f.equal("job whose claim ran out", f.claim("another").Claim.JobID, "fresh")
	f.advance(time.Minute - hold)
	f.equal("job whose delay is over", f.claim("another").Claim.JobID, "delayed")
}

func clockJumpsAhead(f *fixture) {
	f.create(definition("delayed"), definition("held"))
	c := f.claim("owner")
	f.must(f.Finish(f.Context(), c.Claim, jobs.Outcome{Status: models.StatusPending, Delay: time.Minute}))
	f.claim("owner")
	f.jump(time.Hour)
	f.nothingToClaim("another")
	f.advance(hold + time.Second)
	f.equal("job whose claim ran out", f.claim("another").Claim.JobID, "held")
	f.nothingToClaim("another")
}
