package e2e

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// gate holds the first request that it is meant for, unanswered, until it is
// opened or the test ends. Those that come later pass.
type gate struct {
	reached chan struct{}
	open    func()
}

// hold puts a gate before a lab. match is called for each request.
func hold(t *testing.T, lab *vspheretest.Server, match func(vspheretest.Request) bool) gate {
	opened := make(chan struct{})
	g := gate{reached: make(chan struct{}), open: sync.OnceFunc(func() { close(opened) })}
	t.Cleanup(g.open)
	var mu sync.Mutex
	held := false
	lab.OnRequest(func(r vspheretest.Request) {
		mu.Lock()
		first := !held && match(r)
		held = held || first
		mu.Unlock()
		if first {
			close(g.reached)
			<-opened
		}
	})
	return g
}

// calls matches one method of the API.
func calls(method string) func(vspheretest.Request) bool {
	return func(r vspheretest.Request) bool { return r.Method == method }
}

// after matches the first call that comes after one of method.
func after(method string) func(vspheretest.Request) bool {
	seen := false
	return func(r vspheretest.Request) bool {
		before := seen
		seen = seen || r.Method == method
		return before
	}
}

// second matches the second request to a plane.
func second(plane vspheretest.Plane) func(vspheretest.Request) bool {
	n := 0
	return func(r vspheretest.Request) bool {
		if r.Plane == plane {
			n++
		}
		return n == 2
	}
}

// silent listens like a vCenter that accepts connections and never says a word.
func silent(t *testing.T) (addr string, reached <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	came := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		tell := sync.OnceFunc(func() { close(came) })
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			tell()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String(), came
}

// held is a job that is somewhere in the middle of a phase, and stays there.
type held struct {
	home    *home
	lab     *vspheretest.Server
	daemon  *process
	id, out string
}

// submit starts a daemon and one export of the VM guest.
func submit(t *testing.T, lab *vspheretest.Server, h *home, o job.Options) held {
	t.Helper()
	d := h.start()
	out := h.out("guest")
	def := job.Definition{ID: "guest", VCenter: "lab", VMPath: "guest", OutputPath: out, Options: o}
	if _, err := d.Submit(t.Context(), []job.Definition{def}, true); err != nil {
		t.Fatal(err)
	}
	return held{home: h, lab: lab, daemon: d, id: def.ID, out: out}
}

// at waits until the job has come to where it is held.
func (h held) at(t *testing.T, reached <-chan struct{}) {
	t.Helper()
	for {
		select {
		case <-reached:
			return
		case l, ok := <-h.daemon.lines:
			if !ok || l.Msg == "job released" {
				t.Fatalf("the job has ended (%s) and not been held", l.Status)
			}
		}
	}
}

// phase waits until the job is held, and is seen in the phase in which it then is.
func (h held) phase(t *testing.T, reached <-chan struct{}, want string) {
	t.Helper()
	h.at(t, reached)
	// The run may be held a little before the daemon has looked at it.
	for seen := false; !seen; pause() {
		j, err := h.daemon.Job(t.Context(), h.id)
		if err != nil || j.Status != models.StatusRunning {
			t.Fatalf("the job is %s in phase %+v (%v), want it held in phase %s", j.Status, j.Progress, err, want)
		}
		seen = j.Progress.Phase == want
	}
}

// cancelled cancels the job and checks that it did not wait for what holds the
// job, and that nothing is left.
func (h held) cancelled(t *testing.T) {
	t.Helper()
	began := time.Now()
	r, err := h.daemon.Cancel(t.Context(), []string{h.id}, false)
	if err != nil || !slices.Equal(r.Cancelled, []string{h.id}) {
		t.Fatalf("cancel: %+v, %v", r, err)
	}
	t.Logf("cancelled after %v", time.Since(began).Round(time.Millisecond))
	h.nothingLeft(t)
}

func (h held) nothingLeft(t *testing.T) {
	t.Helper()
	j, err := h.daemon.Job(t.Context(), h.id)
	if err != nil || j.Status != models.StatusCancelled || j.Error != "" {
		t.Errorf("the job is %s: %s (%v)", j.Status, j.Error, err)
	}
	nothingIsLeft(t, h.lab, "guest")
	if n := h.lab.Sessions(); n > 0 {
		t.Errorf("%d session(s) are left", n)
	}
	if files := left(t, filepath.Dir(h.out)); len(files) > 0 {
		t.Errorf("files are left: %v", files)
	}
}

