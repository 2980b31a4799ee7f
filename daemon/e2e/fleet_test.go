package e2e

import (
	"cmp"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/postgres/pgtest"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// Several daemons on one database move many VMs.
type flotilla struct {
	t       *testing.T
	lab     *vspheretest.Server
	vms     []string
	sources []string
	defs    []job.Definition
	server  *pgtest.Server
	limit   int // of jobs of the vCenter, of all daemons
	homes   []*home
	daemons []*process // the present life of each
	lines   chan report

	held   map[string]int       // by job: the daemon whose log says that it runs it
	late   map[string][]int     // by job: daemons that held it before, whose word of its end is to come
	ended  map[string]bool      // jobs that are completed
	lost   map[string]time.Time // by job: when the daemon died that ran it
	taken  []time.Duration      // from a death to a takeover
	heirs  []string             // jobs that were taken over so
	orphan int                  // jobs that daemons ran when they died, whose sessions nobody ends

	mu     sync.Mutex
	latest map[string]string // by VM: the ticket of the lease that was opened last
	stale  int               // times that a lease was kept alive beside a later one of its VM
	open   map[string]int    // leases that are ready, by VM
	most   int               // of one VM at once
	all    int               // leases that are ready
	mostOf int               // of the vCenter at once
}

// report is a line of a daemon's log.
type report struct {
	line
	daemon int
	of     *process
	over   bool // the log has ended
}

// database is the one that daemons share.
const database = "daemons"

// startPostgres starts a server with that database, until the test ends.
func startPostgres(t *testing.T) *pgtest.Server {
	t.Helper()
	s, err := pgtest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Make(t.Context(), database, "postgres"); err != nil {
		t.Fatal(err)
	}
	return s
}

// share has the daemon keep its jobs in a PostgreSQL database, and others take over from
// it when it has been silent for that long.
func (h *home) share(url string, takeover time.Duration) {
	h.t.Helper()
	config, err := os.ReadFile(h.config)
	if err != nil {
		h.t.Fatal(err)
	}
	h.write("config.yaml", fmt.Sprintf("%sstore: {url: '%s', takeover_after: %v}\n", config, url, takeover))
	h.shared = true
}

// limit has the configuration say how many jobs of the vCenter may run at once.
func (h *home) limit(jobs int) {
	h.t.Helper()
	config, err := os.ReadFile(h.config)
	if err != nil {
		h.t.Fatal(err)
	}
	h.write("config.yaml", strings.Replace(string(config), "limits: {jobs: 64}", fmt.Sprintf("limits: {jobs: %d}", jobs), 1))
}

// key gives the daemon the key that others have, too, for passwords in the database.
func (h *home) key(key string) {
	h.t.Helper()
	config, err := os.ReadFile(h.config)
	if err != nil {
		h.t.Fatal(err)
	}
	h.write("config.yaml", fmt.Sprintf("%sdaemon: {secret_key_file: '%s'}\n", config, h.write("key", key+"\n")))
}

// flotillaOptions say how many VMs there are, and how the daemons are configured.
type flotillaOptions struct {
	vms, daemons, jobs int                                       // jobs of each daemon
	limit              int                                       // of jobs of the vCenter, of all daemons
	rate               int64                                     // bytes per second of a stream
	takeover           time.Duration                             // 0 is the default
	url                func(daemon int, s *pgtest.Server) string // nil is the server's
	prepare            func(h *home)                             // before a daemon's first life; nil is nothing
}

func newFlotilla(t *testing.T, o flotillaOptions) *flotilla {
	t.Helper()
	f := &flotilla{
		t: t, limit: o.limit, lines: make(chan report, 100_000), sources: []string{rawDisk(t, 4*mib, mib, 1)},
		held: make(map[string]int), late: make(map[string][]int), ended: make(map[string]bool), lost: make(map[string]time.Time), open: make(map[string]int), latest: make(map[string]string),
	}
	cfg := vspheretest.Config{Profile: vspheretest.Ranged, Rate: o.rate, LeaseTimeout: 3 * time.Second, ConcurrentLeases: true}
	for i := range o.vms {
		vm := vspheretest.VM{Name: fmt.Sprintf("vm%03d", i), Disks: []vspheretest.Disk{{Path: f.sources[0]}}, PoweredOn: i%4 == 3}
		cfg.VMs, f.vms = append(cfg.VMs, vm), append(f.vms, vm.Name)
	}
	f.lab = startLab(t, cfg)
	f.lab.OnLease(f.lease)
	out := t.TempDir()
	formats := []job.Format{job.FormatRaw, job.FormatQcow2, job.FormatOVF}
	for i, vm := range cfg.VMs {
		f.defs = append(f.defs, job.Definition{
			ID: vm.Name, VMPath: f.lab.InventoryPath(vm.Name), OutputPath: filepath.Join(out, vm.Name),
			Options: job.Options{Format: formats[i%len(formats)], Snapshot: vm.PoweredOn, ParallelDownloads: 1},
		})
	}
	f.server = startPostgres(t)
	for i := range o.daemons {
		url := f.server.URL("postgres", database)
		if o.url != nil {
			url = o.url(i, f.server)
		}
		h := newHome(t, f.lab, "-jobs", fmt.Sprint(o.jobs))
		h.share(url, cmp.Or(o.takeover, 30*time.Second))
		h.limit(o.limit)
		if o.prepare != nil {
			o.prepare(h)
		}
		f.homes = append(f.homes, h)
		f.daemons = append(f.daemons, nil)
		f.start(i)
	}
	return f
}

// start begins a daemon's next life.
func (f *flotilla) start(i int) {
	f.t.Helper()
	p := f.homes[i].start()
	f.daemons[i] = p
	go func() {
		for l := range p.lines {
			f.lines <- report{line: l, daemon: i, of: p}
		}
		f.lines <- report{daemon: i, of: p, over: true}
	}()
}

// lease counts the leases that are ready. A daemon that has died, or has lost its claim,
// leaves one that the lab ends by itself before others may have the job.
func (f *flotilla) lease(e vspheretest.LeaseEvent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch e.Kind {
	case vspheretest.LeaseReady:
		f.open[e.VM]++
		f.all++
		f.most, f.mostOf = max(f.most, f.open[e.VM]), max(f.mostOf, f.all)
	case vspheretest.LeaseOpened:
		f.latest[e.VM] = e.Ticket
	case vspheretest.LeaseRenewed:
		if f.latest[e.VM] != e.Ticket {
			f.stale++
		}
	default:
		f.open[e.VM]--
		f.all--
	}
}

// heard follows what a daemon says of its jobs. The words of two daemons come in any
// order: a job may be claimed by one before it is heard that the other has released it,
// which has to be heard in the end. That it runs once at a time is for the lab to say.
func (f *flotilla) heard(r report) {
	f.t.Helper()
	switch {
	case r.Msg == "job claimed":
		if by, held := f.held[r.Job]; held && by == r.daemon {
			f.t.Errorf("daemon %d claims job %s, which it runs", r.daemon, r.Job)
		} else if held {
			f.late[r.Job] = append(f.late[r.Job], by)
		}
		f.held[r.Job] = r.daemon
		if at, lost := f.lost[r.Job]; lost {
			f.taken = append(f.taken, r.at.Sub(at))
			f.heirs = append(f.heirs, r.Job)
			delete(f.lost, r.Job)
		}
	case r.Msg == "job released":
		f.letGo(r)
		switch models.Status(r.Status) {
		case models.StatusCompleted:
			f.ended[r.Job] = true
		case models.StatusPending:
		default:
			f.t.Errorf("job %s is %s: %s", r.Job, r.Status, r.Error)
		}
	case strings.HasPrefix(r.Msg, "the claim on the job could not be renewed"), strings.HasPrefix(r.Msg, "the claim on the job is lost"):
		f.letGo(r)
	}
}

// letGo notes that a daemon does not hold a job any more.
func (f *flotilla) letGo(r report) {
	if by, held := f.held[r.Job]; held && by == r.daemon {
		delete(f.held, r.Job)
	} else if i := slices.Index(f.late[r.Job], r.daemon); i >= 0 {
		f.late[r.Job] = slices.Delete(f.late[r.Job], i, i+1)
	}
}

// kill ends a daemon as a crash does, and starts it again.
func (f *flotilla) kill(i int) {
	f.t.Helper()
	f.die(i)
	f.start(i)
}

// die ends a daemon as a crash does.
func (f *flotilla) die(i int) {
	f.t.Helper()
	p := f.daemons[i]
	at := time.Now()
	p.kill()
	for over := false; !over; { // its last words
		r := <-f.lines
		f.heardOrOver(r)
		over = r.over && r.of == p
	}
	for id, by := range f.held {
		if by == i {
			delete(f.held, id)
			f.lost[id] = at
			f.orphan++
		}
	}
	for id := range f.late { // it died before it could say so
		f.late[id] = slices.DeleteFunc(f.late[id], func(by int) bool { return by == i })
	}
}

func (f *flotilla) heardOrOver(r report) {
	f.t.Helper()
	if !r.over {
		f.heard(r)
	}
}

// restart stops the database and starts it again.
func (f *flotilla) restart() {
	f.t.Helper()
	if err := f.server.Stop(); err != nil {
		f.t.Fatal(err)
	}
	if err := f.server.Restart(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

// until listens to the daemons until enough is so.
func (f *flotilla) until(enough func() bool) {
	f.t.Helper()
	for !enough() {
		r := <-f.lines
		if r.over {
			f.t.Fatalf("daemon %d died by itself: %v", r.daemon, r.of.err)
		}
		f.heard(r)
	}
}

// finished reports whether every job is completed. A daemon may have died between an end
// and its words: the database knows.
func (f *flotilla) finished() bool {
	return len(f.ended) == len(f.defs) || len(f.ended) > len(f.defs)-len(f.lost)-1 && f.query(`SELECT count(*) FROM jobs WHERE status = 'completed'`) == len(f.defs)
}

// query asks the database for a number.
func (f *flotilla) query(statement string) (n int) {
	f.t.Helper()
	db, err := sql.Open("pgx", f.server.URL("postgres", database))
	if err != nil {
		f.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(f.t.Context(), statement).Scan(&n); err != nil {
		f.t.Fatal(err)
	}
	return n
}

// judge stops the daemons, and looks at what they have done and left.
func (f *flotilla) judge() {
	f.t.Helper()
	for _, def := range f.defs {
		j, err := f.daemons[0].Job(f.t.Context(), def.ID)
		if err != nil {
			f.t.Fatal(err)
		}
		identical(f.t, j, f.sources...)
		if j.Attempts != 0 {
			f.t.Errorf("job %s counts %d failed attempts, the last with %q: what happens to a daemon or the database is none", def.ID, j.Attempts, j.Error)
		}
		if work, _ := filepath.Glob(filepath.Join(def.OutputPath, ".hyper2kvm-*")); len(work) > 0 {
			f.t.Errorf("%v is left", work)
		}
	}
	for _, d := range f.daemons {
		d.stop(f.t)
	}
	for left := len(f.daemons); left > 0; { // the rest of their words
		r := <-f.lines
		if f.heardOrOver(r); r.over {
			left--
		}
	}
	for id, daemons := range f.late {
		if len(daemons) > 0 {
			f.t.Errorf("daemons %v never let go of job %s, and others claimed it", daemons, id)
		}
	}
	nothingIsLeft(f.t, f.lab, f.vms...)
	if n := f.lab.Sessions(); n > f.orphan {
		f.t.Errorf("%d sessions are left, of %d runs that were killed", n, f.orphan)
	}
	if n := f.query(`SELECT count(*) FROM jobs WHERE owner <> '' OR claimable_at IS NOT NULL`); n > 0 {
		f.t.Errorf("%d claims are left", n)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	// A lease outlives the daemon that held it by the lab's LeaseTimeout, which is less
	// than its part of the limit does.
	if f.mostOf > f.limit {
		f.t.Errorf("%d leases were ready at once, want no more than %d", f.mostOf, f.limit)
	}
	if f.most > 1 || f.stale > 0 {
		f.t.Errorf("%d leases of a VM were ready at once, and %d times one was kept alive beside a later one", f.most, f.stale)
	}
}

// tell prints how long takeovers took.
func (f *flotilla) tell() {
	slices.Sort(f.taken)
	at := func(p int) time.Duration {
		if len(f.taken) == 0 {
			return 0
		}
		return f.taken[(len(f.taken)-1)*p/100].Round(10 * time.Millisecond)
	}
	f.t.Logf("%d jobs were taken over from daemons that died; from the death to that: p50 %v, p95 %v, at most %v", len(f.taken), at(50), at(95), at(100))
	f.t.Logf("at most %d leases of all VMs, and %d of one, were ready at once; %d sessions of killed daemons are left at vCenter", f.mostOf, f.most, f.lab.Sessions())
}
