package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

func createdJobIsPending(f *fixture) {
	def := definition("a")
	f.create(def)
	j := f.get("a")
	f.equal("definition", j.Definition, def)
	f.equal("status", j.Status, models.StatusPending)
	f.equal("progress", j.Progress, &models.Progress{Phase: "pending"})
	f.equal("log", f.history("a"), []string{"pending"})
	if j.UpdatedAt.IsZero() || j.StartedAt != nil || j.CompletedAt != nil || j.NextAttempt != nil {
		f.Errorf("times of a new job: %+v", j)
	}
}

func createIsAtomic(f *fixture) {
	f.create(definition("a"), definition("b"))
	batch := []jobs.NewJob{{Definition: definition("c")}, {Definition: definition("b")}, {Definition: definition("a")}}
	err := f.Create(f.Context(), batch)
	var exists *jobs.ExistsError
	if !errors.As(err, &exists) || !errors.Is(err, jobs.ErrExists) {
		f.Fatalf("Create = %v, want an ExistsError", err)
	}
	f.equal("ids that are taken", exists.IDs, []string{"b", "a"})
	page, err := f.List(f.Context(), jobs.Query{})
	f.must(err)
	f.equal("jobs", ids(page), []string{"b", "a"})
}

func createTwice(f *fixture) {
	err := f.Create(f.Context(), []jobs.NewJob{{Definition: definition("a")}, {Definition: definition("b")}, {Definition: definition("a")}})
	var exists *jobs.ExistsError
	if !errors.As(err, &exists) {
		f.Fatalf("Create = %v, want an ExistsError", err)
	}
	f.equal("ids that are taken", exists.IDs, []string{"a"})
	page, err := f.List(f.Context(), jobs.Query{})
	f.must(err)
	f.equal("jobs", ids(page), []string(nil))
}

func createMany(f *fixture) {
	const n = 250
	want := repeat(n, func(i int) string { return fmt.Sprint("job-", i) })
	f.create(repeat(n, func(i int) job.Definition { return definition(want[i]) })...)
	f.must(f.Create(f.Context(), nil))
	counts, err := f.Counts(f.Context())
	f.must(err)
	f.equal("counts", counts, jobs.Counts{Pending: n})
	f.equal("order", f.claimAll("owner"), want)
	c, err := f.Events(f.Context(), want[n-1], 0, 0)
	f.must(err)
	f.equal("events of the last", len(c), 2)
}

func claimedJobRuns(f *fixture) {
	f.must(f.Create(f.Context(), []jobs.NewJob{{Definition: definition("a"), Secret: []byte("sealed")}}))
	c := f.claim("owner")
	f.equal("claim", c.Claim, jobs.Claim{JobID: "a", Owner: "owner", Epoch: 1})
	f.equal("definition", c.Job.Definition, definition("a"))
	f.equal("secret", string(c.Secret), "sealed")
	j := f.get("a")
	f.equal("status", j.Status, models.StatusRunning)
	if j.StartedAt == nil {
		f.Error("a running job has no start")
	}
	f.equal("log", f.history("a"), []string{"pending", "running"})
	f.nothingToClaim("another")
}

