package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// What the crash test does when the environment does not say.
const (
	crashSeed  = 20240611
	crashKills = 26 // for each of the two profiles; fewer where vCenter is in trouble too
	// sharedKills is for a daemon on PostgreSQL, where each takes as long as a claim
	// holds that nobody renews.
	sharedKills = 2
)

// number reads an environment variable.
func number(t *testing.T, name string, def int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return def
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func TestKillingTheDaemonAtAnyInstantLosesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	t.Parallel()
	seed, kills := number(t, "H2KVM_CRASH_SEED", crashSeed), number(t, "H2KVM_CRASH_KILLS", crashKills)
	for n, tt := range []struct {
		name    string
		profile vspheretest.Profile
		trouble func(*siege)
		kills   int
		shared  bool // on PostgreSQL
	}{
		{"stream", vspheretest.Stream, nil, kills, false},
		{"ranged", vspheretest.Ranged, nil, kills, false},
		{"outages", vspheretest.Ranged, (*siege).goAway, (kills + 2) / 3, false},
		{"slow tasks", vspheretest.Stream, (*siege).slowDown, (kills + 1) / 2, false},
		{"postgres", vspheretest.Ranged, nil, number(t, "H2KVM_CRASH_KILLS", sharedKills), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := ""
			if tt.shared {
				url = startPostgres(t).URL("postgres", database)
			}
			s := newSiege(t, tt.profile, rand.New(rand.NewPCG(uint64(seed), uint64(n))))
			s.trouble, s.sure = tt.trouble, tt.name != "outages"
			if tt.shared {
				s.share(url, 8*time.Second)
			}
			s.run(tt.kills)
		})
	}
}

// siege is a daemon under fire.
type siege struct {
	*home
	t         *testing.T
	lab       *vspheretest.Server
	rng       *rand.Rand
	sources   []string         // of every VM's two disks
	vms       []vspheretest.VM // to be exported, the last one runs
	daemon    *process         // the present life
	kills     int              // so far
	claims    map[string]bool  // jobs that the present life runs
	marks     map[[2]int]int64 // VM and disk: bytes served when it was found finished
	resumed   []time.Duration  // from a restart to a job running again
	restarted bool             // the present life has not been looked at yet
	trouble   func(*siege)     // what else goes wrong in each life; nil for nothing
	sure      bool             // no answer is lost on its way to a daemon that lives

	mu       sync.Mutex
	life     int            // counts the daemons
	events   int            // of the lab, so far
	killAt   int            // the event that kills, 0 for none
	killOn   string         // what that event must be, "" for anything: the first such from killAt on
	delay    time.Duration  // after that event; 0 is inside it
	outage   string         // the rule of the next outage, "" for none
	outageAt int            // the event at which it begins
	dying    bool           // the event has come
	where    []string       // the events that killed
	leases   map[string]int // open ones by ticket, and the life that opened them
	owners   map[string]int // VMs with an open lease, and its life
	lives    map[string]int // in which life a session was first heard of
	twice    []string       // exports asked for while this life held a lease of the VM
	both     int            // most leases of a VM that were ready at a time
	ready    map[string]int // how many are
}

func newSiege(t *testing.T, profile vspheretest.Profile, rng *rand.Rand) *siege {
	s := &siege{
		t: t, rng: rng, marks: map[[2]int]int64{}, claims: map[string]bool{},
		lives: map[string]int{}, leases: map[string]int{}, owners: map[string]int{}, ready: map[string]int{},
		sources: []string{rawDisk(t, 8*mib, 2*mib, 1), rawDisk(t, 12*mib, 3*mib, 2)},
	}
	for i := range 7 {
		vm := vspheretest.VM{Name: fmt.Sprintf("vm%d", i), Disks: []vspheretest.Disk{{Path: s.sources[0]}, {Path: s.sources[1]}}}
		switch i {
		case 0:
			vm.EFI, vm.NVRAM = true, []byte("the firmware's variables")
		case 1:
			vm.ISO = []byte("an image")
		case 5, 6:
			vm.PoweredOn = true
		}
		s.vms = append(s.vms, vm)
	}
	s.lab = startLab(t, vspheretest.Config{Profile: profile, VMs: s.vms, Rate: 24 * mib, LeaseTimeout: 4 * time.Second})
	s.home = newHome(t, s.lab, "-jobs", "3")
	s.watch()
	return s
}

// watch counts the lab's events.
func (s *siege) watch() {
	s.lab.OnRequest(func(r vspheretest.Request) {
		s.heard(r)
		s.event(string(r.Plane) + " " + r.Method)
	})
	s.lab.OnLease(func(e vspheretest.LeaseEvent) {
		s.lease(e)
		s.event("lease " + string(e.Kind))
	})
	for _, vm := range s.vms {
		for disk := range vm.Disks {
			size := s.lab.Stream(vm.Name, disk).Size
			for i := range int64(8) {
				s.position(vm.Name, disk, (2*i+1)*size/16)
			}
		}
	}
}

