package jobs_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// reaching is a Runner that finds, or does not find, what an earlier run has left.
type reaching struct {
	runnerFunc
	found bool
	err   error
}

func (r reaching) Resumes(context.Context, job.Definition) (bool, error) { return r.found, r.err }

func TestTheLogOfAJobThatAnotherDaemonHadSaysWhetherItGoesOnOrBeginsAnew(t *testing.T) {
	t.Parallel()
	const before, here = "host of before (before)", "host of here (here)"
	died := "daemon " + before + ", which ran this job, died at 42%, or was cut off from the database; "
	for name, tt := range map[string]struct {
		daemon     string // that had the job
		percent    float64
		handedBack bool
		runner     reaching
		want       string // "" for nothing
		level      string
	}{
		"dead, its part files are here": {
			before, 42, false, reaching{found: true}, died + "the job goes on at daemon " + here + " from its ledger below /out/a", "info",
		},
		"dead, its part files are not here": {
			before, 42, false, reaching{},
			died + "the job begins anew at daemon " + here + ": the part files of daemon " + before + " below /out/a are not reachable from here", "warning",
		},
		"dead before it had fetched anything": {
			before, 0, false, reaching{},
			"daemon " + before + ", which ran this job, died, or was cut off from the database; the job begins at daemon " + here + ": nothing had been fetched yet", "info",
		},
		"dead, and it cannot be told": {
			before, 42, false, reaching{err: errors.New("the ledger is damaged")},
			died + "the job goes on from its ledger below /out/a where that is reached from here, and begins anew otherwise (it cannot be told yet: the ledger is damaged)", "warning",
		},
		"the same daemon, whose files are gone": {
			here, 42, false, reaching{},
			"daemon " + here + ", which ran this job, died at 42%, or was cut off from the database; the job begins anew: no part files of it are left below /out/a", "warning",
		},
		"one of an older version": {
			"", 42, false, reaching{found: true},
			"the daemon that ran this job died at 42%, or was cut off from the database; the job goes on at daemon " + here + " from its ledger below /out/a", "info",
		},
		"handed back, its part files are here": {
			before, 42, true, reaching{found: true},
			"daemon " + before + ", which ran this job, released it at 42%; the job goes on at daemon " + here + " from its ledger below /out/a", "info",
		},
		"handed back, its part files are not here": {
			before, 42, true, reaching{},
			"daemon " + before + ", which ran this job, released it at 42%; the job begins anew at daemon " + here + ": the part files of daemon " + before + " below /out/a are not reachable from here", "warning",
		},
		"failed there, and a person has it tried again": {
			before, 42, true, reaching{},
			"daemon " + before + ", which ran this job, released it; the job begins at daemon " + here + ": nothing that it could go on from is reachable from here below /out/a", "info",
		},
		"handed back by this one": {here, 42, true, reaching{found: true}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, store jobs.Store) {
				if err := store.Create(t.Context(), []jobs.NewJob{{Definition: def("a")}}); err != nil {
					t.Fatal(err)
				}
				c, err := store.Claim(t.Context(), jobs.ClaimRequest{Owner: "another process", Daemon: tt.daemon, Hold: 30 * time.Second})
				if err != nil {
					t.Fatal(err)
				}
				p := &models.Progress{PercentComplete: tt.percent, BytesDownloaded: int64(tt.percent)}
				if _, err := store.Heartbeat(t.Context(), c.Claim, jobs.Beat{Hold: 30 * time.Second, Progress: p}); err != nil {
					t.Fatal(err)
				}
				if tt.handedBack {
					o := jobs.Outcome{Status: models.StatusPending}
					if strings.HasPrefix(name, "failed") {
						o = jobs.Outcome{Status: models.StatusFailed, Failed: true, Error: "no space left"}
					}
					if err := store.Finish(t.Context(), c.Claim, o); err != nil {
						t.Fatal(err)
					}
					if o.Failed {
						if outcome, err := store.Retry(t.Context(), []string{"a"}); err != nil || outcome["a"] != nil {
							t.Fatal(outcome, err)
						}
					}
				}
				tt.runner.runnerFunc = untilStopped
				startRunner(t, store, tt.runner, named("here", 1))
				time.Sleep(45 * time.Second)
				synctest.Wait()
				events, err := store.Events(t.Context(), "a", 0, 0)
				if err != nil {
					t.Fatal(err)
				}
				var said []models.Event
				for _, e := range events {
					if e.Type == models.EventLog {
						said = append(said, e)
					}
				}
				switch {
				case tt.want == "" && len(said) == 0:
				case len(said) != 1 || said[0].Text != tt.want || said[0].Level != tt.level:
					t.Errorf("the log says %+v, want %s: %s", said, tt.level, tt.want)
				}
			})
		})
	}
}

func TestAJobThatIsClaimedForTheFirstTimeHasNobodyBefore(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		d := startRunner(t, store, reaching{runnerFunc: untilStopped}, named("here", 1))
		submit(t, d.Manager, def("a"))
		time.Sleep(10 * time.Second)
		wantStatus(t, d.Manager, "a", models.StatusRunning)
		events, err := store.Events(t.Context(), "a", 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if strings.Contains(e.Text, "begins") || strings.Contains(e.Text, "goes on") {
				t.Errorf("the log says %q", e.Text)
			}
		}
	})
}
