package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// What the soak does when the environment does not say.
const (
	soakSeed  = 20261127
	soakVMs   = 200              // in a long soak
	shortVMs  = 24               // in one that is part of the other tests
	smallest  = 512 << 10        // bytes of every stream but those of guests that run
	patience  = 10 * time.Minute // for one wave of a short soak
	patiences = time.Hour        // and of a long one
)

// TestASoakInBadWeatherEndsWithEveryImageIdentical exports many small VMs of
// three vCenters through one daemon, while everything goes wrong that the lab
// knows. H2KVM_SOAK=30m goes on for that long, with 200 VMs and also with what
// takes minutes to get over; H2KVM_SOAK_SEED and H2KVM_SOAK_VMS set the others.
// When it fails, H2KVM_SOAK_LOG is the file that gets the daemon's log and all that
// happened at the vCenters.
func TestASoakInBadWeatherEndsWithEveryImageIdentical(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	var lasts time.Duration
	if text := os.Getenv("H2KVM_SOAK"); text != "" {
		var err error
		if lasts, err = time.ParseDuration(text); err != nil {
			t.Fatalf("H2KVM_SOAK: %v", err)
		}
	}
	vms := shortVMs
	if lasts > 0 {
		vms = soakVMs
	}
	seed := number(t, "H2KVM_SOAK_SEED", soakSeed)
	t.Logf("seed %d", seed)
	s := newSoak(t, number(t, "H2KVM_SOAK_VMS", vms), uint64(seed), lasts)
	t.Cleanup(func() { s.keepLog(t) })
	s.run()
	s.report()
}

// soak is a daemon in bad weather.
type soak struct {
	*home
	t       *testing.T
	lasts   time.Duration // 0: one wave
	started time.Time
	sites   []*site
	daemon  *process

	cancels sync.WaitGroup // on their way to the daemon

	exports, waves int
	cancelled      int
	again, owed    map[string]int // failed attempts and cancelled jobs, by what they say
	fds, rss       []int          // of the daemon, after each wave; files and KiB
}

// site is a vCenter, its weather and its VMs.
type site struct {
	name    string
	lab     *vspheretest.Server
	weather *weather
	guests  []*machine
}

// machine is a VM and what may be on its disks: one of the states, and never one
// disk of one and another of another.
type machine struct {
	vm     vspheretest.VM
	states [][]string
	cd     vspheretest.CDROM // as it is to be, unless owed says that it may be either way
	owed   bool

	cancelled bool   // somebody cancels its jobs
	job       string // the present one
	cancelAt  int    // requests until then; 0 when it was or will not be cancelled
}

func newSoak(t *testing.T, vms int, seed uint64, lasts time.Duration) *soak {
	s := &soak{t: t, lasts: lasts, again: make(map[string]int), owed: make(map[string]int)}
	disks := [][]string{
		{rawDisk(t, 3*mib, 768<<10, 1), rawDisk(t, 2*mib, 640<<10, 2)},
		{rawDisk(t, 3*mib, 384<<10, 3), rawDisk(t, 2*mib, 256<<10, 4)}, // those of guests that run
		{rawDisk(t, 3*mib, 320<<10, 5), rawDisk(t, 2*mib, 384<<10, 6)},
	}
	labs := make(map[string]*vspheretest.Server)
	for n, p := range []struct {
		profile vspheretest.Profile
		share   int // of ten VMs
	}{{vspheretest.Stream, 5}, {vspheretest.Ranged, 4}, {vspheretest.VSAN, 1}} {
		site := &site{name: string(p.profile)}
		cfg := vspheretest.Config{Profile: p.profile, Rate: 8 * mib, LeaseTimeout: 5 * time.Second}
		for i := range vms * p.share / 10 {
			g := soakGuest(fmt.Sprintf("%s%03d", p.profile, i), i, disks)
			site.guests, cfg.VMs = append(site.guests, g), append(cfg.VMs, g.vm)
		}
		site.lab = startLab(t, cfg)
		for _, g := range site.guests {
			g.cd = site.lab.CDROM(g.vm.Name)
		}
		site.weather = newWeather(t, site.lab, rand.New(rand.NewPCG(seed, uint64(n))), lasts > 0, site.guests)
		site.weather.cancel = s.cancel
		s.sites, labs[site.name] = append(s.sites, site), site.lab
	}
	s.home = newHomeOf(t, labs, "-jobs", "12")
	s.home.env = append(s.home.env, "HYPER2KVM_DUMPABLE=1") // its /proc is looked into
	return s
}

