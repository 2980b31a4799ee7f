package vspheretest

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/probe/findings"
)

// Server is a running lab: a vCenter and its ESXi hosts. Its methods may be
// called at any time from any goroutine. Servers in one process do not share
// anything that can be seen from outside.
type Server struct {
	cfg      Config
	like     *findings.Report // how it behaves
	model    *simulator.Model
	svc      *simulator.Service
	vcenter  *endpoint
	hosts    []*host
	dir      string // prepared streams
	guests   []*guest
	byRef    map[types.ManagedObjectReference]*guest
	leases   leaseTable
	sessions sessionTable
	tasks    taskTable
	timers   timerTable
	released latch
	views    viewTable
	bulk     bulkDevices
	faults   faultSet
	log      requestLog
	hooks    hooks

	nfcTickets nfcTickets
	nfcHarm    nfcHarm

	closed chan struct{}
}

// Start runs a lab for a test and closes it when the test ends.
func Start(tb testing.TB, cfg Config) *Server {
	tb.Helper()
	if cfg.TempDir == "" {
		cfg.TempDir = tb.TempDir()
	}
	srv, err := New(cfg)
	if err != nil {
		tb.Fatalf("start the lab vCenter: %v", err)
	}
	tb.Cleanup(func() {
		srv.Close()
		for _, what := range srv.Violations() {
			tb.Errorf("a client that reads has tried %s", what)
		}
	})
	return srv
}

// New prepares the disks' streams, builds the inventory and starts to listen.
// Preparing takes about a second per 200 MB of data and CPU. The caller closes
// the server.
func New(cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	like, err := cfg.behaviour()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, like: like, byRef: make(map[types.ManagedObjectReference]*guest), closed: make(chan struct{})}
	s.leases.open = make(map[string]*lease)
	s.sessions.active = make(map[string]time.Time)
	var rules []*fault
	for _, spec := range cfg.Faults {
		f, err := parseFault(spec)
		if err != nil {
			return nil, err
		}
		rules = append(rules, f)
	}
	if s.dir, err = os.MkdirTemp(cfg.TempDir, "lab-vcenter-"); err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		s.Close()
		return nil, err
	}
	for _, f := range rules {
		s.addFault(f)
	}
	return s, nil
}

func (s *Server) start() error {
	if err := s.listen(); err != nil {
		return err
	}
	if err := s.createModel(); err != nil {
		return err
	}
	in, err := newInventory(s)
	if err != nil {
		return err
	}
	for i := range s.cfg.VMs {
		g, err := s.prepare(s.cfg.VMs[i])
		if err != nil {
			return fmt.Errorf("VM %q: %w", s.cfg.VMs[i].Name, err)
		}
		if err := in.add(g); err != nil {
			return fmt.Errorf("VM %q: %w", g.vm.Name, err)
		}
		s.guests = append(s.guests, g)
		s.byRef[g.ref] = g
	}
	if err := in.addBulk(s.cfg.BulkVMs); err != nil {
		return err
	}
	in.finish()
	if s.like.Service.Kind == findings.Host { // only now: a simulator that is one from the start is another
		about := &s.svc.Context.Map.Get(types.ManagedObjectReference{Type: "ServiceInstance", Value: "ServiceInstance"}).(*simulator.ServiceInstance).Content.About
		about.Name, about.ApiType = "VMware ESXi", "HostAgent"
	}
	s.serve()
	return nil
}

// listen opens the sockets of both planes, so that their addresses are known.
func (s *Server) listen() error {
	var err error
	if s.vcenter, err = newEndpoint("vcenter.lab", s.cfg.Addr, s.cfg.Rate); err != nil {
		return err
	}
	addr := s.cfg.HostAddr
	for i := range s.cfg.Hosts {
		if addr == "" {
			addr = net.JoinHostPort(s.vcenter.ip.String(), "0")
		}
		e, err := newEndpoint(fmt.Sprintf("esxi%d.lab", i), addr, s.cfg.Rate)
		if err != nil {
			return err
		}
		h := &host{endpoint: e, srv: s, index: i}
		s.hosts = append(s.hosts, h)
		if s.cfg.NFC902 {
			if err := h.listenNFC(); err != nil {
				return err
			}
		}
		addr = ""
	}
	return nil
}

// introduce lets the service claim to be what it is like.
func (s *Server) introduce(about *types.AboutInfo) {
	about.Version = cmp.Or(s.like.Service.Version, about.Version)
	about.Build = cmp.Or(s.like.Service.Build, about.Build)
}

// building is held while a model is created: the simulator then changes a
// variable of its package (EvalLicense), which all models in a process share.
var building sync.Mutex

