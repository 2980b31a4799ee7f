package vsphere_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// oneDisk is a lab with a VM, web, that has one disk.
func oneDisk(t *testing.T) *vspheretest.Server {
	t.Helper()
	return startLab(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "web", Disks: []vspheretest.Disk{{Path: rawDisk(t, "disk", 1<<20)}}}}})
}

// breakBy has the lab go wrong.
func breakBy(t *testing.T, lab *vspheretest.Server, faults ...string) {
	t.Helper()
	for _, f := range faults {
		if err := lab.AddFault(f); err != nil {
			t.Fatal(err)
		}
	}
}

// impatient bounds every call by d.
func impatient(d time.Duration) vsphere.Timeouts {
	return vsphere.Timeouts{Login: d, Read: d, Inventory: d, Change: d, Export: d, Lease: d, Descriptor: d}
}

// work is something that a run asks of vSphere, with a lease that is open.
type work struct {
	c  *vsphere.Client
	vm vsphere.VM
	l  *vsphere.Lease
}

// works are the calls of an export, by their method.
var works = map[string]func(t *testing.T, w work) error{
	"RetrievePropertiesEx": func(t *testing.T, w work) error {
		_, err := w.c.FindSnapshots(t.Context(), w.vm, "")
		return err
	},
	"CreateContainerView": func(t *testing.T, w work) error {
		_, err := w.c.List(t.Context())
		return err
	},
	"HttpNfcLeaseSetManifestChecksumType": func(t *testing.T, w work) error { return w.l.SetSHA256(t.Context()) },
	"HttpNfcLeaseGetManifest": func(t *testing.T, w work) error {
		_, err := w.l.Manifest(t.Context())
		return err
	},
	"HttpNfcLeaseComplete": func(t *testing.T, w work) error { return w.l.Complete(t.Context()) },
	"CreateDescriptor": func(t *testing.T, w work) error {
		item := w.l.Items()[0]
		_, err := w.c.Descriptor(t.Context(), vsphere.Target{VM: w.vm}, []vsphere.OVFFile{{Key: item.Key, Path: "a.vmdk", Size: 1, Capacity: 1 << 20}})
		return err
	},
}

// begin opens a lease of web.
func begin(t *testing.T, cfg vsphere.Config) work {
	t.Helper()
	c := dial(t, cfg)
	vm := find(t, c, "web")
	return work{c: c, vm: vm, l: open(t, c, vsphere.Target{VM: vm})}
}

func TestACallThatIsNeverAnsweredIsAnErrorInBoundedTime(t *testing.T) {
	t.Parallel()
	for method, call := range works {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			lab := oneDisk(t)
			cfg := labConfig(t, lab)
			cfg.Timeouts, cfg.Outage = impatient(3*time.Second), -1
			w := begin(t, cfg)
			breakBy(t, lab, "hang:call="+method)
			err := call(t, w)
			if !errors.Is(err, vsphere.ErrUnreachable) || errors.Is(err, vsphere.ErrUncertain) || !strings.Contains(err.Error(), "did not answer "+method+" within 3s") {
				t.Errorf("error %v", err)
			}
			lab.Release()
		})
	}
}

func TestALoginThatIsNeverAnsweredIsAnErrorInBoundedTime(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"RetrieveServiceContent", "Login"} {
		lab := startLab(t, vspheretest.Config{})
		cfg := labConfig(t, lab)
		cfg.Timeouts = impatient(2 * time.Second)
		breakBy(t, lab, "hang:call="+method)
		if _, err := vsphere.Dial(t.Context(), cfg); !errors.Is(err, vsphere.ErrUnreachable) || !strings.Contains(err.Error(), "did not answer "+method) {
			t.Errorf("%s: %v", method, err)
		}
	}
}