// position makes an event of each time that a stream passes byte n.
func (s *siege) position(vm string, disk int, n int64) {
	s.lab.OnByte(vm, disk, n, func() {
		s.position(vm, disk, n)
		s.event("bytes")
	})
}

// event counts, and kills the daemon when its time has come.
func (s *siege) event(what string) {
	s.mu.Lock()
	s.events++
	due := s.killAt > 0 && s.events >= s.killAt && !s.dying && (s.killOn == "" || s.killOn == what)
	victim := s.daemon
	if due {
		s.dying = true
		s.where = append(s.where, fmt.Sprintf("%s+%v", what, s.delay))
	}
	delay := s.delay
	outage := ""
	if s.outage != "" && s.events >= s.outageAt {
		outage, s.outage = s.outage, ""
	}
	s.mu.Unlock()
	if outage != "" {
		_ = s.lab.AddFault(outage) // goAway wrote it
	}
	switch {
	case due && delay == 0:
		victim.kill()
	case due:
		time.AfterFunc(delay, func() { _ = victim.cmd.Process.Kill() })
	}
}

// turns are the calls at which a job changes something that outlives it. Of a
// job's hundred calls they are few, so half of the kills go to them.
var turns = []string{
	"ExportVm", "ExportSnapshot", "CreateSnapshot_Task", "RemoveSnapshot_Task", "ReconfigVM_Task",
	"HttpNfcLeaseGetManifest", "HttpNfcLeaseComplete", "HttpNfcLeaseAbort", "CreateDescriptor", "Logout",
}

// arm draws the next instant.
func (s *siege) arm() {
	if s.trouble != nil {
		s.trouble(s)
	}
	span := []int{40, 150, 500}[s.rng.IntN(3)]
	after := 1 + s.rng.IntN(span)
	on := ""
	if s.rng.IntN(2) == 0 {
		after, on = 1, "soap "+turns[s.rng.IntN(len(turns))]
	}
	var delay time.Duration
	if s.rng.IntN(2) == 0 {
		delay = time.Duration(1 + s.rng.Int64N(int64(30*time.Millisecond)))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.killAt, s.killOn, s.delay, s.dying = s.events+after, on, delay, false
}

// disarm calls the next kill off; false means that it is too late.
func (s *siege) disarm() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dying {
		return false
	}
	s.killAt = 0
	return true
}

// lease follows the leases, to see two of one VM at a time.
func (s *siege) lease(e vspheretest.LeaseEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e.Kind {
	case vspheretest.LeaseOpened:
		// A request of a life that was killed may be answered in the next one.
		life := s.lives[e.Session]
		s.leases[e.Ticket], s.owners[e.VM] = life, life
	case vspheretest.LeaseReady:
		s.ready[e.VM]++
		s.both = max(s.both, s.ready[e.VM])
	case vspheretest.LeaseRenewed:
	default: // it ended; all of the lab's leases become ready at once
		s.ready[e.VM]--
		delete(s.leases, e.Ticket)
		delete(s.owners, e.VM)
	}
}

// heard notes which life a session belongs to, and an export that is asked for
// while the same life of the daemon holds a lease of the VM: a job that runs
// twice.
func (s *siege) heard(r vspheretest.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	life, known := s.lives[r.Session]
	if !known && r.Session != "" {
		life = s.life
		s.lives[r.Session] = life
	}
	if r.Method == "ExportVm" && life > 0 && s.owners[r.VM] == life {
		s.twice = append(s.twice, r.VM)
	}
}

// run kills the daemon as many times as asked, in as many waves of jobs as that
// takes, and judges each wave when its last job has ended.
func (s *siege) run(kills int) {
	s.revive()
	for wave := 0; s.kills < kills; wave++ {
		defs := s.jobs(wave)
		clear(s.marks)
		r, err := s.daemon.Submit(s.t.Context(), defs, true)
		if err != nil || r.Accepted != len(defs) {
			s.t.Fatalf("submit: %+v, %v", r, err)
		}
		s.arm()
		for !s.ended() {
			s.kills++
			s.mark(defs)
			if s.kills < kills {
				s.arm()
			} else {
				s.disarmed()
			}
			s.revive()
		}
		s.judge(defs)
	}
	s.daemon.stop(s.t)
	s.report()
}

// disarmed lets the next life live.
func (s *siege) disarmed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.killAt, s.dying = 0, false
}

// jobs are one export of each VM, in all formats.
func (s *siege) jobs(wave int) []job.Definition {
	formats := []job.Format{job.FormatOVF, job.FormatQcow2, job.FormatRaw}
	var defs []job.Definition
	for i, vm := range s.vms {
		id := fmt.Sprintf("wave%d-%s", wave, vm.Name)
		defs = append(defs, job.Definition{
			ID: id, VMPath: s.lab.InventoryPath(vm.Name), OutputPath: s.out(id),
			Options: job.Options{
				Format: formats[(i+wave)%len(formats)], Compress: (i+wave)%2 == 0 && formats[(i+wave)%len(formats)] == job.FormatQcow2,
				RemoveCDROM: vm.ISO != nil, Snapshot: vm.PoweredOn, ParallelDownloads: 1 + i%4,
			},
		})
	}
	return defs
}

