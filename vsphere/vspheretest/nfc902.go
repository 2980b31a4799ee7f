package vspheretest

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/probe/findings"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest/authd"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest/streamvmdk"
)

var authdFaults = authd.Faults

// nfcPort is a host's port 902: another one here, which tickets name.
type nfcPort struct {
	gate   *gate
	server *authd.Server
	other  *identity // of nobody
	closed bool
	taking sync.WaitGroup
}

// listenNFC opens the port, so that its number is known.
func (h *host) listenNFC() error {
	g, err := newGate(net.JoinHostPort(h.ip.String(), "0"))
	if err != nil {
		return fmt.Errorf("listen for port 902 of %s: %w", h.name, err)
	}
	other, err := newIdentity("other.lab", h.ip)
	if err != nil {
		_ = g.Close()
		return err
	}
	s := h.srv
	port := s.like.Port902.Port
	h.nfc = &nfcPort{gate: g, other: other, closed: port == findings.Closed || port == findings.Silent, server: authd.New(authd.Config{
		Certificate: func() *tls.Certificate { return &h.id().tls },
		Other:       func() *tls.Certificate { return &other.tls },
		Redeem: func(ticket string) authd.Grant {
			if g := s.nfcTickets.redeem(ticket, h); g != nil {
				return g
			}
			return nil
		},
		Strike:    func(name string) bool { return s.strikeNFC(name, nil, -1) },
		Violation: s.violated,
		Memory:    s.cfg.NFCMemory, Greeting: greetingOf(s.like.Port902), Version: uint32(s.like.Port902.Protocol), Buffer: bufferOf(s.like.Port902), Sessions: s.cfg.StreamsPerHost, Latency: s.cfg.Latency,
		Pace: func() (int, func(context.Context, int) error) {
			p := newPacer(s.cfg.Rate)
			return p.chunk, p.wait
		},
	})}
	return nil
}

// serve takes connections; a port that is closed takes none.
func (p *nfcPort) serve() {
	if p.closed {
		_ = p.gate.Close()
	}
	p.taking.Go(func() { p.server.Serve(p.gate) })
}

// greetingOf is what a host like that says first; "" where that is not known.
func greetingOf(like findings.Port902) string {
	if len(like.Announces) == 0 {
		return ""
	}
	line := "220 VMware Authentication Daemon Version " + cmp.Or(like.Daemon, "1.10") + ": SSL Required, ServerDaemonProtocol:SOAP, MKSDisplayProtocol:VNC "
	for _, word := range like.Announces {
		if word == "NFCSSL supported" {
			word += "/t"
		}
		line += ", " + word
	}
	return line
}

// bufferOf is the largest buffer in bytes that a host like that gives; -1 leaves it to
// the host, and 0 is no limit.
func bufferOf(like findings.Port902) int64 {
	switch {
	case like.Opened == findings.Yes && like.BufferKiB == 0:
		return -1
	case like.BufferKiB >= 1024: // all that a probe has asked for
		return 0
	}
	return int64(like.BufferKiB) << 10
}

func (p *nfcPort) close() {
	_ = p.gate.Close()
	p.server.Close()
	p.taking.Wait()
}

// NFCState is what a host's port 902 has open, and how connections to it ended.
type NFCState = authd.State

// NFC tells what the i-th host's port 902 has open; the zero value without one.
func (s *Server) NFC(i int) NFCState {
	if s.hosts[i].nfc == nil {
		return NFCState{}
	}
	return s.hosts[i].nfc.server.State()
}

// NFCDrained waits until no connection to the i-th host's port 902 is open.
func (s *Server) NFCDrained(ctx context.Context, i int) error {
	if s.hosts[i].nfc == nil {
		return nil
	}
	return s.hosts[i].nfc.server.Drained(ctx)
}

// NFCAddr is the host:port of the i-th host's port 902, "" without one.
func (s *Server) NFCAddr(i int) string {
	if s.hosts[i].nfc == nil {
		return ""
	}
	return s.hosts[i].nfc.gate.address.String()
}

// nfcGrant is what a ticket allows: the files of a VM, or one of its disks.
type nfcGrant struct {
	srv   *Server
	host  *host
	guest *guest
	key   int32 // of the disk; -1: all
	mu    sync.Mutex
	disk  int // index of the one that is open, or is to be
	known bool
}

// Strike uses up a fault for who holds the ticket, and once a disk is open, for that.
func (g *nfcGrant) Strike(name string) bool {
	g.mu.Lock()
	index := -1
	if g.known {
		index = g.disk
	}
	g.mu.Unlock()
	return g.srv.strikeNFC(name, g.guest, index)
}

