package progress

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Route is the way by which bytes of a file come.
type Route uint8

// The routes.
const (
	NoRoute    Route = iota // not said: an NVRAM, for one
	NFCStream               // under a lease, as one stream
	NFCRanges               // under a lease, in ranges
	Datastore               // in ranges of the file on its datastore
	NFC902                  // at random over port 902 of the host
	VDDK                    // at random by nbdkit with VDDK
	routeCount = iota
)

// Routes are all of them.
func Routes() []Route { return []Route{NoRoute, NFCStream, NFCRanges, Datastore, NFC902, VDDK} }

// String is the route's name, as metrics and results have it.
func (r Route) String() string {
	switch r {
	case NFCStream:
		return "stream"
	case NFCRanges:
		return "ranges"
	case Datastore:
		return "datastore"
	case NFC902:
		return "nfc902"
	case VDDK:
		return "vddk"
	}
	return "other"
}

// Count names something that happened during a run and that is of interest over
// many runs: how often, not when.
type Count string

// What is counted.
const (
	LeasesOpened         Count = "leases opened"
	LeaseRenewals        Count = "lease renewals"
	LeaseRenewalFailures Count = "lease renewals that failed"
	LeasesLost           Count = "leases lost"
	Mismatches           Count = "disks that were not what was sent"
)

// Retry is a kind of attempts after the first.
type Retry struct {
	Route Route
	Cause string // of a few words that the package that retries knows
}

// Tally is what a run has counted since it began, whatever became of the files:
// unlike those of a [FileSnapshot] its numbers never go back.
type Tally struct {
	Received map[Route]int64  // bytes off the wire
	Hosts    map[string]int64 // of Received, the bytes that came through each ESXi host; see [File.SetHost]
	Written  map[Route]int64  // bytes that files took when they were whole
	Retries  map[Retry]int64
	Counts   map[Count]int64
}

// Since returns what t has more than an earlier tally of the same run.
func (t Tally) Since(earlier Tally) Tally {
	return Tally{
		Received: since(t.Received, earlier.Received),
		Hosts:    since(t.Hosts, earlier.Hosts),
		Written:  since(t.Written, earlier.Written),
		Retries:  since(t.Retries, earlier.Retries),
		Counts:   since(t.Counts, earlier.Counts),
	}
}

func since[K comparable](now, before map[K]int64) map[K]int64 {
	var more map[K]int64
	for k, n := range now {
		if n <= before[k] {
			continue
		}
		if more == nil {
			more = make(map[K]int64, len(now))
		}
		more[k] = n - before[k]
	}
	return more
}

// tally is a [Tally] that is being counted.
type tally struct {
	received [routeCount]atomic.Int64

	mu      sync.Mutex // what is rare
	hosts   map[string]*atomic.Int64
	written map[Route]int64
	retries map[Retry]int64
	counts  map[Count]int64
}

func (t *tally) retry(r Retry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.retries == nil {
		t.retries = make(map[Retry]int64)
	}
	t.retries[r]++
}

// Count counts that something happened.
func (t *Tracker) Count(c Count) {
	t.tally.mu.Lock()
	defer t.tally.mu.Unlock()
	if t.tally.counts == nil {
		t.tally.counts = make(map[Count]int64)
	}
	t.tally.counts[c]++
}

// Tally returns what was counted so far.
func (t *Tracker) Tally() Tally {
	out := Tally{Received: make(map[Route]int64, routeCount)}
	for r := range t.tally.received {
		if n := t.tally.received[r].Load(); n > 0 {
			out.Received[Route(r)] = n
		}
	}
	t.tally.mu.Lock()
	defer t.tally.mu.Unlock()
	for host, n := range t.tally.hosts {
		if out.Hosts == nil {
			out.Hosts = make(map[string]int64, len(t.tally.hosts))
		}
		out.Hosts[host] = n.Load()
	}
	out.Written, out.Retries, out.Counts = maps.Clone(t.tally.written), maps.Clone(t.tally.retries), maps.Clone(t.tally.counts)
	return out
}

// SetRoute says by which route the file's bytes come from now on.
func (f *File) SetRoute(r Route) { f.route.Store(uint32(min(r, routeCount-1))) }

// SetHost names the ESXi host through which the file's bytes come from now on, as
// host or host:port.
func (f *File) SetHost(host string) {
	t := &f.tracker.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.hosts[host]
	if n == nil {
		if t.hosts == nil {
			t.hosts = make(map[string]*atomic.Int64)
		}
		n = new(atomic.Int64)
		t.hosts[host] = n
	}
	f.host.Store(n)
}

// otherCause is that of a retry of which nobody says more.
const otherCause = "other"

// AddRetryFor counts one more attempt, and for what cause: one of a few words.
func (f *File) AddRetryFor(cause string) {
	f.retries.Add(1)
	if cause != otherCause && cause != "" {
		f.cause.Store(cause)
	}
	f.tracker.tally.retry(Retry{Route(f.route.Load()), cause})
}

// AddWritten counts the n bytes that the file, which is whole, takes of its file
// system.
func (f *File) AddWritten(n int64) {
	t := &f.tracker.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.written == nil {
		t.written = make(map[Route]int64)
	}
	t.written[Route(f.route.Load())] += n
}
