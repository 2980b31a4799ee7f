package vspheretest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/probe/findings"
)

// lease is one export of a guest. Its state follows F-NFC-1: initializing,
// ready, then done or error. It is open in the first two.
type lease struct {
	ticket  string // names it in device URLs
	guest   *guest
	source  types.ManagedObjectReference // the VM, or the snapshot
	session string                       // that made it
	items   []*item
	object  *HttpNfcLease
	over    chan struct{} // closed when the lease is no longer open

	mu       sync.Mutex
	state    types.HttpNfcLeaseState
	ending   bool // somebody is ending it
	timedOut bool
	timer    *time.Timer   // runs out without Progress; before, lets the lease become ready
	expiries []*time.Timer // expire faults that count time
	percent  int32
	served   *item // first disk asked for, which is the only one on vSAN
}

// item is one device URL of a lease.
type item struct {
	key      string
	file     string // last element of the URL
	disk     *disk  // nil for nvram and images
	object   *payload
	checksum string // algorithm asked for before the transfer began
	started  bool
	sent     []span
	listed   time.Time // from when on the manifest has it, once it was sent in full

	populated int64 // bytes in grains that hold data
}

// span is bytes [from, to) of an object that were sent on a lease.
type span struct{ from, to int64 }

// complete tells whether the spans cover size bytes.
func complete(spans []span, size int64) bool {
	s := slices.Clone(spans)
	slices.SortFunc(s, func(a, b span) int { return int(min(max(a.from-b.from, -1), 1)) })
	var end int64
	for _, x := range s {
		if x.from > end {
			return false
		}
		end = max(end, x.to)
	}
	return end >= size
}

// HttpNfcLease is the managed object that clients see. Its name is its type on
// the wire.
type HttpNfcLease struct {
	mo.HttpNfcLease

	srv   *Server
	lease *lease
}

// openLease makes a lease on g's disks and lets it become ready. The caller has
// checked that g may be exported; openLease checks that no other lease is open.
func (s *Server) openLease(ctx *simulator.Context, g *guest, source types.ManagedObjectReference) (types.ManagedObjectReference, types.BaseMethodFault) {
	l := &lease{
		ticket: uuid.NewString(), guest: g, source: source, session: ctx.Session.Key,
		over: make(chan struct{}), state: types.HttpNfcLeaseStateInitializing,
	}
	l.items = s.leaseItems(g, source.Type == "VirtualMachineSnapshot")
	obj := &HttpNfcLease{srv: s, lease: l}
	obj.Self = types.ManagedObjectReference{
		Type: "HttpNfcLease", Value: fmt.Sprintf("session[%s]%s", l.session, l.ticket),
	}
	obj.State = l.state
	obj.Mode = string(types.HttpNfcLeaseModePushOrGet)
	obj.Capabilities = types.HttpNfcLeaseCapabilities{PullModeSupported: true, CorsSupported: true}
	l.object = obj

	if other := s.leases.add(l, s.like.Lease.SecondLease == findings.Granted); other != nil {
		return types.ManagedObjectReference{}, &types.TaskInProgress{Task: taskOf(other)}
	}
	ctx.Map.Put(obj)
	s.hooks.lease(LeaseEvent{LeaseOpened, g.path, l.ticket, 0, l.session})
	s.touchAt(g, true)
	if s.cfg.LeaseDelay > 0 {
		l.mu.Lock()
		l.timer = time.AfterFunc(s.cfg.LeaseDelay, func() { s.readyLease(s.simContext(), l) })
		l.mu.Unlock()
	} else {
		s.readyLease(ctx, l)
	}
	return obj.Self, nil
}

// taskOf is the task that an export shows up as.
func taskOf(l *lease) types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "Task", Value: "task-export-" + l.ticket[:8]}
}