// Open opens a disk by the path of its descriptor, or of a link on top of it, whose
// content is the same: the host resolves the parents (F-902-1).
func (g *nfcGrant) Open(path string) (authd.Disk, *authd.Refusal) {
	i := slices.IndexFunc(g.guest.disks, func(d *disk) bool { return d.descriptor() == base(path) })
	if i < 0 || g.key >= 0 && g.guest.disks[i].key != g.key {
		return nil, &authd.Refusal{Code: 11, Text: fmt.Sprintf("NfcAioProcessOpenFileMsg: permission check failed for file '%s', access = 1", path)}
	}
	d := g.guest.disks[i]
	if g.srv.written(g.guest, d) {
		return nil, &authd.Refusal{Code: 1048585, Text: "Failed to open the disk: Thin/TBZ/Sparse disks cannot be opened in multiwriter mode"}
	}
	data := d.now().raw
	if data == nil {
		return nil, &authd.Refusal{Code: 1048585, Text: "the lab has this disk as a stream only"}
	}
	f, err := os.Open(data.path)
	if err != nil {
		return nil, &authd.Refusal{Code: 1048585, Text: "the disk cannot be read"}
	}
	like := g.srv.like.Port902
	leased := like.UnderLease == findings.Refused && g.srv.leases.on(g.guest.ref) != nil
	if leased || !d.lock.random(like.BesideFiles == findings.Served, like.SecondConn != findings.No) {
		_ = f.Close()
		return nil, &authd.Refusal{Code: 16392, Text: "Failed to lock the file"}
	}
	g.mu.Lock()
	g.disk, g.known = i, true
	g.mu.Unlock()
	return &nfcDisk{File: f, srv: g.srv, guest: g.guest, disk: d, data: data, top: base(path) != path}, nil
}

// written tells whether a running VM writes to a disk's file: the lab has no deltas, so
// a snapshot is what freezes it, and what no snapshot holds is never frozen.
func (s *Server) written(g *guest, d *disk) (written bool) {
	s.withVM(g.path, func(m *simulator.VirtualMachine) {
		running := m.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff
		frozen := m.Snapshot != nil && !d.spec.Independent && d.spec.RDM != RDMPhysical
		written = running && !frozen
	})
	return written
}

// descriptor is the path of the disk as the inventory has it.
func (d *disk) descriptor() string {
	return "[" + store + "] " + strings.TrimSuffix(d.flat, "-flat.vmdk") + ".vmdk"
}

// nfcDisk is a disk that is open over NFC.
type nfcDisk struct {
	*os.File
	srv   *Server
	guest *guest
	disk  *disk
	data  *payload
	top   bool // a link on top of another, which holds nothing itself

	once    sync.Once
	extents []streamvmdk.Extent
	err     error
}

func (d *nfcDisk) Size() int64 { return d.disk.capacity }

// Allocated looks the range up in the file's map, which is read once. Of a chain it tells
// what its top link holds, which is not what the disk does (F-902-17).
func (d *nfcDisk) Allocated(from, to int64) (bool, error) {
	if d.top {
		return false, nil
	}
	d.once.Do(func() {
		f, err := os.Open(d.data.path) // the map moves the file's offset
		if err != nil {
			d.err = err
			return
		}
		defer f.Close()
		for e, err := range streamvmdk.Extents(f, d.disk.capacity, streamvmdk.GrainSize) {
			if err != nil {
				d.err = err
				return
			}
			d.extents = append(d.extents, e)
		}
	})
	if d.err != nil {
		return false, d.err
	}
	i, _ := slices.BinarySearchFunc(d.extents, from, func(e streamvmdk.Extent, from int64) int {
		if e.End <= from {
			return -1
		}
		return 1
	})
	return i < len(d.extents) && d.extents[i].Start < to, nil
}

// Asked logs a read.
func (d *nfcDisk) Asked(off, n int64) {
	d.srv.log.add(Request{
		Plane: NFC902, Method: "read", VM: d.guest.path, Disk: d.disk.index,
		Range: fmt.Sprintf("bytes=%d-%d", off, off+n-1),
	})
}

// Sending lets the faults strike that are tied to a byte in [from, to).
func (d *nfcDisk) Sending(_ context.Context, from, to int64) authd.Fate {
	fate := authd.Fate{Flip: -1}
	for _, f := range d.srv.faults.within(NFC902, d.guest, d.disk.index, from, to) {
		if !d.srv.faults.take(f) {
			continue
		}
		switch f.kind {
		case faultCut, faultTruncate:
			fate.Cut = true
		case faultStall:
			fate.Stall = true
		case faultCorrupt:
			fate.Flip = f.at
		case faultExpire:
			if l := d.srv.leases.on(d.guest.ref); l != nil {
				d.srv.expireLease(l)
			}
		case faultSession:
			d.srv.endSessions(f.keep)
		case faultDown:
			d.srv.outage(f)
		}
	}
	return fate
}

// Sent counts, and lets the hooks know.
func (d *nfcDisk) Sent(from, to int64, wire int) {
	d.data.served.Add(int64(wire))
	d.srv.hooks.passed(d.guest, d.disk.index, from, to)
}

func (d *nfcDisk) Close() {
	_ = d.File.Close()
	d.disk.lock.randomEnds()
}

// fileLock keeps NFC and /folder apart: who reads a disk by one is not served by the
// other (F-902-3). Readers of a kind share.
type fileLock struct {
	mu            sync.Mutex
	nfc, browsers int
}

// random takes the disk for NFC. beside lets it in while /folder is served, and
// together while NFC has it already.
func (l *fileLock) random(beside, together bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.browsers > 0 && !beside || l.nfc > 0 && !together {
		return false
	}
	l.nfc++
	return true
}

func (l *fileLock) randomEnds() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nfc--
}

// browse takes the disk for /folder. beside lets it in while NFC has it.
func (l *fileLock) browse(beside bool) (end func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.nfc > 0 && !beside {
		return nil, false
	}
	l.browsers++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.browsers--
	}, true
}