// phases are those that the job's log reports, in order.
func (h held) phases(t *testing.T) []string {
	t.Helper()
	var out []string
	for e, err := range h.daemon.Log(t.Context(), h.id) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Phase != "" {
			out = append(out, e.Phase)
		}
	}
	return out
}

// guest is a lab with one VM of two disks.
func guest(t *testing.T, cfg vspheretest.Config) (*vspheretest.Server, []string) {
	t.Helper()
	sources := []string{rawDisk(t, 4*mib, 2*mib, 3), rawDisk(t, 6*mib, 2*mib, 4)}
	vm := vspheretest.VM{Name: "guest", Disks: []vspheretest.Disk{{Path: sources[0]}, {Path: sources[1]}}}
	if len(cfg.VMs) > 0 {
		vm.PoweredOn = cfg.VMs[0].PoweredOn
	}
	cfg.VMs = []vspheretest.VM{vm}
	return startLab(t, cfg), sources
}

// Each job below is held by something that does not end by itself: a cancel that
// waited for it would never return.
func TestCancelInEachPhaseReturnsAndLeavesNothing(t *testing.T) {
	t.Parallel()
	running := []vspheretest.VM{{PoweredOn: true}}
	qcow2 := job.Options{Format: job.FormatQcow2}
	t.Run("connecting", func(t *testing.T) {
		t.Parallel()
		lab, _ := guest(t, vspheretest.Config{})
		addr, reached := silent(t)
		h := newHome(t, lab)
		h.write("config.yaml", "vcenters:\n  lab: {url: 'https://"+addr+"/sdk', username: u, password_file: "+filepath.Join(h.dir, "password-lab")+", insecure: true}\n")
		j := submit(t, lab, h, qcow2)
		j.phase(t, reached, "connecting")
		j.cancelled(t)
	})
	for name, tt := range map[string]struct {
		phase string
		cfg   vspheretest.Config
		o     job.Options
		at    func(vspheretest.Request) bool
	}{
		"discovering": {"discovering", vspheretest.Config{}, qcow2, calls("RetrievePropertiesEx")},
		"preparing, while the snapshot is taken": {
			"preparing", vspheretest.Config{VMs: running},
			job.Options{Format: job.FormatRaw, Snapshot: true}, after("CreateSnapshot_Task"),
		},
		"exporting, while the manifest is read":          {"exporting", vspheretest.Config{}, qcow2, calls("HttpNfcLeaseGetManifest")},
		"describing, while the OVF descriptor is made":   {"describing", vspheretest.Config{}, job.Options{}, calls("CreateDescriptor")},
		"describing, of a running VM with its snapshot":  {"describing", vspheretest.Config{VMs: running}, job.Options{Snapshot: true}, calls("CreateDescriptor")},
		"exporting, before the first byte of a disk":     {"exporting", vspheretest.Config{}, qcow2, func(r vspheretest.Request) bool { return r.Plane == vspheretest.NFC }},
		"exporting, ranged, before the second request":   {"exporting", vspheretest.Config{Profile: vspheretest.Ranged}, qcow2, second(vspheretest.NFC)},
		"exporting, while a lease is asked about itself": {"exporting", vspheretest.Config{}, qcow2, after("ExportVm")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab, _ := guest(t, tt.cfg)
			g := hold(t, lab, tt.at)
			j := submit(t, lab, newHome(t, lab), tt.o)
			j.phase(t, g.reached, tt.phase)
			j.cancelled(t)
		})
	}
	t.Run("exporting, while the lease becomes ready", func(t *testing.T) {
		t.Parallel()
		lab, _ := guest(t, vspheretest.Config{LeaseDelay: time.Hour})
		opened := make(chan struct{})
		lab.OnLease(func(e vspheretest.LeaseEvent) {
			if e.Kind == vspheretest.LeaseOpened {
				close(opened)
			}
		})
		j := submit(t, lab, newHome(t, lab), qcow2)
		j.phase(t, opened, "exporting")
		j.cancelled(t)
	})
	for _, profile := range []vspheretest.Profile{vspheretest.Stream, vspheretest.Ranged} {
		t.Run("exporting, in a stalled transfer, "+string(profile), func(t *testing.T) {
			t.Parallel()
			lab, _ := guest(t, vspheretest.Config{Profile: profile, Faults: []string{"stall:at=1MiB,times=always"}})
			reached := lab.ByteReached("guest", 1, 1*mib)
			j := submit(t, lab, newHome(t, lab), qcow2)
			j.phase(t, reached, "exporting")
			j.cancelled(t)
		})
	}
	t.Run("verifying", func(t *testing.T) {
		t.Parallel()
		lab, _ := guest(t, vspheretest.Config{})
		// Nothing at the lab holds a run that verifies. The cancel comes at the last
		// call before, and finds the run there.
		g := hold(t, lab, calls("HttpNfcLeaseComplete"))
		j := submit(t, lab, newHome(t, lab), qcow2)
		j.at(t, g.reached)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			j.cancelled(t)
		}()
		for ; ; pause() {
			shown, err := j.daemon.Job(t.Context(), j.id)
			if err != nil {
				t.Fatal(err)
			}
			if shown.Cancelling {
				break
			}
		}
		g.open()
		<-ended
		if p := j.phases(t); p[len(p)-1] != "verifying" {
			t.Errorf("the phases were %v", p)
		}
	})
}

