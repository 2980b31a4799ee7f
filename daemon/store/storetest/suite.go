// Package storetest is the suite that every [jobs.Store] passes.
package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// Suite says how to test an implementation.
type Suite struct {
	// Open returns an empty store with that wall clock, which it closes when
	// the test ends. The clock may jump; claims and delays must not.
	Open func(t *testing.T, wall func() time.Time) jobs.Store

	// Advance makes the store's clock go on by d. When it is nil, the store's
	// clock is the process's, and each test runs in virtual time.
	Advance func(t *testing.T, s jobs.Store, d time.Duration)
}

// Run runs the suite, each test on a store of its own.
func (s Suite) Run(t *testing.T) {
	tests := []struct {
		name string
		run  func(f *fixture)
	}{
		{"a created job is pending, with a definition and progress", createdJobIsPending},
		{"jobs are created all or none, and the ids that are taken are named", createIsAtomic},
		{"an id that is given twice is taken the second time", createTwice},
		{"many jobs are created in one call, in their order", createMany},
		{"a claimed job is running, and nothing is left to claim", claimedJobRuns},
		{"a job is claimed by one of many owners", claimIsExclusive},
		{"higher priorities go first, then older jobs", priorityThenAge},
		{"vCenters take turns", vcentersTakeTurns},
		{"jobs of directories without room are passed over", fullDirectoriesArePassedOver},
		{"vCenters that are full are passed over", fullVCentersArePassedOver},
		{"no more jobs of a vCenter run than may at all daemons together", vcentersHaveALimit},
		{"a claim that runs out lets another owner take the job, in a later epoch", expiredClaimIsTaken},
		{"an owner does not claim what it holds itself", ownClaimIsNotTaken},
		{"a heartbeat extends the claim and keeps the progress", heartbeatExtends},
		{"writes with a lost claim are refused and change nothing", lostClaimIsFenced},
		{"a completed job has its result and no secret", completedJob},
		{"a job handed back is due after its delay, with one more failure", handedBackJob},
		{"a job that never ran is cancelled at once", cancelPending},
		{"a running job learns of a cancel and ends cancelled", cancelRunning},
		{"a job that ran before is cleaned up before it is cancelled", cancelHandedBack},
		{"an interrupted job that is to be cancelled is claimed for that only", cancelInterrupted},
		{"a job that has ended cannot be cancelled", cancelFinished},
		{"a failed job is tried again with all its attempts", retryFailed},
		{"only jobs that have ended and are not completed are tried again", retryRefused},
		{"many jobs are tried again in one call, each with an answer of its own", retryMany},
		{"deaths of owners are counted until the job gets further or ends in good order", deathsAreCounted},
		{"a job can be asked for by its deaths", claimByDeaths},
		{"a claim tells which daemon had the job before", claimsTellWhoHadTheJobBefore},
		{"a job whose run touched nothing counts as one that never ran", untouchedJob},
		{"where logins are refused only jobs with a user of their own are claimed", refusedVCentersArePassedOver},
		{"jobs that wait for a vCenter are counted", waitingAreCounted},
		{"a wall clock that jumps back makes no job wait and no claim last longer", clockJumpsBack},
		{"a wall clock that jumps ahead ends no claim and no delay", clockJumpsAhead},
		{"the limit of a job that has not ended can be changed", setLimit},
		{"only jobs that have ended are deleted, with their events", deleteFinished},
		{"counts follow every change of status", countsFollow},
		{"jobs are listed newest first, in pages", listPages},
		{"jobs are listed by status", listByStatus},
		{"jobs are listed by id in the order asked for", listByID},
		{"events are in order and resume after any of them", eventsResume},
		{"only the newest events of a job are kept", eventsAreBounded},
		{"unknown jobs are not found", unknownJobs},
		{"sealed passwords are sealed again, all or none", resealed},
		{"the sealed password of a job is read", secretsAreRead},
		{"passwords of jobs that ended long ago are dropped, and then the job is not tried again", secretsAreDropped},
		{"jobs that have ended are found in the order of their ends, page by page", endedAreFound},
		{"jobs that ended long ago are forgotten, and no other", endedArePruned},
		{"events of jobs that ended long ago are forgotten, but for the last", eventsArePruned},
		{"daemons are listed with the jobs that they run", daemonsAreListed},
		{"a daemon that is not heard of is dead, whatever the wall clock does", daemonsThatAreSilentAreDead},
		{"a daemon that leaves is gone, unless it is to stay drained", daemonsLeave},
		{"a daemon hears that it is to be drained, also after a restart", daemonsAreDrained},
		{"a new process of a daemon replaces the one before, which is told", daemonsAreReplaced},
		{"daemons that died long ago are forgotten", deadDaemonsAreForgotten},
		{"many daemons enter at once", manyDaemonsEnterAtOnce},
		{"a daemon that is to be drained claims nothing", drainedDaemonsClaimNothing},
		{"a job is claimed by owners with the labels that it wants", constraintsHold},
		{"a job that was left is claimed by owners with the labels that it wants", constraintsHoldForLeftovers},
		{"daemons hold no more of a limit than there is, and who waits comes before who has more", sharesAreWithinTheLimit},
		{"what a daemon held that has died is there for others when its claim has run out", sharesEndWithTheirClaims},
		{"a part may hold for less than the others of the daemon", sharesMayHoldForLess},
		{"what is given back is there for others", sharesAreGivenBack},
		{"what cannot be divided goes round", whatCannotBeDividedGoesRound},
		{"the smallest limit of all configurations holds, unless another was chosen", theSmallestLimitHoldsUnlessOneIsChosen},
		{"shares go by weight", sharesGoByWeight},
		{"what a daemon cannot use is known to all, until it is over", outagesAreKnownToAll},
		{"an outage that nobody tells of any more is over", outagesEndWithThoseWhoMetThem},
		{"one daemon at a time asks a vCenter that cannot be used", oneAsksForAll},
		{"several limits are divided at once", severalLimitsAreDividedAtOnce},
		{"a password that was refused is known to all, until it is forgiven", refusedPasswordsAreKnownToAll},
		{"a refused password is known for its time, whatever the wall clock does", refusalsHoldForTheirTime},
		{"many daemons note a refused password at once", refusalsThatManyDaemonsNote},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if s.Advance != nil {
				test.run(s.fixture(t, s.Advance))
				return
			}
			synctest.Test(t, func(t *testing.T) {
				test.run(s.fixture(t, func(_ *testing.T, _ jobs.Store, d time.Duration) { time.Sleep(d) }))
			})
		})
	}
}