// revive starts the daemon's next life.
func (s *siege) revive() {
	s.mu.Lock()
	s.life++
	s.daemon = s.launch()
	s.mu.Unlock()
	clear(s.claims)
	s.restarted = true
	if s.daemon.await() {
		s.daemon.connect(s.t)
	}
}

// ended waits until every job has ended, or the daemon has: then it returns
// false.
func (s *siege) ended() bool {
	s.t.Helper()
	unfinished, err := s.unfinished()
	if err != nil {
		return s.died()
	}
	first := s.restarted && len(unfinished) > 0
	s.restarted = false
	for len(unfinished) > 0 {
		l, ok := <-s.daemon.lines
		if !ok {
			return s.died()
		}
		switch l.Msg {
		case "job claimed":
			if first {
				first = false
				s.resumed = append(s.resumed, l.at.Sub(s.daemon.started))
			}
			if s.claims[l.Job] {
				s.t.Errorf("job %s is claimed while it runs", l.Job)
			}
			s.claims[l.Job] = true
		case "job released":
			delete(s.claims, l.Job)
			if models.Status(l.Status).Final() {
				delete(unfinished, l.Job)
			}
		}
	}
	return s.disarm() || s.died()
}

// unfinished asks the daemon for the jobs that have not ended.
func (s *siege) unfinished() (map[string]bool, error) {
	if s.daemon.Client == nil {
		return nil, client.ErrUnavailable
	}
	r, err := s.daemon.Query(s.t.Context(), models.Query{Status: []models.Status{models.StatusPending, models.StatusRunning}})
	out := map[string]bool{}
	for _, j := range r.Jobs {
		out[j.Definition.ID] = true
	}
	return out, err
}

// died waits for the end of a daemon that was killed. It returns false.
func (s *siege) died() bool {
	s.t.Helper()
	<-s.daemon.exited
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.dying {
		s.t.Fatalf("the daemon died by itself: %v", s.daemon.err)
	}
	return false
}

// mark looks, after a kill, which disks are finished, and that those that were
// before have not been served since.
func (s *siege) mark(defs []job.Definition) {
	s.t.Helper()
	for i, def := range defs {
		for _, disk := range finished(s.t, def, len(s.sources)) {
			key, served := [2]int{i, disk}, s.lab.BytesServed(s.vms[i].Name, disk)
			before, known := s.marks[key]
			if known && served != before {
				s.t.Errorf("disk %d of %s was finished, and then %d bytes more were served of it (kill %d, at %s)",
					disk, s.vms[i].Name, served-before, s.kills, s.where[len(s.where)-1])
			}
			s.marks[key] = served
		}
	}
	for key := range s.marks {
		if done := finished(s.t, defs[key[0]], len(s.sources)); !slices.Contains(done, key[1]) {
			s.t.Errorf("disk %d of %s was finished, and is not any more (kill %d, at %s)",
				key[1], s.vms[key[0]].Name, s.kills, s.where[len(s.where)-1])
			delete(s.marks, key)
		}
	}
}

// judge looks at a wave whose jobs have all ended.
func (s *siege) judge(defs []job.Definition) {
	s.t.Helper()
	for i, def := range defs {
		j, err := s.daemon.Job(s.t.Context(), def.ID)
		if err != nil {
			s.t.Fatal(err)
		}
		identical(s.t, j, s.sources...)
		if j.Attempts != 0 {
			s.t.Errorf("job %s counts %d failed attempts: a crash is none", def.ID, j.Attempts)
		}
		for disk := range s.sources {
			before, known := s.marks[[2]int{i, disk}]
			if served := s.lab.BytesServed(s.vms[i].Name, disk); known && served != before {
				s.t.Errorf("disk %d of %s was finished, and then %d bytes more were served of it", disk, s.vms[i].Name, served-before)
			}
		}
	}
	var names []string
	for _, vm := range s.vms {
		names = append(names, vm.Name)
	}
	nothingIsLeft(s.t, s.lab, names...)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.twice) > 0 && s.sure || s.both > 1 {
		s.t.Errorf("exports were asked for twice at once of %v; at most %d leases of a VM were ready at a time", s.twice, s.both)
	}
}

// report prints what is of interest in any case.
func (s *siege) report() {
	slices.Sort(s.resumed)
	at := func(p int) time.Duration {
		return s.resumed[(len(s.resumed)-1)*p/100].Round(time.Millisecond)
	}
	s.t.Logf("%d kills; from start to a job running again: p50 %v, p95 %v, at most %v", s.kills, at(50), at(95), at(100))
	s.t.Logf("killed at: %v", s.where)
	if n := s.lab.Struck(); len(n) > 0 {
		s.t.Logf("beside that: %v", n)
	}
}
