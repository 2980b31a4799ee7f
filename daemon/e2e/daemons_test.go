package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/postgres"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/postgres/pgtest"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// What the test of several daemons does in whole.
const (
	fleetVMs   = 201
	fleetKills = 10 * time.Second // between two
)

// TestThreeDaemonsMoveManyVMsWhileTheyAndTheDatabaseDie does with H2KVM_DAEMONS=whole
// what its name says: 201 VMs, a daemon is killed every 10 s, and the database is
// restarted twice. Otherwise these are 12 VMs, one kill and one restart.
func TestThreeDaemonsMoveManyVMsWhileTheyAndTheDatabaseDie(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a quarter of a minute")
	}
	t.Parallel()
	if os.Getenv("H2KVM_DAEMONS") != "whole" {
		f := newFlotilla(t, flotillaOptions{vms: 12, daemons: 3, jobs: 2, limit: 5, rate: mib / 2, takeover: 12 * time.Second})
		f.daemons[0].accept(t, f.defs)
		f.until(func() bool { return len(f.ended) >= 2 && f.busiest() >= 0 })
		victim := f.busiest()
		f.die(victim)
		hidden := f.hide()
		f.start(victim)
		f.until(func() bool { return len(f.ended) >= 5 })
		f.restart()
		f.until(f.finished)
		f.explained(hidden)
		f.judge()
		f.tell()
		return
	}
	f := newFlotilla(t, flotillaOptions{vms: fleetVMs, daemons: 3, jobs: 5, limit: 12, rate: mib / 5})
	began := time.Now()
	f.daemons[0].accept(t, f.defs)
	tick := time.NewTicker(fleetKills)
	defer tick.Stop()
	kills, restarts := 0, 0
	for !f.finished() {
		select {
		case r := <-f.lines:
			if r.over {
				t.Fatalf("daemon %d died by itself: %v", r.daemon, r.of.err)
			}
			f.heard(r)
		case <-tick.C:
			f.kill(kills % len(f.daemons))
			kills++
			t.Logf("%v: %d of %d VMs are done", time.Since(began).Round(time.Second), len(f.ended), len(f.defs))
			if restarts < 2 && len(f.ended) > (restarts+1)*fleetVMs/3 {
				f.restart()
				restarts++
				t.Logf("the database is restarted")
			}
		}
	}
	f.judge()
	t.Logf("%d VMs by 3 daemons in %v: %d kills, %d restarts of the database", len(f.defs), time.Since(began).Round(time.Second), kills, restarts)
	f.tell()
}

// hide takes away what a daemon that has died had fetched for one of its jobs, as if the next
// daemon did not reach it. It returns the job, or "" when there is none whose VM was left
// as it was.
func (f *flotilla) hide() string {
	f.t.Helper()
	for _, def := range f.defs {
		if _, lost := f.lost[def.ID]; !lost || def.Options.Snapshot {
			continue
		}
		found, _ := filepath.Glob(filepath.Join(def.OutputPath, ".hyper2kvm-*"))
		for _, work := range found {
			if err := os.Rename(work, filepath.Join(f.t.TempDir(), "hidden")); err != nil {
				f.t.Fatal(err)
			}
			return def.ID
		}
	}
	return ""
}

// explained wants the log of each job that was taken over from a daemon that died to say so,
// and whether it went on or began anew; that of which the files were hidden began anew.
func (f *flotilla) explained(hidden string) {
	f.t.Helper()
	for _, id := range f.heirs {
		var log []string
		for e, err := range f.daemons[0].Watch(f.t.Context(), id) {
			if err != nil {
				f.t.Fatal(err)
			}
			log = append(log, e.Text)
		}
		text := strings.Join(log, "\n")
		host, err := os.Hostname()
		if err != nil {
			f.t.Fatal(err)
		}
		anew := strings.Contains(text, "the job begins anew at daemon "+host) && strings.Contains(text, "are not reachable from here") ||
			strings.Contains(text, "nothing had been fetched yet") || strings.Contains(text, "no part files of it are left")
		if !strings.Contains(text, "daemon "+host+" (") || !anew && !strings.Contains(text, "from its ledger below") || id == hidden && !anew {
			f.t.Errorf("the log of job %s, which was taken over (its files were hidden: %t), says\n%s", id, id == hidden, text)
		}
	}
}