// soakGuest is the i-th VM of a site.
func soakGuest(name string, i int, disks [][]string) *machine {
	g := &machine{vm: vspheretest.VM{Name: name}, states: disks[:1]}
	switch i % 6 {
	case 0:
		g.vm.EFI, g.vm.NVRAM = true, []byte("the firmware's variables")
	case 1:
		g.vm.ISO = []byte("an image")
	case 2, 3:
		g.vm.PoweredOn = true
	case 4:
		g.states = disks[1:]
	case 5:
		g.vm.ISO, g.vm.PoweredOn, g.cancelled = []byte("an image"), i%12 == 5, true
	}
	for _, path := range g.states[0] {
		g.vm.Disks = append(g.vm.Disks, vspheretest.Disk{Path: path})
	}
	return g
}

// run exports all VMs, again and again until the time is over.
func (s *soak) run() {
	s.started = time.Now()
	s.daemon = s.start()
	for {
		s.wave(s.waves)
		s.waves++
		if time.Since(s.started) >= s.lasts || s.t.Failed() {
			break
		}
	}
	for _, site := range s.sites {
		site.weather.clear()
	}
	s.daemon.stop(s.t)
	for _, site := range s.sites {
		s.settle(site)
		s.clean(site)
	}
}

// settle puts back what the jobs could not, as a person does.
func (s *soak) settle(site *site) {
	s.t.Helper()
	cmd := exec.Command(program(s.t, "hyper2kvm"), "clean", "-output", s.out(site.name))
	cmd.Env = append(os.Environ(), site.lab.Env()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Errorf("hyper2kvm clean: %v\n%s", err, out)
	}
	for _, path := range left(s.t, s.out(site.name)) {
		if strings.Contains(path, "/.hyper2kvm-") {
			s.t.Errorf("%s is left", path)
		}
	}
}

// wave exports every VM once.
func (s *soak) wave(n int) {
	s.t.Helper()
	var defs []job.Definition
	guests := make(map[string]*machine) // by job
	for _, site := range s.sites {
		for i, g := range site.guests {
			def := site.job(g, n, i)
			def.OutputPath = filepath.Join(s.out(site.name), def.ID)
			defs, guests[def.ID] = append(defs, def), g
		}
		site.weather.plan(n)
	}
	r, err := s.daemon.Submit(s.t.Context(), defs, true)
	if err != nil || r.Accepted != len(defs) {
		s.t.Fatalf("submit: %+v, %v", r, err)
	}
	s.await(guests)
	s.cancels.Wait()
	for _, def := range defs {
		s.judge(def, guests[def.ID])
	}
	s.measure()
}

func jobID(n int, g *machine) string { return fmt.Sprintf("wave%d-%s", n, g.vm.Name) }

// job is the n-th export of a VM that is the i-th of its site.
func (s *site) job(g *machine, n, i int) job.Definition {
	format := []job.Format{job.FormatOVF, job.FormatQcow2, job.FormatRaw}[(i+n)%3]
	transport, verify := job.TransportNFC, job.Verify("")
	if format != job.FormatOVF && (i+n)%4 == 0 {
		// vSphere has no checksum of a disk's file: only a second reading tells that
		// a byte was changed on its way.
		transport, verify = job.TransportAuto, job.VerifyFull
	}
	return job.Definition{
		ID: jobID(n, g), VCenter: s.name, VMPath: s.lab.InventoryPath(g.vm.Name),
		Options: job.Options{
			Format: format, Transport: transport, Verify: verify, Compress: format == job.FormatQcow2 && (i+n)%2 == 0,
			RemoveCDROM: g.vm.ISO != nil, Snapshot: g.vm.PoweredOn, ParallelDownloads: 1 + i%4, Retries: job.MaxRetries,
		},
	}
}

// cancel asks for the end of a job. It may have ended before.
func (s *soak) cancel(j string) {
	s.cancels.Go(func() { _, _ = s.daemon.Cancel(s.t.Context(), []string{j}, false) })
}