// fixture is a store under test and the words that the tests are written in.
type fixture struct {
	*testing.T
	jobs.Store
	advance func(d time.Duration)
	// off is how far the wall clock is from where it started to be.
	off atomic.Int64
}

// jump sets the wall clock.
func (f *fixture) jump(d time.Duration) { f.off.Add(int64(d)) }

func (s Suite) fixture(t *testing.T, advance func(*testing.T, jobs.Store, time.Duration)) *fixture {
	f := &fixture{T: t}
	f.Store = s.Open(t, func() time.Time { return time.Now().Add(time.Duration(f.off.Load())) })
	f.advance = func(d time.Duration) { advance(t, f.Store, d) }
	return f
}

// hold is how long claims hold without a heartbeat.
const hold = 30 * time.Second

// definition is a job's definition, changed as options say.
func definition(id string, options ...func(*job.Definition)) job.Definition {
	d := job.Definition{
		ID:         id,
		Name:       "name of " + id,
		VMPath:     "/dc/vm/" + id,
		OutputPath: "/out/" + id,
		VCenter:    "lab",
		CreatedAt:  time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Options:    job.Options{ParallelDownloads: 4, Format: job.FormatQcow2},
	}
	for _, o := range options {
		o(&d)
	}
	return d
}

func priority(n int) func(*job.Definition) {
	return func(d *job.Definition) { d.Priority = n }
}

func output(path string) func(*job.Definition) {
	return func(d *job.Definition) { d.OutputPath = path }
}

func vcenter(name string) func(*job.Definition) {
	return func(d *job.Definition) { d.VCenter = name }
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) equal(what string, got, want any) {
	f.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		f.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func (f *fixture) create(defs ...job.Definition) {
	f.Helper()
	batch := make([]jobs.NewJob, len(defs))
	for i, d := range defs {
		batch[i] = jobs.NewJob{Definition: d}
	}
	f.must(f.Create(f.Context(), batch))
}

func (f *fixture) claim(owner string, full ...string) jobs.Claimed {
	f.Helper()
	c, err := f.Claim(f.Context(), jobs.ClaimRequest{Owner: owner, Hold: hold, Full: full})
	f.must(err)
	return c
}

func (f *fixture) claimCancelling(owner string) (jobs.Claimed, error) {
	return f.Claim(f.Context(), jobs.ClaimRequest{Owner: owner, Hold: hold, Cancelling: true})
}

// nothingToClaim fails when the owner can claim something.
func (f *fixture) nothingToClaim(owner string, full ...string) {
	f.Helper()
	c, err := f.Claim(f.Context(), jobs.ClaimRequest{Owner: owner, Hold: hold, Full: full})
	if !errors.Is(err, jobs.ErrNoJob) {
		f.Errorf("Claim = job %q, error %v; want ErrNoJob", c.Claim.JobID, err)
	}
}

// claimAll claims for one owner until nothing is left.
func (f *fixture) claimAll(owner string) []string {
	f.Helper()
	var ids []string
	for {
		c, err := f.Claim(f.Context(), jobs.ClaimRequest{Owner: owner, Hold: hold})
		if errors.Is(err, jobs.ErrNoJob) {
			return ids
		}
		f.must(err)
		ids = append(ids, c.Claim.JobID)
	}
}

func (f *fixture) finish(l jobs.Claim, s models.Status) {
	f.Helper()
	f.must(f.Finish(f.Context(), l, jobs.Outcome{Status: s}))
}

// ended creates a job and brings it to a final status.
func (f *fixture) ended(id string, s models.Status) {
	f.Helper()
	f.create(definition(id))
	f.finish(f.claim("owner").Claim, s)
}

func (f *fixture) get(id string) models.Job {
	f.Helper()
	page, err := f.List(f.Context(), jobs.Query{IDs: []string{id}})
	f.must(err)
	if len(page.Jobs) != 1 {
		f.Fatalf("job %q: %d found, want 1", id, len(page.Jobs))
	}
	return page.Jobs[0]
}

// history is a job's log as short words.
func (f *fixture) history(id string) []string {
	f.Helper()
	events, err := f.Events(f.Context(), id, 0, 0)
	f.must(err)
	var words []string
	for _, e := range events {
		switch e.Type {
		case models.EventState:
			words = append(words, string(e.Status))
		default:
			words = append(words, fmt.Sprintf("%s: %s", e.Type, e.Text))
		}
	}
	return words
}

func ids(page jobs.Page) []string {
	var all []string
	for _, j := range page.Jobs {
		all = append(all, j.Definition.ID)
	}
	return all
}

func repeat[T any](n int, f func(i int) T) []T {
	all := make([]T, 0, n)
	for i := range n {
		all = append(all, f(i))
	}
	return slices.Clip(all)
}