// leaseItems lists what a lease on g offers: CD image, disks, nvram, numbered
// in this order as disk-0, disk-1, … whatever they are.
func (s *Server) leaseItems(g *guest, snapshot bool) []*item {
	var items []*item
	add := func(it *item, ext string) {
		it.file = fmt.Sprintf("disk-%d.%s", len(items), ext)
		it.key = fmt.Sprintf("/%s/%s", g.ref.Value, it.key)
		items = append(items, it)
	}
	if g.iso != nil {
		add(&item{key: "VirtualIDEController1:0", object: g.iso}, "iso")
	}
	for _, d := range g.exportable(snapshot) {
		data := d.now()
		add(&item{key: fmt.Sprintf("%s%d:%d", d.controller, d.bus, d.unit), disk: d, object: data.stream, populated: data.populated}, "vmdk")
	}
	if g.nvram != nil {
		add(&item{key: "nvram", object: g.nvram}, "nvram")
	}
	return items
}

// readyLease publishes the device URLs and starts the clock.
func (s *Server) readyLease(ctx *simulator.Context, l *lease) {
	l.mu.Lock()
	if l.state != types.HttpNfcLeaseStateInitializing {
		l.mu.Unlock()
		return
	}
	l.state = types.HttpNfcLeaseStateReady
	l.timer = time.AfterFunc(s.cfg.LeaseTimeout, func() { s.expireLease(l) })
	l.mu.Unlock()

	info := &types.HttpNfcLeaseInfo{
		Lease: l.object.Self, Entity: l.guest.ref, DeviceUrl: s.deviceURLs(l),
		LeaseTimeout: int32(max(1, s.cfg.LeaseTimeout/time.Second)),
	}
	for _, it := range l.items {
		if it.disk != nil {
			info.TotalDiskCapacityInKB += it.disk.capacity / 1024
		}
	}
	l.object.update(ctx,
		types.PropertyChange{Name: "initializeProgress", Val: int32(100)},
		types.PropertyChange{Name: "info", Val: info},
		types.PropertyChange{Name: "state", Val: types.HttpNfcLeaseStateReady},
	)
	s.hooks.lease(LeaseEvent{LeaseReady, l.guest.path, l.ticket, 0, l.session})
	s.armExpiry(l)
}

// armExpiry lets the expire faults that count time run against l.
func (s *Server) armExpiry(l *lease) {
	rules := s.faults.find(func(f *fault) bool {
		return f.kind == faultExpire && f.at < 0 && f.matches(l.guest, f.disk)
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.openLocked() {
		return
	}
	for _, f := range rules {
		l.expiries = append(l.expiries, time.AfterFunc(f.after, func() {
			if s.faults.take(f) {
				s.expireLease(l)
			}
		}))
	}
}

// deviceURLs lists a lease's items as clients see them (F-NFC-5, 6, 11, 14).
func (s *Server) deviceURLs(l *lease) []types.HttpNfcLeaseDeviceUrl {
	h := l.guest.host
	base, id := fmt.Sprintf("https://%s/nfc/%s/", h.addr(), l.ticket), h.id()
	switch s.like.Lease.URLs {
	case findings.Wildcard:
		base, id = fmt.Sprintf("https://*/ha-nfc/%s/", l.ticket), s.vcenter.id()
	case findings.ByName:
		base = fmt.Sprintf("https://localhost:%d/nfc/%s/", h.gate.address.Port, l.ticket)
	}
	if s.cfg.NamedURLs {
		base += l.guest.escaped + "-"
	}
	var urls []types.HttpNfcLeaseDeviceUrl
	for _, it := range l.items {
		u := types.HttpNfcLeaseDeviceUrl{
			Key: it.key, ImportKey: "/" + l.guest.escaped + it.key[len(l.guest.ref.Value)+1:],
			Url: base + it.file, Disk: types.NewBool(it.disk != nil),
		}
		if it.disk != nil {
			u.TargetId = it.file
		} else {
			u.FileSize = it.object.size
		}
		if p := s.like.Lease.Pinned; p == findings.Thumbprint || p == findings.Both {
			u.SslThumbprint = id.thumbprint()
		}
		if p := s.like.Lease.Pinned; p == findings.Certificate || p == findings.Both {
			u.SslCertificate = string(id.pem())
		}
		urls = append(urls, u)
	}
	return urls
}

// update changes properties under the simulator's lock, so that property
// collectors see them.
func (o *HttpNfcLease) update(ctx *simulator.Context, changes ...types.PropertyChange) {
	ctx.WithLock(o, func() { ctx.Update(o, changes) })
}

// endLease closes an open lease, cuts its transfers and frees the VM. It
// returns false when the lease was closed before.
func (s *Server) endLease(ctx *simulator.Context, l *lease, how LeaseEventKind) bool {
	l.mu.Lock()
	if !l.openLocked() || l.ending {
		l.mu.Unlock()
		return false
	}
	l.ending = true
	l.mu.Unlock()
	s.touchAt(l.guest, false) // before anybody can see the end: who reads the VM then reads it changed

	l.mu.Lock()
	changes := []types.PropertyChange{{Name: "state", Val: types.HttpNfcLeaseStateDone}}
	l.state = types.HttpNfcLeaseStateDone
	if how != LeaseCompleted && how != LeaseAborted {
		l.state, l.timedOut = types.HttpNfcLeaseStateError, how == LeaseExpired
		changes = []types.PropertyChange{
			{Name: "error", Val: &types.LocalizedMethodFault{
				Fault: &types.Timedout{}, LocalizedMessage: "The lease has timed out.",
			}},
			{Name: "state", Val: types.HttpNfcLeaseStateError},
		}
	}
	if l.timer != nil {
		l.timer.Stop()
	}
	for _, t := range l.expiries {
		t.Stop()
	}
	l.mu.Unlock()

	l.object.update(ctx, changes...)
	s.leases.remove(l)
	close(l.over) // only now: who sees a transfer cut sees the lease's state too
	s.hooks.lease(LeaseEvent{how, l.guest.path, l.ticket, l.progress(), l.session})
	return true
}

func (s *Server) expireLease(l *lease) { s.endLease(s.simContext(), l, LeaseExpired) }

func (l *lease) openLocked() bool {
	return l.state == types.HttpNfcLeaseStateInitializing || l.state == types.HttpNfcLeaseStateReady
}

func (l *lease) ready() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state == types.HttpNfcLeaseStateReady
}

func (l *lease) progress() int32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.percent
}

