package probe_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/probe"
	"github.com/hyper2kvm/hyper2kvm/probe/findings"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// text is a report as a person sees it.
func text(tb testing.TB, r findings.Report) string {
	tb.Helper()
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

func encoded(tb testing.TB, r findings.Report) string {
	tb.Helper()
	b, err := r.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

func TestAProbeMeasuresEachChannelAndRecommendsOne(t *testing.T) {
	t.Parallel()
	r := probed(t, lab(t, nil), nil)
	if !r.Complete {
		t.Error("the report is not complete")
	}
	for _, channel := range []findings.Answer{findings.ByLease, findings.ByFolder, findings.By902} {
		for _, n := range []int{1, 2, 4, 8} {
			i := slices.IndexFunc(r.Rates, func(x findings.Rate) bool { return x.Channel == channel && x.Streams == n })
			if i < 0 || r.Rates[i].Served != n || r.Rates[i].PerSec <= 0 || r.Rates[i].Bytes > 10*mib {
				t.Errorf("%s, %d streams: %+v", channel, n, r.Rates)
			}
		}
	}
	if r.Advice == nil || r.Advice.Parallel == 0 || r.Advice.PerSec == 0 || r.Advice.Transport == "none" {
		t.Errorf("the advice is %+v", r.Advice)
	}
	if got := text(t, r); !strings.Contains(got, "Recommended: -transport ") {
		t.Errorf("the text recommends nothing:\n%s", got)
	}
}

func TestAChannelThatServesNothingIsNotRecommended(t *testing.T) {
	t.Parallel()
	srv := lab(t, func(c *vspheretest.Config) {
		c.Faults = []string{"status:code=500,plane=nfc,times=always"}
	})
	r := probed(t, srv, nil)
	if r.Advice == nil || r.Advice.Transport == "nfc" || r.Advice.Transport == "none" {
		t.Errorf("the lease serves nothing, and the advice is %+v", r.Advice)
	}
}

func TestAVMThatRunsIsLookedAtByASnapshotOnlyWhenThatIsAskedFor(t *testing.T) {
	t.Parallel()
	for _, snapshot := range []bool{false, true} {
		t.Run(fmt.Sprintf("snapshot %v", snapshot), func(t *testing.T) {
			t.Parallel()
			srv := lab(t, func(c *vspheretest.Config) { c.VMs[0].PoweredOn = true })
			var taken bool
			srv.OnCall("CreateSnapshot_Task", func() { taken = true })
			r := probed(t, srv, func(o *probe.Options) { o.VM, o.Snapshot = "guest1", snapshot })
			if taken != snapshot {
				t.Errorf("a snapshot was taken: %v", taken)
			}
			if r.Port902.Port != findings.Open || !slices.Contains(r.Port902.Announces, "SHA256 supported") || r.Folder.Why != findings.PowerState {
				t.Errorf("port 902 %+v, folder %+v", r.Port902, r.Folder)
			}
			if snapshot {
				if r.VM.Frozen != findings.Yes || r.Lease.Opened != findings.Yes || r.Lease.Manifest != findings.Listed || r.Port902.Opened != findings.Yes {
					t.Errorf("with a snapshot: %+v", r)
				}
				return
			}
			if r.Lease.Why != findings.PowerState || r.Port902.Why != findings.PowerState || len(r.Rates) > 0 {
				t.Errorf("without a snapshot: %+v", r)
			}
			if got := text(t, r); !strings.Contains(got, "-snapshot lets a temporary snapshot be taken") {
				t.Errorf("the text does not say what is needed:\n%s", got)
			}
		})
	}
}

func TestWithoutRightsEachIsNamedAndTheOtherChecksGoOn(t *testing.T) {
	t.Parallel()
	missing := []string{"VApp.Export", "VirtualMachine.Provisioning.GetVmFiles", "VirtualMachine.Provisioning.DiskRandomRead", "Datastore.Browse", "Datastore.FileManagement"}
	srv := lab(t, func(c *vspheretest.Config) { c.DeniedPrivileges = missing })
	r := probed(t, srv, nil)
	slices.Sort(missing)
	if got := r.Lacks(); !slices.Equal(got, missing) {
		t.Errorf("missing are %v, want %v", got, missing)
	}
	if r.Lease.Opened != findings.No || r.Lease.Why != findings.NoPermission {
		t.Errorf("lease %+v", r.Lease)
	}
	if r.Folder.Answer != findings.Refused || r.Folder.Status != 403 || r.Port902.Ticket != findings.Refused || r.Port902.Why != findings.NoPermission {
		t.Errorf("folder %+v, port 902 %+v", r.Folder, r.Port902)
	}
	if r.Hosts.Port443 != findings.Open || r.Timings.CallMS == 0 || !r.Complete {
		t.Errorf("the other checks: %+v", r)
	}
	got := text(t, r)
	for _, id := range missing {
		if !strings.Contains(got, id) {
			t.Errorf("the text does not name %s:\n%s", id, got)
		}
	}
}

func TestOnePrivilegeOfTwoGivesATicketForOneDisk(t *testing.T) {
	t.Parallel()
	srv := lab(t, func(c *vspheretest.Config) { c.DeniedPrivileges = []string{"VirtualMachine.Provisioning.GetVmFiles"} })
	if r := probed(t, srv, nil); r.Port902.Ticket != findings.OneDisk || r.Port902.Opened != findings.Yes {
		t.Errorf("port 902 %+v", r.Port902)
	}
}

func TestAVMIsChosenThatIsPoweredOff(t *testing.T) {
	t.Parallel()
	srv := lab(t, func(c *vspheretest.Config) {
		on := theVM(t)
		on.Name, on.PoweredOn = "runs", true
		c.VMs = append([]vspheretest.VM{on}, c.VMs...)
	})
	if r := probed(t, srv, nil); r.VM.Power != findings.PoweredOff || r.Lease.Opened != findings.Yes {
		t.Errorf("%+v", r.VM)
	}
}

func TestAnInventoryWithoutVMsIsToldOf(t *testing.T) {
	t.Parallel()
	srv := lab(t, func(c *vspheretest.Config) { c.VMs = nil })
	r := probed(t, srv, nil)
	if r.Lease.Why != findings.NoVM || r.Service.Kind != findings.VCenter || r.Hosts.Count != 1 || !r.Complete {
		t.Errorf("%+v", r)
	}
}

func TestAVMThatIsNotThereIsAnError(t *testing.T) {
	t.Parallel()
	o := quick(t)
	o.VM = "nobody"
	if _, err := probe.Run(t.Context(), dial(t, lab(t, nil)), o); !errors.Is(err, vsphere.ErrNotFound) {
		t.Errorf("error %v", err)
	}
}

// secrets are what tells whose vSphere it is: every name, address, id and uuid of a lab
// that anything of it shows.
func secrets(tb testing.TB, srv *vspheretest.Server, c *vsphere.Client) []string {
	tb.Helper()
	vm, err := c.Find(tb.Context(), "guest-of-erika")
	if err != nil {
		tb.Fatal(err)
	}
	hosts, err := c.Hosts(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	password, _ := srv.URL().User.Password()
	hide := []string{
		vm.Name, vm.Path, vm.Ref, vm.InstanceUUID, vm.BIOSUUID, vm.Datacenter, vm.HostName, vm.Host, "erika", "mustermann-folder", "DC0", "LocalDS",
		srv.HostAddr(0), srv.NFCAddr(0), srv.URL().Host, srv.URL().User.Username(), password, c.About().InstanceUUID,
		srv.Thumbprint(), srv.HostThumbprint(0), "127.0.0.1", "localhost", "vcenter.lab", "esxi0", "hyper2kvm-probe-", "snapshot-", "/folder/", "/nfc/", ".vmdk",
	}
	for _, h := range hosts {
		hide = append(hide, h.Name, h.Ref)
	}
	for _, d := range vm.Disks {
		hide = append(hide, d.File, d.UUID, d.Datastore)
	}
	for _, n := range vm.NICs {
		hide = append(hide, n.MAC, n.Network)
	}
	return slices.DeleteFunc(hide, func(s string) bool { return s == "" })
}

// identifying are forms that nothing in a report may have: addresses, uuids, ids,
// thumbprints, URLs.
var identifying = regexp.MustCompile(`(?i)\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}:|[0-9a-f]{8}-[0-9a-f]{4}-|\b(vm|host|datastore|group|session|task|snapshot)-\d|([0-9a-f]{2}:){5}|https?://`)

func TestNothingInAReportTellsWhoseVSphereItIs(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string][]string{
		"when all goes well": nil,
		"in errors of calls": {
			"fault:call=ExportVm,fault=FileFault,times=always", "fault:call=ExportSnapshot,fault=FileFault,times=always",
			"fault:call=NfcGetVmFiles,fault=SystemError,times=always", "fault:call=HasPrivilegeOnEntities,fault=NoPermission,times=always",
		},
		"in errors of hosts": {
			"nfc902:how=foreign,times=always", "status:code=404,plane=nfc,times=always", "status:code=500,plane=folder,times=always",
		},
		"when connections break": {"cut:at=1,times=always", "nfc902:how=busy,times=always"},
		"when hosts lie":         {"nfc902:how=wrong-thumbprint,times=always", "fault:call=QueryChangedDiskAreas,fault=FileFault,times=always"},
		"when a host echoes":     {"nfc902:how=echo,times=always", "manifest:late=30s,times=always"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := lab(t, func(c *vspheretest.Config) {
				c.VMs[0].Name, c.VMs[0].Folder, c.VMs[0].Annotation = "guest-of-erika", "mustermann-folder", "call erika"
				c.VMs[0].NICs = []vspheretest.NIC{{MAC: "00:50:56:01:02:03", Network: "lan of erika"}}
				c.VMs[0].PoweredOn = strings.Contains(name, "calls")
				c.NamedURLs = true
				c.Username, c.Password = "erika@corp.example", "s3cr3t-w0rd"
				c.Faults = faults
			})
			c := dial(t, srv)
			hide := secrets(t, srv, c)
			o := quick(t)
			o.VM, o.Snapshot = "guest-of-erika", true
			r, err := probe.Run(t.Context(), c, o)
			if err != nil {
				t.Fatal(err)
			}
			out := encoded(t, r) + text(t, r)
			for _, s := range hide {
				for _, form := range []string{s, url.PathEscape(s), url.QueryEscape(s)} {
					if strings.Contains(strings.ToLower(out), strings.ToLower(form)) {
						t.Errorf("the report has %q in it:\n%s", form, out)
					}
				}
			}
			if found := identifying.FindString(out); found != "" {
				t.Errorf("the report has %q in it:\n%s", found, out)
			}
		})
	}
}

// stops are the places at which a probe can be interrupted: its steps, and the calls of
// the API and requests of data that it makes.
type stops struct {
	mu    sync.Mutex
	seen  []string
	at    string // where to stop; "" nowhere
	count int    // how often at comes before that
	stop  context.CancelFunc
}

func (s *stops) pass(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, what)
	if what == s.at {
		if s.count--; s.count == 0 {
			s.stop()
		}
	}
}