var numbers = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{40,}|[0-9]+`)

// gist is the first line of a message without what makes it one of its own.
func gist(message string) string {
	first, _, _ := strings.Cut(message, "\n")
	return numbers.ReplaceAllString(first, "N")
}

// await waits until every job has ended.
func (s *soak) await(guests map[string]*machine) {
	s.t.Helper()
	limit := patience
	if s.lasts > 0 {
		limit = patiences
	}
	over := time.After(limit)
	for unfinished := maps.Clone(guests); len(unfinished) > 0; {
		select {
		case l, ok := <-s.daemon.lines:
			switch {
			case !ok:
				s.t.Fatalf("the daemon died by itself: %v", s.daemon.err)
			case l.Msg != "job released":
			case models.Status(l.Status).Final():
				delete(unfinished, l.Job)
			case l.Failed:
				s.again[gist(l.Error)]++
			}
		case <-over:
			s.t.Fatalf("after %v these jobs have not ended: %v", limit, slices.Sorted(maps.Keys(unfinished)))
		}
	}
}

// judge holds a job's images against all that its VM ever was.
func (s *soak) judge(def job.Definition, g *machine) {
	s.t.Helper()
	j, err := s.daemon.Job(s.t.Context(), def.ID)
	if err != nil {
		s.t.Fatal(err)
	}
	if g.cancelled && j.Status == models.StatusCancelled {
		s.cancelled++
		if j.Error != "" {
			g.owed = true
			s.owed[gist(j.Error)]++
		} else if files := left(s.t, def.OutputPath); len(files) > 0 {
			s.t.Errorf("cancelled job %s has left %v", def.ID, files)
		}
		return
	}
	var wrong []string
	for _, state := range g.states {
		if wrong = differences(s.t, j, state...); len(wrong) == 0 {
			break
		}
	}
	if len(wrong) > 0 {
		s.t.Errorf("job %s is none of the %d states of its VM: %s", def.ID, len(g.states), strings.Join(wrong, "; "))
		return
	}
	s.exports++
	for _, debt := range j.Result.Owed {
		s.owed[gist(debt)]++
	}
	g.cd = vspheretest.CDROM{Present: g.cd.Present && g.vm.PoweredOn} // taken out, or emptied where the VM runs, as was asked for
	if len(j.Result.Owed) > 0 {
		return // the ledger there is settled at the end
	}
	if err := os.RemoveAll(def.OutputPath); err != nil {
		s.t.Error(err)
	}
}

// clean checks that a vCenter is as it was before.
func (s *soak) clean(site *site) {
	s.t.Helper()
	var names []string
	for _, g := range site.guests {
		names = append(names, g.vm.Name)
		cd := site.lab.CDROM(g.vm.Name)
		if cd != g.cd && !g.owed {
			s.t.Errorf("the CD drive of %s is %+v, want %+v", g.vm.Name, cd, g.cd)
		}
		if cd != g.cd && !g.owed || len(site.lab.Snapshots(g.vm.Name)) > 0 {
			s.explain(site, g)
		}
	}
	nothingIsLeft(s.t, site.lab, names...)
}

// measure looks at what the daemon holds.
func (s *soak) measure() {
	proc := fmt.Sprintf("/proc/%d/", s.daemon.cmd.Process.Pid)
	files, _ := os.ReadDir(proc + "fd")
	s.fds = append(s.fds, len(files))
	status, _ := os.ReadFile(proc + "status")
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kib int
	_, _ = fmt.Sscan(rest, &kib)
	s.rss = append(s.rss, kib)
}

// report prints the numbers.
func (s *soak) report() {
	took := time.Since(s.started)
	var vms, sessions int
	var served int64
	struck := make(map[string]int)
	logins := vspheretest.LoginCount{}
	for _, site := range s.sites {
		vms += len(site.guests)
		sessions += site.lab.Sessions()
		n := site.lab.Logins()
		logins.Succeeded, logins.Failed = logins.Succeeded+n.Succeeded, logins.Failed+n.Failed
		for _, g := range site.guests {
			for i := range g.vm.Disks {
				served += site.lab.BytesServed(g.vm.Name, i)
			}
		}
		for _, m := range []map[string]int{site.lab.Struck(), site.weather.others} {
			for kind, n := range m {
				struck[kind] += n
			}
		}
	}
	var again int
	for _, n := range s.again {
		again += n
	}
	s.t.Logf("%d VMs of %d vCenters, %d waves, %d exports identical, in %v; %d MB served", vms, len(s.sites), s.waves, s.exports, took.Round(time.Second), served/1e6)
	s.t.Logf("struck: %v", struck)
	s.t.Logf("%d logins, %d of them refused; %d sessions were never logged out", logins.Succeeded+logins.Failed, logins.Failed, sessions)
	s.t.Logf("%d attempts of jobs failed and were repeated", again)
	for _, text := range slices.Sorted(maps.Keys(s.again)) {
		s.t.Logf("%6d  %s", s.again[text], text)
	}
	s.t.Logf("%d jobs were cancelled; these debts were left to be settled:", s.cancelled)
	for _, text := range slices.Sorted(maps.Keys(s.owed)) {
		s.t.Logf("%6d  %s", s.owed[text], text)
	}
	s.t.Logf("the daemon's open files after each wave: %v; resident KiB: %v", s.fds, s.rss)
}
