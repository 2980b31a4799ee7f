package vsphere

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// defaultLeaseTimeout is used where the lease does not tell (F-NFC-4).
const defaultLeaseTimeout = 300 * time.Second

const opOpenLease = "open the export lease"

// over are the faults that tell of a lease that has ended.
var over = []string{"ManagedObjectNotFound", "InvalidState", "Timedout"}

// Lease is the right to read a VM's files for as long as it is kept (F-NFC-1).
// Start [Lease.Keep] beside the download, and end with [Lease.Complete] or
// [Lease.Abort]: until then the VM cannot be powered on, moved or deleted.
// Every method may be called from any goroutine.
type Lease struct {
	client  *Client
	ref     types.ManagedObjectReference
	on      string // the VM's path, for errors
	timeout time.Duration
	items   []Item
	files   map[string]file // by Item.Key

	mu      sync.Mutex
	hosts   map[string]*http.Transport // by host:port
	over    bool                       // completed or aborted
	renewed time.Time                  // by Keep
}

// file is how an item is fetched.
type file struct {
	url    *url.URL
	any    bool // the lease's URL has * in place of a host
	expect expected
}

// OpenLease asks for an export lease of a powered-off VM (ExportVm, F-NFC-2) or
// of a snapshot (ExportSnapshot, F-NFC-3), and waits until it is ready. When
// ctx ends before that, the lease is aborted (F-NFC-17); a [LeftLeaseError] says
// that this has failed.
//
// Other errors, all of type [*Error]: [ErrPoweredOn], [ErrBusy], [ErrNotExportable],
// [ErrNoPermission], [ErrNotFound]; [ErrLeaseLost] when it ends before it is
// ready; [ErrUncertain] when vSphere may have opened one without our knowing.
func (c *Client) OpenLease(ctx context.Context, t Target) (*Lease, error) {
	const op = opOpenLease
	if err := ctx.Err(); err != nil {
		return nil, translate(op, t.VM.Path, err)
	}
	l := &Lease{client: c, on: t.VM.Path, hosts: map[string]*http.Transport{}}
	// An answer that comes late is waited for: the lease that it names must be
	// aborted.
	call, cancel := bounded(ctx, cleanup)
	defer cancel()
	over := c.waiting(Wait{Task: Task{What: op, On: l.on}, Since: time.Now()})
	var err error
	l.ref, err = c.export(call, t)
	over()
	if err != nil {
		return nil, exportError(op, l.on, err)
	}
	info, err := l.wait(ctx)
	if err == nil {
		err = l.take(ctx, t, info)
	}
	if err != nil {
		err = exportError(op, l.on, err)
		if why := l.Abort(ctx, "the lease did not become usable"); why != nil {
			err = &LeftLeaseError{l.Ref(), err, why}
		}
		return nil, err
	}
	return l, nil
}

func (c *Client) export(ctx context.Context, t Target) (types.ManagedObjectReference, error) {
	if t.Snapshot.Ref == "" {
		res, err := methods.ExportVm(ctx, c.vim(), &types.ExportVm{This: vmRef(t.VM.Ref)})
		if err != nil {
			return types.ManagedObjectReference{}, err
		}
		return res.Returnval, nil
	}
	res, err := methods.ExportSnapshot(ctx, c.vim(), &types.ExportSnapshot{This: snapshotRef(t.Snapshot)})
	if err != nil {
		return types.ManagedObjectReference{}, err
	}
	return res.Returnval, nil
}

// wait polls the lease until it is ready.
func (l *Lease) wait(ctx context.Context) (*types.HttpNfcLeaseInfo, error) {
	var info *types.HttpNfcLeaseInfo
	err := poll(ctx, func() (bool, error) {
		var m mo.HttpNfcLease
		if err := l.client.properties(ctx, l.ref, []string{"state", "error", "info"}, &m); err != nil {
			return false, l.failed(opOpenLease, err)
		}
		switch m.State {
		case types.HttpNfcLeaseStateReady:
			info = m.Info
			return info != nil, nil // info may follow a moment later
		case types.HttpNfcLeaseStateError:
			return false, l.failed(opOpenLease, &taskError{m.Error})
		case types.HttpNfcLeaseStateDone:
			return false, &Error{Op: opOpenLease, On: l.on, Kind: ErrLeaseLost, Err: errors.New("it was ended by somebody else")}
		}
		return false, nil
	})
	return info, err
}

// take reads what the lease offers.
func (l *Lease) take(ctx context.Context, t Target, info *types.HttpNfcLeaseInfo) error {
	l.timeout = time.Duration(info.LeaseTimeout) * time.Second
	if l.timeout <= 0 {
		l.timeout = defaultLeaseTimeout
	}
	disks, err := l.disks(ctx, t)
	if err != nil {
		return err
	}
	if l.items, l.files, err = readItems(info.DeviceUrl, disks, l.client.cfg.URL); err != nil {
		return err
	}
	var hosts []string
	for _, f := range l.files {
		hosts = append(hosts, f.url.Hostname())
	}
	return l.client.checkHosts(ctx, t.VM, hosts...)
}

