package jobs_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// named are options of the daemon with an id; its process has the number.
func named(id string, process int) jobs.Options {
	return jobs.Options{
		Owner: fmt.Sprint(id, " process ", process), Hold: 30 * time.Second, Heartbeat: 5 * time.Second,
		Daemon: jobs.Member{ID: id, Host: "host of " + id},
	}
}

// roll says of each daemon that d sees its id, or that it is dead, and what it runs.
func roll(t *testing.T, d *daemon) string {
	t.Helper()
	synctest.Wait()
	all, _, err := d.Daemons(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, one := range all {
		word := one.ID
		if !one.Alive {
			word += " dead"
		}
		words = append(words, strings.Join(append([]string{word}, one.Jobs...), " "))
	}
	return strings.Join(words, ", ")
}

func TestDaemonsAreEnteredAsLongAsTheyRun(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		a := start(t, store, untilStopped, named("a", 1))
		submit(t, a.Manager, def("one"))
		if got := roll(t, a); got != "a one" {
			t.Errorf("the daemons are %s", got)
		}
		b := start(t, store, untilStopped, named("b", 1))
		time.Sleep(time.Hour)
		if got := roll(t, b); got != "a one, b" {
			t.Errorf("an hour later the daemons are %s", got)
		}
		if _, self, err := b.Daemons(t.Context()); err != nil || self != "b" {
			t.Errorf("b says that it is %s, %v", self, err)
		}
		if err := a.stop(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := roll(t, b); got != "b one" {
			t.Errorf("when one has stopped, the daemons are %s", got)
		}
	})
}

func TestADaemonWhoseIDAnotherOneHasGoesOnUnderItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		first := start(t, store, untilStopped, named("a", 1))
		synctest.Wait()
		copied := start(t, store, untilStopped, named("a", 2))
		time.Sleep(10 * time.Second)
		if got := roll(t, copied); got != "a, a process 1" {
			t.Errorf("the daemons are %s", got)
		}
		time.Sleep(time.Hour)
		if got := roll(t, first); got != "a, a process 1" {
			t.Errorf("an hour later the daemons are %s", got)
		}
	})
}

func drain(t *testing.T, d *daemon, id string, how jobs.Drain) {
	t.Helper()
	if err := d.Drain(t.Context(), id, how); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Second) // two heartbeats
}

func TestADrainedDaemonHandsItsJobsToAnother(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		a := start(t, store, untilStopped, named("a", 1))
		submit(t, a.Manager, def("one"), def("two"))
		synctest.Wait()
		b := start(t, store, untilStopped, named("b", 1))
		synctest.Wait()
		drain(t, b, "a", jobs.DrainNow)
		if got := roll(t, b); got != "a, b one two" {
			t.Errorf("the daemons are %s", got)
		}
		submit(t, a.Manager, def("three"))
		time.Sleep(time.Hour)
		if got := roll(t, a); got != "a, b one two three" {
			t.Errorf("an hour later the daemons are %s", got)
		}
		if j := theJob(t, a.Manager, "one"); j.Attempts != 0 || j.Error != "" {
			t.Errorf("the job that was handed over: %d failed attempts, %q", j.Attempts, j.Error)
		}
		drain(t, a, "b", jobs.DrainNow)
		if j := theJob(t, a.Manager, "one"); j.Status != models.StatusPending || !strings.Contains(j.WaitingFor, "every daemon is drained") {
			t.Errorf("with all daemons drained, a job is %s: %q", j.Status, j.WaitingFor)
		}
		drain(t, b, "a", jobs.DrainNone)
		if got := roll(t, b); got != "a one two three, b" {
			t.Errorf("when one goes on, the daemons are %s", got)
		}
	})
}

func TestADaemonMayEndWhatItRunsBeforeItIsDrained(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		end := make(chan struct{})
		a := start(t, store, func(ctx context.Context, _ job.Definition, _ *progress.Tracker) (job.Result, error) {
			select {
			case <-end:
				return job.Result{Success: true}, nil
			case <-ctx.Done():
				return job.Result{}, context.Cause(ctx)
			}
		}, named("a", 1))
		submit(t, a.Manager, def("one"))
		synctest.Wait()
		drain(t, a, "a", jobs.DrainWait)
		submit(t, a.Manager, def("two"))
		time.Sleep(time.Hour)
		if got := roll(t, a); got != "a one" {
			t.Errorf("the daemons are %s", got)
		}
		close(end)
		time.Sleep(time.Hour)
		wantStatus(t, a.Manager, "one", models.StatusCompleted)
		wantStatus(t, a.Manager, "two", models.StatusPending)
	})
}

func TestADaemonStaysDrainedOverARestart(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		a := start(t, store, untilStopped, named("a", 1))
		synctest.Wait()
		drain(t, a, "a", jobs.DrainNow)
		if err := a.stop(); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		o := named("a", 2)
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		again := start(t, store, untilStopped, o)
		submit(t, again.Manager, def("one"))
		time.Sleep(time.Hour)
		wantStatus(t, again.Manager, "one", models.StatusPending)
		drain(t, again, "a", jobs.DrainNone)
		wantStatus(t, again.Manager, "one", models.StatusRunning)
		if err := again.stop(); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"it hands back what it runs", "it claims jobs again"} {
			if strings.Count(log.String(), want) != 1 {
				t.Errorf("the log does not say once that %s:\n%s", want, log.String())
			}
		}
	})
}