func claimIsExclusive(f *fixture) {
	const n, owners = 40, 8
	f.create(repeat(n, func(i int) job.Definition { return definition(fmt.Sprint(i)) })...)
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		claimed = make(map[string]int)
	)
	for o := range owners {
		wg.Go(func() {
			for _, id := range f.claimAll(fmt.Sprint("owner", o)) {
				mu.Lock()
				claimed[id]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(claimed) != n {
		f.Errorf("%d of %d jobs were claimed", len(claimed), n)
	}
	for id, times := range claimed {
		if times != 1 {
			f.Errorf("job %s was claimed %d times", id, times)
		}
	}
}

func priorityThenAge(f *fixture) {
	f.create(definition("low", priority(-1)), definition("first"), definition("second"), definition("high", priority(5)))
	f.equal("order", f.claimAll("owner"), []string{"high", "first", "second", "low"})
}

func vcentersTakeTurns(f *fixture) {
	f.create(
		definition("a1", vcenter("a")), definition("a2", vcenter("a")), definition("a3", vcenter("a")), definition("a4", vcenter("a")),
		definition("b1", vcenter("b")), definition("b2", vcenter("b")),
		definition("c1", vcenter("c")),
		definition("b0", vcenter("b"), priority(1)),
	)
	f.equal("order", f.claimAll("owner"), []string{"b0", "a1", "c1", "b1", "a2", "b2", "a3", "a4"})
}

func fullDirectoriesArePassedOver(f *fixture) {
	f.create(definition("a", output("/full")), definition("b", output("/full/b")), definition("c", output("/fuller")))
	r := jobs.ClaimRequest{Owner: "owner", Hold: hold, Below: []string{"/full", "/other/"}}
	c, err := f.Claim(f.Context(), r)
	f.must(err)
	f.equal("job", c.Claim.JobID, "c")
	for _, dir := range []string{"/full", "/"} {
		r.Below = []string{dir}
		if c, err := f.Claim(f.Context(), r); !errors.Is(err, jobs.ErrNoJob) {
			f.Errorf("without room below %s: job %q, error %v; want ErrNoJob", dir, c.Claim.JobID, err)
		}
	}
	f.equal("job", f.claim("owner").Claim.JobID, "a")
}

func fullVCentersArePassedOver(f *fixture) {
	f.create(definition("a", vcenter("a"), priority(9)), definition("b", vcenter("b")), definition("default", vcenter("")))
	f.equal("job", f.claim("owner", "a", "b").Claim.JobID, "default")
	f.equal("job", f.claim("owner", "a").Claim.JobID, "b")
	f.nothingToClaim("owner", "a")
	f.equal("job", f.claim("owner").Claim.JobID, "a")
}

func expiredClaimIsTaken(f *fixture) {
	f.create(definition("a"))
	dead := f.claim("dead")
	f.advance(hold - time.Second)
	f.nothingToClaim("alive")
	f.advance(2 * time.Second)
	c := f.claim("alive")
	f.equal("epoch", c.Claim.Epoch, dead.Claim.Epoch+1)
	f.equal("failures", c.Failures, 0)
	f.equal("start", c.Job.StartedAt, dead.Job.StartedAt)
}

func ownClaimIsNotTaken(f *fixture) {
	f.create(definition("a"))
	held := f.claim("owner")
	f.advance(2 * hold)
	f.nothingToClaim("owner")
	_, err := f.Heartbeat(f.Context(), held.Claim, jobs.Beat{Hold: hold})
	f.must(err)
	f.nothingToClaim("another")
}

func heartbeatExtends(f *fixture) {
	f.create(definition("a"))
	c := f.claim("owner")
	progress := models.Progress{Phase: "exporting", CurrentFile: "disk-0.vmdk", BytesDownloaded: 5, TotalBytes: 10, PercentComplete: 50}
	for range 3 {
		f.advance(hold - time.Second)
		signals, err := f.Heartbeat(f.Context(), c.Claim, jobs.Beat{Hold: hold, Progress: &progress})
		f.must(err)
		f.equal("signals", signals, jobs.Signals{})
	}
	f.nothingToClaim("another")
	_, err := f.Heartbeat(f.Context(), c.Claim, jobs.Beat{Hold: hold})
	f.must(err)
	f.equal("progress", f.get("a").Progress, &progress)
}

func lostClaimIsFenced(f *fixture) {
	f.create(definition("a"))
	stale := f.claim("stale")
	f.advance(2 * hold)
	held := f.claim("owner")
	before := f.get("a")
	log := f.history("a")
	impostor := held.Claim
	impostor.Owner = "stale"
	for _, l := range []jobs.Claim{stale.Claim, impostor, {JobID: "a", Owner: "owner", Epoch: held.Claim.Epoch + 1}, {JobID: "nothing"}} {
		beat := jobs.Beat{
			Hold:     time.Hour,
			Progress: &models.Progress{Phase: "late"},
			Events:   []models.Event{{Type: models.EventLog, Text: "late"}},
		}
		if _, err := f.Heartbeat(f.Context(), l, beat); !errors.Is(err, jobs.ErrFenced) {
			f.Errorf("Heartbeat with %+v = %v, want ErrFenced", l, err)
		}
		outcome := jobs.Outcome{Status: models.StatusCompleted, Events: beat.Events}
		if err := f.Finish(f.Context(), l, outcome); !errors.Is(err, jobs.ErrFenced) {
			f.Errorf("Finish with %+v = %v, want ErrFenced", l, err)
		}
	}
	f.equal("job", f.get("a"), before)
	f.equal("log", f.history("a"), log)
	f.finish(held.Claim, models.StatusFailed)
	if err := f.Finish(f.Context(), held.Claim, jobs.Outcome{Status: models.StatusCompleted}); !errors.Is(err, jobs.ErrFenced) {
		f.Errorf("Finish of an ended job = %v, want ErrFenced", err)
	}
}

func completedJob(f *fixture) {
	f.must(f.Create(f.Context(), []jobs.NewJob{{Definition: definition("a"), Secret: []byte("sealed")}}))
	c := f.claim("owner")
	result := &job.Result{VMName: "a", OutputDir: "/out/a", Files: []string{"/out/a/a.ovf"}, TotalSize: 7, Duration: time.Second, Success: true}
	progress := &models.Progress{Phase: "done", PercentComplete: 100}
	f.must(f.Finish(f.Context(), c.Claim, jobs.Outcome{
		Status:   models.StatusCompleted,
		Result:   result,
		Progress: progress,
		Events:   []models.Event{{Type: models.EventLog, Text: "last words"}},
	}))
	j := f.get("a")
	f.equal("status", j.Status, models.StatusCompleted)
	f.equal("result", j.Result, result)
	f.equal("progress", j.Progress, progress)
	f.equal("attempts", j.Attempts, 0)
	f.equal("log", f.history("a"), []string{"pending", "running", "log: last words", "completed"})
	if j.CompletedAt == nil {
		f.Error("a completed job has no end")
	}
	f.advance(2 * hold)
	f.nothingToClaim("owner")
}

func handedBackJob(f *fixture) {
	f.must(f.Create(f.Context(), []jobs.NewJob{{Definition: definition("a"), Secret: []byte("sealed")}}))
	c := f.claim("owner")
	f.must(f.Finish(f.Context(), c.Claim, jobs.Outcome{
		Status: models.StatusPending, Failed: true, Delay: time.Minute, Error: "no route to host",
	}))
	j := f.get("a")
	f.equal("status", j.Status, models.StatusPending)
	f.equal("error", j.Error, "no route to host")
	f.equal("attempts", j.Attempts, 1)
	if j.NextAttempt == nil {
		f.Error("a waiting job does not tell its next attempt")
	}
	f.advance(time.Minute - time.Second)
	f.nothingToClaim("owner")
	f.advance(2 * time.Second)
	again := f.claim("owner")
	f.equal("failures", again.Failures, 1)
	f.equal("secret", string(again.Secret), "sealed")
	f.equal("error while running", f.get("a").Error, "")
	f.must(f.Finish(f.Context(), again.Claim, jobs.Outcome{Status: models.StatusPending}))
	f.equal("epoch", f.claim("owner").Claim.Epoch, int64(3))
}

func vcentersHaveALimit(f *fixture) {
	f.create(repeat(5, func(i int) job.Definition { return definition(fmt.Sprint("lab-", i)) })...)
	f.create(definition("other", vcenter("other")), definition("default", vcenter("")))
	claim := func(owner string) (string, jobs.Claim) {
		f.Helper()
		c, err := f.Claim(f.Context(), jobs.ClaimRequest{Owner: owner, Hold: hold, Most: map[string]int{"lab": 2, "": 1}})
		if errors.Is(err, jobs.ErrNoJob) {
			return "", jobs.Claim{}
		}
		f.must(err)
		return c.Claim.JobID, c.Claim
	}
	var got []string
	var last jobs.Claim
	for _, owner := range []string{"a", "b", "a", "b", "a", "b"} {
		id, c := claim(owner)
		if got = append(got, id); id == "lab-0" {
			last = c
		}
	}
	slices.Sort(got)
	f.equal("claimed by two daemons", got, []string{"", "", "default", "lab-0", "lab-1", "other"})
	f.finish(last, models.StatusCompleted)
	id, _ := claim("b")
	f.equal("when one has ended", id, "lab-2")
	id, _ = claim("a")
	f.equal("and no other", id, "")
	f.advance(hold + time.Second) // all others are dead
	var taken []string
	for range 5 {
		id, _ := claim("c")
		taken = append(taken, id)
	}
	slices.Sort(taken)
	f.equal("when the claims have run out", taken, []string{"", "default", "lab-1", "lab-2", "other"})
}

func claimsTellWhoHadTheJobBefore(f *fixture) {
	f.create(definition("a"))
	claim := func(owner, daemon string) jobs.Claimed {
		f.Helper()
		c, err := f.Claim(f.Context(), jobs.ClaimRequest{Owner: owner, Daemon: daemon, Hold: hold})
		f.must(err)
		return c
	}
	first := claim("1", "host-a (0a1b2c3d)")
	f.equal("the first", first.Before, "")
	f.finish(first.Claim, models.StatusPending)
	f.equal("handed back", claim("2", "host-b").Before, "host-a (0a1b2c3d)")
	f.advance(hold + time.Second)
	f.equal("dead", claim("3", "host-b").Before, "host-b")
	f.advance(hold + time.Second)
	f.equal("by the same", claim("4", "").Before, "host-b")
	f.advance(hold + time.Second)
	f.equal("by one that does not say", claim("5", "host-c").Before, "")
}
