package vspheretest

import (
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/vmware/govmomi/simulator"

	"github.com/hyper2kvm/hyper2kvm/probe/findings"
)

// host is an ESXi host's data plane.
type host struct {
	*endpoint
	srv     *Server
	streams atomic.Int64 // being sent
	nfc     *nfcPort     // nil without port 902
	index   int          // among the lab's
}

// known is what vSphere knows the host by.
func (h *host) known() string {
	if h.srv.like.Hosts.Known == findings.ByName {
		return "localhost"
	}
	return h.ip.String()
}

// introduce gives the simulator's host the address of its data plane, so that a
// client can find out whether it reaches it.
func (h *host) introduce(sim *simulator.HostSystem) {
	name, port := h.known(), int32(h.gate.address.Port)
	sim.Name, sim.Summary.Config.Name, sim.Summary.Config.Port = name, name, port
	if versions := h.srv.like.Hosts.Versions; len(versions) > 0 && sim.Summary.Config.Product != nil {
		product := *sim.Summary.Config.Product // all hosts of the simulator share one
		product.Version = versions[h.index%len(versions)]
		sim.Summary.Config.Product = &product
	}
}

// serveNFC answers /nfc/TICKET/FILE and /ha-nfc/TICKET/FILE. The ticket is all
// the authorization there is, and ends with the lease.
func (h *host) serveNFC(w http.ResponseWriter, r *http.Request) {
	_, rest, _ := strings.Cut(r.URL.Path, "nfc/")
	ticket, file, _ := strings.Cut(rest, "/")
	l := h.srv.leases.byTicket(ticket)
	if l == nil || !l.ready() {
		http.Error(w, "no such lease, or it is not ready", http.StatusNotFound)
		return
	}
	it := l.itemFor(file)
	if it == nil {
		http.Error(w, "the lease has no such file", http.StatusNotFound)
		return
	}
	d := &delivery{
		srv: h.srv, w: w, r: r, plane: NFC, object: it.object, guest: l.guest, disk: -1,
		how: h.srv.like.Lease.HTTP, over: l.over, lease: l,
		sent: func(from, to int64) func() { return l.markSent(h.srv, it, from, to) },
	}
	if it.disk != nil {
		d.disk = it.disk.index
	}
	if h.streams.Add(1) > int64(h.srv.cfg.StreamsPerHost) && h.srv.cfg.StreamsPerHost > 0 {
		h.streams.Add(-1)
		d.fail(http.StatusServiceUnavailable, "NFC error 5: Failed to allocate memory") // F-NFC-19
		return
	}
	defer h.streams.Add(-1)
	refused := d.how.Range == findings.Refused && r.Header.Get("Range") != ""
	if r.Method == http.MethodGet && !refused {
		switch l.begin(it, &h.srv.like.Lease) {
		case findings.Empty:
			d.empty() // F-NFC-13
			return
		case findings.Refused:
			d.fail(http.StatusNotFound, "the file has been served already")
			return
		}
	}
	d.run()
}

// itemFor finds an item by the end of its URL: a VM's name may stand before it,
// and may have slashes in it.
func (l *lease) itemFor(file string) *item {
	for _, it := range l.items {
		if file == it.file || strings.HasSuffix(file, "-"+it.file) {
			return it
		}
	}
	return nil
}