func TestPartsThatACancelKeepsAreGoneOnFromByARetry(t *testing.T) {
	t.Parallel()
	lab, sources := guest(t, vspheretest.Config{Faults: []string{"stall:at=1MiB,disk=1"}})
	reached := lab.ByteReached("guest", 1, 1*mib)
	j := submit(t, lab, newHome(t, lab), job.Options{Format: job.FormatQcow2, ParallelDownloads: 1})
	j.at(t, reached) // one download at a time: disk 0 is finished
	r, err := j.daemon.Cancel(t.Context(), []string{j.id}, true)
	if err != nil || len(r.Cancelled) != 1 {
		t.Fatalf("cancel: %+v, %v", r, err)
	}
	nothingIsLeft(t, lab, "guest")
	if files := left(t, j.out); !slices.ContainsFunc(files, func(path string) bool { return strings.HasSuffix(path, "disk-0.qcow2.part") }) {
		t.Errorf("the finished disk was not kept: %v", files)
	}
	served := lab.BytesServed("guest", 0)
	if _, err := j.daemon.Retry(t.Context(), j.id); err != nil {
		t.Fatal(err)
	}
	for _, err := range j.daemon.Watch(t.Context(), j.id) {
		if err != nil {
			t.Fatal(err)
		}
	}
	shown, err := j.daemon.Job(t.Context(), j.id)
	if err != nil {
		t.Fatal(err)
	}
	identical(t, shown, sources...)
	if again := lab.BytesServed("guest", 0); again != served {
		t.Errorf("%d bytes of the finished disk were served again", again-served)
	}
}

// The files have their names when the snapshot is removed: such a job is
// completed, whatever was asked for, and the daemon's death changes nothing.
func TestACancelThatComesTooLateCompletesTheJobEvenAfterACrash(t *testing.T) {
	t.Parallel()
	lab, sources := guest(t, vspheretest.Config{VMs: []vspheretest.VM{{PoweredOn: true}}})
	g := hold(t, lab, calls("RemoveSnapshot_Task"))
	j := submit(t, lab, newHome(t, lab), job.Options{Format: job.FormatQcow2, Snapshot: true})
	j.at(t, g.reached)
	answered := make(chan error, 1)
	go func() {
		_, err := j.daemon.Cancel(t.Context(), []string{j.id}, false)
		answered <- err
	}()
	for shown := (models.Job{}); !shown.Cancelling; pause() {
		var err error
		if shown, err = j.daemon.Job(t.Context(), j.id); err != nil {
			t.Fatal(err)
		}
	}
	j.daemon.kill()
	if err := <-answered; err == nil {
		t.Error("the cancel was answered by a daemon that is dead")
	}
	g.open()
	d := j.home.start()
	for _, err := range d.Watch(t.Context(), j.id) {
		if err != nil {
			t.Fatal(err)
		}
	}
	shown, err := d.Job(t.Context(), j.id)
	if err != nil {
		t.Fatal(err)
	}
	identical(t, shown, sources...)
	nothingIsLeft(t, lab, "guest")
}