// closedFault is what calls on a lease that is not open get.
func (l *lease) closedFault() *soap.Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timedOut {
		return simulator.Fault("The lease has timed out.", &types.Timedout{})
	}
	if l.state == types.HttpNfcLeaseStateReady {
		return nil
	}
	return simulator.Fault("The operation is not allowed in the current state of the lease.", &types.InvalidState{})
}

// HttpNfcLeaseComplete ends a ready lease.
func (o *HttpNfcLease) HttpNfcLeaseComplete(ctx *simulator.Context, _ *types.HttpNfcLeaseComplete) soap.HasFault {
	body := new(methods.HttpNfcLeaseCompleteBody)
	if body.Fault_ = o.lease.closedFault(); body.Fault_ == nil {
		o.srv.endLease(ctx, o.lease, LeaseCompleted)
		body.Res = new(types.HttpNfcLeaseCompleteResponse)
	}
	return body
}

// HttpNfcLeaseAbort ends a lease that is initializing or ready.
func (o *HttpNfcLease) HttpNfcLeaseAbort(ctx *simulator.Context, _ *types.HttpNfcLeaseAbort) soap.HasFault {
	body := new(methods.HttpNfcLeaseAbortBody)
	if o.srv.endLease(ctx, o.lease, LeaseAborted) {
		body.Res = new(types.HttpNfcLeaseAbortResponse)
	} else {
		body.Fault_ = o.lease.closedFault()
	}
	return body
}

// HttpNfcLeaseProgress renews a ready lease, whatever the percentage (F-NFC-4).
func (o *HttpNfcLease) HttpNfcLeaseProgress(ctx *simulator.Context, req *types.HttpNfcLeaseProgress) soap.HasFault {
	body := new(methods.HttpNfcLeaseProgressBody)
	if body.Fault_ = o.lease.closedFault(); body.Fault_ != nil {
		return body
	}
	l := o.lease
	l.mu.Lock()
	l.percent = req.Percent
	if l.state == types.HttpNfcLeaseStateReady {
		l.timer.Reset(o.srv.cfg.LeaseTimeout)
	}
	l.mu.Unlock()
	o.update(ctx, types.PropertyChange{Name: "transferProgress", Val: req.Percent})
	o.srv.hooks.lease(LeaseEvent{LeaseRenewed, l.guest.path, l.ticket, req.Percent, l.session})
	body.Res = new(types.HttpNfcLeaseProgressResponse)
	return body
}