func TestACallThatChangesSomethingAndIsNeverAnsweredMayHaveTakenEffect(t *testing.T) {
	t.Parallel()
	lab := oneDisk(t)
	cfg := labConfig(t, lab)
	cfg.Timeouts.Export, cfg.Timeouts.Change = 2*time.Second, 2*time.Second
	c := dial(t, cfg)
	vm := find(t, c, "web")
	breakBy(t, lab, "hang:call=ExportVm")
	if _, err := c.OpenLease(t.Context(), vsphere.Target{VM: vm}); !errors.Is(err, vsphere.ErrUncertain) || !errors.Is(err, vsphere.ErrUnreachable) {
		t.Errorf("a lease: %v", err)
	}
	lab.ExpireLeases()
	breakBy(t, lab, "lose:call=ExportVm")
	if _, err := c.OpenLease(t.Context(), vsphere.Target{VM: vm}); !errors.Is(err, vsphere.ErrUncertain) {
		t.Errorf("a lease whose answer was lost: %v", err)
	}
	lab.ExpireLeases()
	breakBy(t, lab, "lose:call=ExportVm,how=503")
	if _, err := c.OpenLease(t.Context(), vsphere.Target{VM: vm}); !errors.Is(err, vsphere.ErrUncertain) || !errors.Is(err, vsphere.ErrBusy) {
		t.Errorf("a lease with 503 in place of its answer: %v", err)
	}
	lab.ExpireLeases()
	breakBy(t, lab, "lose:call=ExportVm,effect=false,how=html")
	l, err := c.OpenLease(t.Context(), vsphere.Target{VM: vm})
	if err != nil {
		t.Fatalf("a lease that a proxy kept from vSphere: %v", err)
	}
	if err := l.Abort(t.Context(), "end of test"); err != nil {
		t.Error(err)
	}
}

func TestAnOutageIsRiddenThroughInEveryPhase(t *testing.T) {
	t.Parallel()
	export := func(t *testing.T, w work) error {
		l, err := w.c.OpenLease(t.Context(), vsphere.Target{VM: find(t, w.c, "db")})
		if err != nil {
			return err
		}
		return l.Abort(t.Context(), "end of test")
	}
	for _, how := range []vspheretest.Outage{vspheretest.Refuse, vspheretest.Reset, vspheretest.Unavailable, vspheretest.HTML, vspheretest.Hang} {
		t.Run(string(how), func(t *testing.T) {
			t.Parallel()
			lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{
				{Name: "web", Disks: []vspheretest.Disk{{Path: rawDisk(t, "web", 1<<20)}}},
				{Name: "db", Disks: []vspheretest.Disk{{Path: rawDisk(t, "db", 1<<20)}}},
			}})
			for method, call := range works {
				if how == vspheretest.Hang && method != "HttpNfcLeaseGetManifest" {
					continue // each takes a time-out: TestACallThatIsNeverAnswered has them all
				}
				ride(t, lab, how, method, call)
			}
			ride(t, lab, how, "ExportVm", export)
		})
	}
}

// ride makes a call while vCenter is away, which is back as soon as the client
// says that it waits; everybody was logged out meanwhile, where that does not
// end what the call is about.
func ride(t *testing.T, lab *vspheretest.Server, how vspheretest.Outage, method string, call func(*testing.T, work) error) {
	t.Helper()
	cfg := labConfig(t, lab)
	if how == vspheretest.Hang {
		cfg.Timeouts = impatient(2 * time.Second)
	}
	var mu sync.Mutex
	var told []vsphere.Outage
	up := func() {}
	cfg.OnOutage = func(o vsphere.Outage) {
		mu.Lock()
		defer mu.Unlock()
		if told = append(told, o); !o.Back {
			up()
		}
	}
	w := begin(t, cfg)
	back := lab.Down(vspheretest.Control, how)
	mu.Lock()
	up = func() {
		if !strings.HasPrefix(method, "HttpNfc") {
			lab.EndSessions()
		}
		back()
	}
	mu.Unlock()
	if err := call(t, w); err != nil {
		t.Errorf("%s: %v", method, err)
	}
	_ = w.l.Abort(t.Context(), "end of the call") // gone, where sessions ended
	mu.Lock()
	defer mu.Unlock()
	if len(told) != 2 || told[0].Reason == "" || told[0].Host != cfg.URL.Host || told[0].Since.IsZero() || !told[1].Back || told[1].GaveUp {
		t.Errorf("%s: told %+v", method, told)
	}
}