// createModel makes the simulator's datacenter, cluster, hosts and datastores.
func (s *Server) createModel() error {
	m := simulator.VPX()
	m.Host, m.Machine, m.Autostart = 0, 0, false
	m.ClusterHost, m.Datastore = s.cfg.Hosts, datastores
	about := &m.ServiceContent.About
	about.ApiVersion = s.cfg.APIVersion
	about.Version = strings.TrimSuffix(s.cfg.APIVersion, ".0")
	s.introduce(about)
	about.FullName = "VMware vCenter Server " + about.Version + " (lab)"
	s.model = m
	building.Lock()
	err := m.Create()
	building.Unlock()
	if err != nil {
		return fmt.Errorf("create the simulator's model: %w", err)
	}
	s.svc = m.Service
	return nil
}

// simContext returns a new context for the simulator. Each holds locks of its
// own, so one must not be shared between goroutines.
func (s *Server) simContext() *simulator.Context {
	ctx := *s.svc.Context
	ctx.Context = context.Background()
	return &ctx
}

func (s *Server) guest(ref types.ManagedObjectReference) *guest { return s.byRef[ref] }

// Close ends all leases, cuts what is being sent, stops the server and removes
// its files. It returns when no goroutine of the server is left.
func (s *Server) Close() {
	select {
	case <-s.closed:
		return
	default:
		close(s.closed)
	}
	s.leases.close()
	for _, l := range s.leases.all("") {
		s.expireLease(l)
	}
	s.timers.close()
	if s.vcenter != nil {
		s.vcenter.close(s.sessions.cancelWaits)
	}
	for _, h := range s.hosts {
		if h.nfc != nil {
			h.nfc.close()
		}
		h.close(func() {})
	}
	s.tasks.wait.Wait()
	if s.svc != nil {
		s.model.Remove()
	}
	_ = os.RemoveAll(s.dir)
}

// URL returns the address of vCenter's API, with user and password.
func (s *Server) URL() *url.URL {
	return &url.URL{
		Scheme: "https", Host: s.vcenter.addr(), Path: "/sdk",
		User: url.UserPassword(s.cfg.Username, s.cfg.Password),
	}
}

// Env returns the variables that clients read, as NAME=value: GOVC_URL without
// user, GOVC_USERNAME, GOVC_PASSWORD, GOVC_INSECURE and GOVC_DATACENTER.
func (s *Server) Env() []string {
	u := s.URL()
	u.User = nil
	return []string{
		"GOVC_URL=" + u.String(),
		"GOVC_USERNAME=" + s.cfg.Username,
		"GOVC_PASSWORD=" + s.cfg.Password,
		"GOVC_INSECURE=1",
		"GOVC_DATACENTER=" + datacenter,
	}
}

// Thumbprint is vCenter's, in vSphere's form: SHA-1, upper case, colons.
func (s *Server) Thumbprint() string { return s.vcenter.id().thumbprint() }

// Certificate is vCenter's, self-signed, for clients that verify.
func (s *Server) Certificate() *x509.Certificate { return s.vcenter.id().leaf }

// HostThumbprint is that of the i-th ESXi host, which leases carry too.
func (s *Server) HostThumbprint(i int) string { return s.hosts[i].id().thumbprint() }

// HostAddr is the i-th ESXi host's host:port.
func (s *Server) HostAddr(i int) string { return s.hosts[i].addr() }

// InventoryPath returns the path of a VM as govc find prints it. vm is the VM's
// name, or its folder and name when several have that name; "" when there is none.
func (s *Server) InventoryPath(vm string) string {
	if g := s.find(vm); g != nil {
		return g.path
	}
	return ""
}

// VMRef returns a VM's managed object id, as vm-12; "" when there is none.
func (s *Server) VMRef(vm string) string {
	if g := s.find(vm); g != nil {
		return g.ref.Value
	}
	return ""
}

func (s *Server) find(vm string) *guest {
	i := slices.IndexFunc(s.guests, func(g *guest) bool { return g.called(vm) })
	if i < 0 {
		return nil
	}
	return s.guests[i]
}

// AddFault adds a rule, such as "cut:at=50MB,times=2,vm=guest1,disk=0". The
// package comment has the syntax. A rule on a VM that does not exist never strikes.
func (s *Server) AddFault(spec string) error {
	f, err := parseFault(spec)
	if err != nil {
		return err
	}
	s.addFault(f)
	return nil
}

func (s *Server) addFault(f *fault) {
	s.faults.add(f)
	switch {
	case f.at >= 0:
	case f.kind == faultSession && s.sessions.any():
		s.armSessionFault(f)
	case f.kind == faultDown:
		s.armOutage(f)
	}
}

// Struck is how often faults of each kind have struck so far.
func (s *Server) Struck() map[string]int { return s.faults.counts() }

// ClearFaults forgets every rule, so that what comes next goes well.
func (s *Server) ClearFaults() { s.faults.clear() }

// ExpireLeases lets every open lease time out now.
func (s *Server) ExpireLeases() {
	for _, l := range s.leases.all("") {
		s.expireLease(l)
	}
}

// atLeast compares a dotted version with major.minor.
func atLeast(version string, major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	have, _ := strconv.Atoi(parts[0])
	if have != major || len(parts) < 2 {
		return have > major
	}
	have, _ = strconv.Atoi(parts[1])
	return have >= minor
}