// busiest is the daemon that runs most jobs, -1 when none runs any.
func (f *flotilla) busiest() int {
	runs := make([]int, len(f.daemons))
	best := -1
	for _, by := range f.held {
		if runs[by]++; best < 0 || runs[by] > runs[best] {
			best = by
		}
	}
	return best
}

// A daemon that is cut off from the database has ended its transfers when another one may
// have its jobs, which fetches the rest.
func TestADaemonThatIsCutOffFromTheDatabaseStopsBeforeItsJobsRunElsewhere(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a quarter of a minute")
	}
	t.Parallel()
	var p *pgtest.Proxy
	f := newFlotilla(t, flotillaOptions{vms: 4, daemons: 2, jobs: 2, limit: 4, rate: mib / 12, takeover: 12 * time.Second, url: func(daemon int, s *pgtest.Server) string {
		if daemon > 0 {
			return s.URL("postgres", database)
		}
		p = s.Proxy(t)
		return p.URL("postgres", database)
	}})
	f.daemons[1].accept(t, f.defs)
	runs := func(daemon int) (n int) {
		for _, by := range f.held {
			if by == daemon {
				n++
			}
		}
		return n
	}
	f.until(func() bool { return runs(0) > 0 })
	p.Silent.Store(true)
	f.daemons[0].says(t, "/health/ready", http.StatusServiceUnavailable, "not_ready")
	f.until(func() bool { return runs(0) == 0 }) // another one has claimed them, or has done them
	p.Silent.Store(false)
	p.Cut() // what is said now would be without its beginning
	f.daemons[0].says(t, "/health/ready", http.StatusOK, "")
	f.until(f.finished)
	f.judge()
}

// says asks the daemon until it answers as wanted.
func (p *process) says(t *testing.T, path string, status int, text string) {
	t.Helper()
	for ; ; pause() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == status && strings.Contains(string(body), text) {
			http.DefaultClient.CloseIdleConnections()
			return
		}
	}
}

// Three daemons that have nothing to do cost the database little, however many jobs wait.
// Each looks once a second: the figure is for ten such looks.
func TestThreeIdleDaemonsCostTheDatabaseFewStatements(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a quarter of a minute")
	}
	t.Parallel()
	const waiting, most = 10_000, 20
	var p *pgtest.Proxy
	f := newFlotilla(t, flotillaOptions{vms: 1, daemons: 3, jobs: 4, limit: 4, url: func(daemon int, s *pgtest.Server) string {
		if daemon == 0 {
			p = s.Proxy(t)
			waitingJobs(t, s, waiting)
		}
		return p.URL("postgres", database)
	}})
	looks := time.NewTicker(time.Second)
	defer looks.Stop()
	for range 3 { // what they say at their start is over
		<-looks.C
	}
	began, before := time.Now(), p.Statements.Load()
	for range 10 {
		<-looks.C
	}
	per := float64(p.Statements.Load()-before) / time.Since(began).Seconds()
	t.Logf("three daemons with %d jobs that wait cost %.1f statements a second", waiting, per)
	if per > most {
		t.Errorf("that is more than %d", most)
	}
	if n := f.query(`SELECT count(*) FROM jobs WHERE status = 'pending'`); n != waiting {
		t.Errorf("%d jobs wait, want %d", n, waiting)
	}
	for _, d := range f.daemons {
		d.stop(t)
	}
}

// waitingJobs gives a database jobs that are not due for an hour.
func waitingJobs(t *testing.T, s *pgtest.Server, n int) {
	t.Helper()
	store, err := postgres.Open(t.Context(), postgres.Options{URL: s.URL("postgres", database)})
	if err != nil {
		t.Fatal(err)
	}
	batch := make([]jobs.NewJob, n)
	for i := range batch {
		id := fmt.Sprintf("waits%05d", i)
		batch[i].Definition = job.Definition{ID: id, VMPath: "/DC0/vm/" + id, OutputPath: "/out/" + id, VCenter: fmt.Sprint("vcenter", i%5)}
	}
	if err := errors.Join(store.Create(t.Context(), batch), store.Close()); err != nil {
		t.Fatal(err)
	}
	s.Exec(t, database, `UPDATE jobs SET claimable_at = claimable_at + 3600000, delay = 3600000; ANALYZE`)
}