// disks are the target's virtual disks: the VM's, or those the snapshot holds.
func (l *Lease) disks(ctx context.Context, t Target) ([]Disk, error) {
	if t.Snapshot.Ref == "" {
		if len(t.VM.Disks) > 0 {
			return t.VM.Disks, nil
		}
		var m mo.VirtualMachine
		if err := l.client.properties(ctx, vmRef(t.VM.Ref), []string{"config.hardware"}, &m); err != nil || m.Config == nil {
			return nil, err
		}
		return disksOf(m.Config.Hardware.Device), nil
	}
	var m mo.VirtualMachineSnapshot
	if err := l.client.properties(ctx, snapshotRef(t.Snapshot), []string{"config"}, &m); err != nil {
		return nil, err
	}
	// Independent disks are no part of a snapshot (F-INV-3).
	return slices.DeleteFunc(disksOf(m.Config.Hardware.Device), func(d Disk) bool { return d.Independent() }), nil
}

// exportError is translate with the meaning that faults have here.
func exportError(op, on string, err error) error {
	err = translate(op, on, err)
	var e *Error
	if !errors.As(err, &e) || e.Kind != nil && !errors.Is(e.Kind, ErrUnsupported) {
		return err
	}
	if f := faultOf(err); f != nil {
		e.Kind = ErrNotExportable
		e.Hint = "run the preflight check for the reason (vTPM, encryption, raw device mapping, fault tolerance)"
		if faultName(err) == "FileFault" || faultName(err) == "CannotAccessFile" {
			e.Hint = "one of the VM's files cannot be read: check the datastore"
		}
	}
	return err
}

// failed is translate for calls on the lease: one that tells that the lease has
// ended, or the session that it belonged to, is an [ErrLeaseLost].
func (l *Lease) failed(op string, err error) error {
	err = translate(op, l.on, err)
	var e *Error
	if errors.As(err, &e) && (isFault(err, over...) || isFault(err, "NotAuthenticated")) {
		e.Kind, e.Hint = ErrLeaseLost, "the export has to go on under a new lease"
	}
	return err
}

// Items lists what the lease offers, in its order: disks, and what else it has
// (nvram, images of CD drives: F-NFC-14).
func (l *Lease) Items() []Item { return slices.Clone(l.items) }

// Disk returns the item that holds the disk with that device key.
// [ErrNotExportable] when the lease offers none, or does not tell which it is.
func (l *Lease) Disk(d Disk) (Item, error) {
	var keys []string
	for _, item := range l.items {
		switch {
		case item.Disk && item.DiskKey == d.Key:
			return item, nil
		case item.Disk && item.DiskKey == 0:
			keys = append(keys, item.Key)
		}
	}
	e := &Error{Op: "find " + d.Label + " in the export lease", On: l.on, Kind: ErrNotExportable, Err: errors.New("the lease offers no stream for it")}
	if len(keys) > 0 {
		e.Err = fmt.Errorf("the keys %s name no place on a controller, and two disks could be taken for each other", strings.Join(keys, ", "))
		e.Hint = "read the disks from the datastore (transport datastore), or export with the disks on separate VMs or of different sizes"
	}
	return Item{}, e
}

// Timeout is how long the lease lives without being renewed.
func (l *Lease) Timeout() time.Duration { return l.timeout }

// Complete ends the lease after a successful download and closes its
// connections. The VM is free afterwards. [ErrLeaseLost] when it had ended
// before.
func (l *Lease) Complete(ctx context.Context) error {
	if !l.end() {
		return nil
	}
	call, cancel := bounded(ctx, grace)
	defer cancel()
	_, err := methods.HttpNfcLeaseComplete(call, l.client.vim(), &types.HttpNfcLeaseComplete{This: l.ref})
	if isFault(err, over...) && errors.As(err, new(*repeated)) {
		return nil // by the attempt whose answer was lost
	}
	if err != nil {
		l.mu.Lock()
		l.over = false // so that Abort still tries
		l.mu.Unlock()
	}
	return l.failed("complete the export lease", err)
}

// Abort gives the lease up, so that the VM is free again (F-NFC-17). It works
// with a ctx that has ended, takes bounded time, and does nothing after
// Complete or another Abort. reason is for vSphere's log.
func (l *Lease) Abort(ctx context.Context, reason string) error {
	if !l.end() {
		return nil
	}
	err := l.client.abortLease(context.WithoutCancel(ctx), l.ref, &types.LocalizedMethodFault{
		Fault:            &types.SystemError{Reason: reason},
		LocalizedMessage: reason,
	})
	return translate("abort the export lease", l.on, err)
}