func TestWhatADrainedDaemonLeftIsCleanedUpByTheOneThatRuns(t *testing.T) {
	t.Parallel()
	for what, others := range map[string]bool{"it is alone": false, "another one runs": true} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(t *testing.T, store jobs.Store) {
				var cleaned []string // by whom; one at a time
				run := func(id string) jobs.Runner {
					return leaving{untilStopped, func(context.Context, job.Definition, bool) (job.Result, error) {
						cleaned = append(cleaned, id)
						return job.Result{}, nil
					}}
				}
				a := startRunner(t, store, run("a"), named("a", 1))
				submit(t, a.Manager, def("one"))
				synctest.Wait()
				drain(t, a, "a", jobs.DrainNow)
				want := "[a]"
				if others {
					want = "[b]"
					first := def("first") // makes it full
					first.Priority = 1
					submit(t, a.Manager, first)
					o := named("b", 1)
					o.MaxJobs = 1
					startRunner(t, store, run("b"), o)
					time.Sleep(10 * time.Second)
				}
				if err := a.Cancel(t.Context(), []string{"one"}, job.Cancelled{})["one"]; err != nil {
					t.Fatal(err)
				}
				if got := fmt.Sprint(cleaned); got != want {
					t.Errorf("cleaned up by %s, want %s", got, want)
				}
				wantStatus(t, a.Manager, "one", models.StatusCancelled)
			})
		})
	}
}

func TestAJobWaitsForADaemonWithItsLabelsAndSaysSo(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		at := func(id, site string) jobs.Options {
			o := named(id, 1)
			o.Daemon.Labels = job.Labels{"site": site, "rack": "7"}
			return o
		}
		a := start(t, store, untilStopped, at("a", "dc1"))
		there := def("there")
		there.Constraint = job.Labels{"site": "dc2"}
		submit(t, a.Manager, there, def("anywhere"))
		time.Sleep(time.Hour)
		if got := roll(t, a); got != "a anywhere" {
			t.Errorf("the daemons are %s", got)
		}
		if j := theJob(t, a.Manager, "there"); !strings.Contains(j.WaitingFor, "no daemon with site dc2 is running") {
			t.Errorf("the job says that it waits for %q", j.WaitingFor)
		}
		w, err := a.Watch(t.Context(), "there", 1)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if e, err := w.Next(t.Context()); err != nil || e.Type != models.EventLog || !strings.Contains(e.Text, "no daemon with site dc2") {
			t.Errorf("a watcher sees %+v, %v", e, err)
		}
		b := start(t, store, untilStopped, at("b", "dc2"))
		time.Sleep(10 * time.Second)
		if got := roll(t, a); got != "a anywhere, b there" {
			t.Errorf("when a daemon of the site comes, the daemons are %s", got)
		}
		if j := theJob(t, a.Manager, "there"); j.WaitingFor != "" {
			t.Errorf("it runs, and waits for %q", j.WaitingFor)
		}
		drain(t, a, "b", jobs.DrainNow)
		if j := theJob(t, a.Manager, "there"); !strings.Contains(j.WaitingFor, "every daemon with site dc2 is drained") {
			t.Errorf("with its daemon drained, the job waits for %q", j.WaitingFor)
		}
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if j := theJob(t, a.Manager, "there"); !strings.Contains(j.WaitingFor, "no daemon with site dc2 is running") {
			t.Errorf("with its daemon gone, the job waits for %q", j.WaitingFor)
		}
	})
}

func TestAJobThatIsTakenOverSaysSo(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		s, ok := store.(jobs.Daemons)
		if !ok {
			t.Fatal("no daemons")
		}
		if err := store.Create(t.Context(), []jobs.NewJob{{Definition: def("one")}}); err != nil {
			t.Fatal(err)
		}
		dead := named("dead", 1)
		dead.Daemon.Owner = dead.Owner
		if _, err := s.Enter(t.Context(), dead.Daemon, dead.Hold, true); err != nil {
			t.Fatal(err)
		}
		c, err := store.Claim(t.Context(), jobs.ClaimRequest{Owner: dead.Owner, Hold: dead.Hold})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Heartbeat(t.Context(), c.Claim, jobs.Beat{Hold: dead.Hold, Progress: &models.Progress{PercentComplete: 42}}); err != nil {
			t.Fatal(err)
		}
		a := start(t, store, untilStopped, named("a", 1))
		if got := roll(t, a); got != "a, dead one" {
			t.Errorf("the daemons are %s", got)
		}
		time.Sleep(dead.Hold + 2*time.Second)
		if got := roll(t, a); got != "a one, dead dead" {
			t.Errorf("after its claim has run out, the daemons are %s", got)
		}
		time.Sleep(5 * time.Second)
		events, err := store.Events(t.Context(), "one", 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		var text string
		for _, e := range events {
			text += e.Text + "\n"
		}
		for _, want := range []string{"died at 42%", "/out/one", "begins anew otherwise"} {
			if !strings.Contains(text, want) {
				t.Errorf("the log of the job lacks %q:\n%s", want, text)
			}
		}
	})
}

// slowEntry is a store that takes its time to enter a daemon.
type slowEntry struct {
	jobs.Store
	members
	takes time.Duration
}

type members = jobs.Daemons

func (s slowEntry) Enter(ctx context.Context, m jobs.Member, hold time.Duration, first bool) (jobs.Drain, error) {
	select {
	case <-time.After(s.takes):
		return s.members.Enter(ctx, m, hold, first)
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func TestADaemonThatStartsWaitsForASlowStore(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		s, ok := store.(jobs.Daemons)
		if !ok {
			t.Fatal("no daemons")
		}
		o := named("a", 1)
		m := jobs.New(slowEntry{store, s, 3 * o.Heartbeat}, runnerFunc(untilStopped), o)
		if err := m.Enter(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
