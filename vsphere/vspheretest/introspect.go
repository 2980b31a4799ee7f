package vspheretest

import (
	"slices"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// Plane is the part of the lab that a request went to.
type Plane string

// The planes of a lab.
const (
	SOAP   Plane = "soap"
	NFC    Plane = "nfc"
	Folder Plane = "folder"
	NFC902 Plane = "nfc902" // reads over port 902; Range is that of the disk
)

// What Down takes away, beside the planes that requests go to.
const (
	Control    Plane = "control" // vCenter: the API and /folder
	Hosts      Plane = "hosts"   // the data plane of every ESXi host
	Everything Plane = "all"
)

// Request is one that the lab received.
type Request struct {
	Plane  Plane
	Method string // of the API, or of HTTP
	VM     string // inventory path; empty when it is about no VM
	Disk   int    // index among the VM's disks; -1 when it is about none
	Range  string // the header
	Status int    // HTTP; 0 on SOAP

	Session string // which session it is of; empty on planes without
}

// maxLog is how many requests are kept: those that came last.
const maxLog = 100_000

type requestLog struct {
	mu  sync.Mutex
	all []Request
	fs  []func(Request)
}

func (l *requestLog) add(r Request) {
	l.mu.Lock()
	if len(l.all) == maxLog {
		l.all = slices.Delete(l.all, 0, maxLog/2)
	}
	l.all = append(l.all, r)
	fs := slices.Clone(l.fs)
	l.mu.Unlock()
	for _, f := range fs {
		f(r)
	}
}

// OnRequest calls f for each request from now on, before it is answered and
// under the terms of OnLease.
func (s *Server) OnRequest(f func(Request)) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.fs = append(s.log.fs, f)
}

// Requests returns what was received so far, in order, of the given planes; of
// all of them when none is given. A request is logged before its answer begins.
func (s *Server) Requests(planes ...Plane) []Request {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if len(planes) == 0 {
		return slices.Clone(s.log.all)
	}
	return slices.DeleteFunc(slices.Clone(s.log.all), func(r Request) bool { return !slices.Contains(planes, r.Plane) })
}

// BytesServed is how much was sent of a disk, as a stream, from /folder or over
// port 902, over all requests, in bytes; what SkipZ leaves out is not sent.
func (s *Server) BytesServed(vm string, disk int) int64 {
	g := s.find(vm)
	if g == nil || disk < 0 || disk >= len(g.disks) {
		return 0
	}
	d := g.disks[disk]
	var n int64
	for data := d.now(); data != nil; data = data.before {
		n += data.stream.served.Load()
		if data.raw != nil {
			n += data.raw.served.Load()
		}
	}
	return n
}

// StreamInfo describes a disk as a lease serves it.
type StreamInfo struct {
	Capacity     int64 // of the disk, in bytes
	Size         int64 // of the stream, in bytes
	SHA1, SHA256 string
}

// Stream describes the stream of a disk; the zero value when there is none.
func (s *Server) Stream(vm string, disk int) StreamInfo {
	g := s.find(vm)
	if g == nil || disk < 0 || disk >= len(g.disks) {
		return StreamInfo{}
	}
	d := g.disks[disk]
	stream := d.now().stream
	return StreamInfo{d.capacity, stream.size, stream.sha1, stream.sha256}
}

// LeaseState is an open lease: one that is initializing or ready.
type LeaseState struct {
	VM      string // inventory path
	Ticket  string
	State   types.HttpNfcLeaseState
	Percent int32 // as the client reported
}

// Leases returns the open leases.
func (s *Server) Leases() []LeaseState {
	var states []LeaseState
	for _, l := range s.leases.all("") {
		l.mu.Lock()
		states = append(states, LeaseState{l.guest.path, l.ticket, l.state, l.percent})
		l.mu.Unlock()
	}
	return states
}

// Snapshots returns the names of a VM's snapshots, parents before children.
func (s *Server) Snapshots(vm string) []string {
	var names []string
	var walk func([]types.VirtualMachineSnapshotTree)
	walk = func(tree []types.VirtualMachineSnapshotTree) {
		for _, t := range tree {
			names = append(names, t.Name)
			walk(t.ChildSnapshotList)
		}
	}
	s.withVM(vm, func(m *simulator.VirtualMachine) {
		if m.Snapshot != nil {
			walk(m.Snapshot.RootSnapshotList)
		}
	})
	return names
}

// PowerState returns a VM's power state; "" when there is no such VM.
func (s *Server) PowerState(vm string) (state types.VirtualMachinePowerState) {
	s.withVM(vm, func(m *simulator.VirtualMachine) { state = m.Runtime.PowerState })
	return state
}

// CDROM is the state of a VM's CD drive.
type CDROM struct {
	Present        bool
	Image          string // datastore path; empty without an image in the drive
	StartConnected bool
}

// CDROM returns the state of a VM's first CD drive.
func (s *Server) CDROM(vm string) (cd CDROM) {
	s.withVM(vm, func(m *simulator.VirtualMachine) {
		for _, dev := range m.Config.Hardware.Device {
			drive, ok := dev.(*types.VirtualCdrom)
			if !ok || cd.Present {
				continue
			}
			cd.Present = true
			if b, ok := drive.Backing.(*types.VirtualCdromIsoBackingInfo); ok {
				cd.Image = b.FileName
			}
			if drive.Connectable != nil {
				cd.StartConnected = drive.Connectable.StartConnected
			}
		}
	})
	return cd
}

// withVM runs f under the simulator's lock of a VM.
func (s *Server) withVM(vm string, f func(*simulator.VirtualMachine)) {
	g := s.find(vm)
	if g == nil {
		return
	}
	ctx := s.simContext()
	m, ok := ctx.Map.Get(g.ref).(*simulator.VirtualMachine)
	if !ok {
		return
	}
	ctx.WithLock(m, func() { f(m) })
}
