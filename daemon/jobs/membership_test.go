package jobs_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
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