// end says whether this is the first end, and closes the connections.
func (l *Lease) end() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return false
	}
	l.over = true
	for _, t := range l.hosts {
		t.CloseIdleConnections()
	}
	return true
}

// Source gives access to an item's bytes. The session's cookie goes with every
// request, as it is at that moment (F-NFC-7); the host's certificate must be
// the one that the lease names, where it names one (F-NFC-6).
//
// An item that is not of this lease gives a Source whose calls fail.
func (l *Lease) Source(item Item) transfer.Source {
	f, ok := l.files[item.Key]
	if !ok {
		return noSource{fmt.Errorf("the lease of %s offers no item %q", l.on, item.Key)}
	}
	return l.client.source(f.url, l.transport(f))
}

// Naming is how a lease names the host of an item (F-NFC-5, F-NFC-6).
type Naming struct {
	Any         bool // by *: the host is the one connected to
	ByAddress   bool // by an IP address, otherwise by a name
	Thumbprint  bool // the lease tells the certificate's thumbprint
	Certificate bool // and the certificate itself
}

// Naming tells how the lease names the host of an item; the zero value for one that
// is not of this lease.
func (l *Lease) Naming(item Item) Naming {
	f, ok := l.files[item.Key]
	if !ok {
		return Naming{}
	}
	_, err := netip.ParseAddr(strings.Trim(f.url.Hostname(), "[]"))
	return Naming{Any: f.any, ByAddress: err == nil, Thumbprint: len(f.expect.pins) > 0, Certificate: len(f.expect.pem) > 0}
}

// transport returns the connections to an item's host. Each host has its own,
// so that one that is slow or full does not hold up the others.
func (l *Lease) transport(f file) *http.Transport {
	l.mu.Lock()
	defer l.mu.Unlock()
	addr := hostPort(f.url)
	t := l.hosts[addr]
	if t == nil {
		t = l.client.dataTransport(addr, f.expect)
		l.hosts[addr] = t
	}
	return t
}

// SetSHA256 asks for SHA-256 sums in the manifest, in place of SHA-1; call it
// before the first byte is fetched (F-NFC-12). [ErrUnsupported] before 6.7;
// [ErrLeaseLost].
func (l *Lease) SetSHA256(ctx context.Context) error {
	req := types.HttpNfcLeaseSetManifestChecksumType{This: l.ref}
	for _, item := range l.items {
		req.DeviceUrlsToChecksumTypes = append(req.DeviceUrlsToChecksumTypes, types.KeyValue{Key: item.Key, Value: "sha256"})
	}
	_, err := methods.HttpNfcLeaseSetManifestChecksumType(ctx, l.client.vim(), &req)
	return optional(l.failed("ask for SHA-256 in the manifest", err))
}

// Manifest returns what the host says it has sent, per item that was fetched
// to its end (F-NFC-12). An item may be listed a while after its last byte has
// been sent, so that a list without it, or an empty one, is a matter of waiting.
// [ErrUnsupported] when the host has no such call; [ErrLeaseLost]. Any other
// fault, such as SystemError, says nothing about the next time.
func (l *Lease) Manifest(ctx context.Context) ([]ManifestEntry, error) {
	res, err := methods.HttpNfcLeaseGetManifest(ctx, l.client.vim(), &types.HttpNfcLeaseGetManifest{This: l.ref})
	if err != nil {
		err = l.failed("read the manifest", err)
		if isFault(err, "InvalidRequest", "InvalidType", "InvalidArgument") { // how a service names a method that it does not know
			err = optional(err)
		}
		return nil, err
	}
	out := make([]ManifestEntry, 0, len(res.Returnval))
	for _, e := range res.Returnval {
		out = append(out, manifestEntry(e))
	}
	return out, nil
}

func manifestEntry(e types.HttpNfcLeaseManifestEntry) ManifestEntry {
	out := ManifestEntry{Key: e.Key, Disk: e.Disk, Size: e.Size, Capacity: e.Capacity, Populated: e.PopulatedSize}
	switch algorithm := strings.ToLower(strings.ReplaceAll(e.ChecksumType, "-", "")); {
	case e.Checksum != "" && (algorithm == "sha256" || algorithm == "sha1"):
		out.Algorithm, out.Sum = algorithm, e.Checksum
	case e.Sha1 != "":
		out.Algorithm, out.Sum = "sha1", e.Sha1
	}
	out.Sum = strings.ToLower(strings.TrimSpace(out.Sum))
	return out
}

// optional is for the error, which was translated, of a call that older hosts
// lack: any fault but those of session and lease is an [ErrUnsupported].
func optional(err error) error {
	var e *Error
	if errors.As(err, &e) && e.Kind == nil && faultOf(err) != nil {
		e.Kind = ErrUnsupported
	}
	return err
}