func TestDialWaitsForAServiceThatStarts(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{})
	cfg := labConfig(t, lab)
	breakBy(t, lab, "fault:call=Login,fault=SystemError,times=2")
	if _, err := vsphere.Dial(t.Context(), cfg); !errors.Is(err, vsphere.ErrUnreachable) {
		t.Errorf("without patience: %v", err)
	}
	cfg.DialOutage = time.Minute
	up := lab.Down(vspheretest.Control, vspheretest.Unavailable)
	cfg.OnOutage = func(vsphere.Outage) { up() }
	c, err := vsphere.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	cfg.Password = "wrong"
	if _, err := vsphere.Dial(t.Context(), cfg); !errors.Is(err, vsphere.ErrLogin) || lab.Logins().Failed != 3 {
		t.Errorf("a wrong password: %v, %+v", err, lab.Logins())
	}
}

func TestAPasswordThatIsRefusedIsTriedOnce(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "web"}}})
	c, err := vsphere.Dial(t.Context(), labConfig(t, lab))
	if err != nil {
		t.Fatal(err)
	}
	vm := find(t, c, "web")
	breakBy(t, lab, "fault:call=Login,fault=InvalidLogin,times=always") // it was changed
	lab.EndSessions()
	for range 2 {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if _, err := c.FindSnapshots(t.Context(), vm, ""); !errors.Is(err, vsphere.ErrLogin) {
					t.Errorf("error %v", err)
				}
			})
		}
		all.Wait()
	}
	if n := lab.Logins().Failed; n != 1 {
		t.Errorf("%d logins with the wrong password, want 1", n)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCallsOnALeaseThatIsGoneSayThatItIsLost(t *testing.T) {
	t.Parallel()
	lab := oneDisk(t)
	for name, end := range map[string]func(){
		"its session ended":    lab.EndSessions,
		"it timed out":         lab.ExpireLeases,
		"InvalidState":         func() { breakBy(t, lab, "fault:call=*,fault=InvalidState,times=1") },
		"ManagedObjectMissing": func() { breakBy(t, lab, "fault:call=*,fault=ManagedObjectNotFound,times=1") },
		"NotAuthenticated":     func() { breakBy(t, lab, "fault:call=*,fault=NotAuthenticated,times=3") },
	} {
		for method, call := range works {
			if !strings.HasPrefix(method, "HttpNfc") {
				continue
			}
			w := begin(t, labConfig(t, lab))
			end()
			if err := call(t, w); !errors.Is(err, vsphere.ErrLeaseLost) || errors.Is(err, vsphere.ErrUnsupported) {
				t.Errorf("%s, %s: %v", name, method, err)
			}
			lab.ClearFaults()
			if err := w.l.Abort(t.Context(), "end of test"); err != nil {
				t.Errorf("%s, %s: %v", name, method, err)
			}
		}
	}
}

func TestALeaseThatWasCompletedByALostAnswerIsComplete(t *testing.T) {
	t.Parallel()
	lab := oneDisk(t)
	for _, how := range []string{"", ",how=503", ",how=html", ",effect=false"} {
		w := begin(t, labConfig(t, lab))
		breakBy(t, lab, "lose:call=HttpNfcLeaseComplete"+how)
		if err := w.l.Complete(t.Context()); err != nil {
			t.Errorf("%q: %v", how, err)
		}
	}
}

func TestANewLeaseKnowsARenewedCertificate(t *testing.T) {
	t.Parallel()
	lab := oneDisk(t)
	w := begin(t, labConfig(t, lab))
	if err := lab.RenewHostCertificate(0); err != nil {
		t.Fatal(err)
	}
	if _, err := w.l.Source(w.l.Items()[0]).Probe(t.Context()); !errors.Is(err, vsphere.ErrThumbprint) {
		t.Errorf("under the old lease: %v", err)
	}
	if err := w.l.Abort(t.Context(), "renewed"); err != nil {
		t.Fatal(err)
	}
	l := open(t, w.c, vsphere.Target{VM: w.vm})
	if n, _ := read(t, l.Source(l.Items()[0])); n == 0 {
		t.Error("nothing came under the new lease")
	}
}