// watched runs a probe of a VM that runs, with a snapshot, or of one that does not, and
// stops it at a place.
func watched(t *testing.T, on bool, at string, count int) (r findings.Report, seen []string, err error) {
	t.Helper()
	srv := lab(t, func(c *vspheretest.Config) { c.VMs[0].PoweredOn = on })
	client := dial(t, srv)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := &stops{at: at, count: count, stop: cancel}
	for _, method := range []string{
		"CurrentTime", "CreateContainerView", "RetrievePropertiesEx", "HasPrivilegeOnEntities", "CreateSnapshot_Task", "RemoveSnapshot_Task",
		"QueryChangedDiskAreas", "NfcGetVmFiles", "ExportVm", "ExportSnapshot", "HttpNfcLeaseSetManifestChecksumType", "HttpNfcLeaseGetManifest",
		"HttpNfcLeaseProgress", "HttpNfcLeaseAbort",
	} {
		srv.OnCall(method, func() { s.pass(method) })
	}
	srv.OnRequest(func(r vspheretest.Request) {
		if r.Plane != vspheretest.Control {
			s.pass("data by " + string(r.Plane))
		}
	})
	o := quick(t)
	o.VM, o.Snapshot, o.Step = "guest1", true, func(name string) { s.pass("step " + name) }
	r, err = probe.Run(ctx, client, o)
	clean(t, srv)
	s.mu.Lock()
	defer s.mu.Unlock()
	return r, s.seen, err
}

func TestWhateverInterruptsAProbeNothingIsLeft(t *testing.T) {
	t.Parallel()
	covered := map[string]bool{}
	for _, on := range []bool{true, false} {
		_, places, err := watched(t, on, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		counts := map[string]int{}
		for _, place := range places {
			counts[place]++
		}
		for place, n := range counts {
			if covered[place] {
				continue // by the VM that runs
			}
			covered[place] = true
			count := (n + 1) / 2 // in the midst
			t.Run(fmt.Sprintf("running %v, %s, time %d", on, place, count), func(t *testing.T) {
				t.Parallel()
				r, _, err := watched(t, on, place, count)
				if place == "RemoveSnapshot_Task" || place == "HttpNfcLeaseAbort" && err == nil {
					return // nothing was to come any more
				}
				if !errors.Is(err, context.Canceled) || r.Complete {
					t.Errorf("error %v, complete %v", err, r.Complete)
				}
				if r.Advice != nil || slices.ContainsFunc(r.Rates, func(x findings.Rate) bool { return x.Served == 0 }) {
					t.Errorf("half a look gives advice %+v, and rates %+v", r.Advice, r.Rates)
				}
				if errors.Is(err, probe.ErrLeft) {
					t.Errorf("it says that something is left: %v", err)
				}
				if got := text(t, r); !strings.Contains(got, "interrupted") {
					t.Errorf("the text does not say that it was interrupted:\n%s", got)
				}
			})
		}
	}
}

func TestWhatIsLeftBecauseVCenterIsAwayIsToldOf(t *testing.T) {
	t.Parallel()
	srv := lab(t, func(c *vspheretest.Config) {
		c.Faults = []string{"fault:call=HttpNfcLeaseAbort,fault=SystemError,times=1"}
	})
	_, err := probe.Run(t.Context(), dial(t, srv), quick(t))
	if !errors.Is(err, probe.ErrLeft) {
		t.Errorf("error %v", err)
	}
}

func TestATextHasAtMost80Columns(t *testing.T) {
	t.Parallel()
	for _, r := range []findings.Report{
		probed(t, lab(t, nil), nil),
		probed(t, lab(t, func(c *vspheretest.Config) {
			c.DeniedPrivileges = []string{"VirtualMachine.Interact.DeviceConnection", "VApp.Export"}
			c.NFC902 = false
		}), nil),
		{},
	} {
		for line := range strings.Lines(text(t, r)) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > findings.Width {
				t.Errorf("%d columns: %s", n, line)
			}
		}
	}
}
