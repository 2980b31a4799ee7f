// Package progress counts what a run does and lets others look.
//
// The engine adds to atomics in a [Tracker] and never waits for a reader; a
// user interface takes a [Snapshot] when it wants to draw, so drawing cannot
// slow a transfer. Rates and remaining times are made from successive
// snapshots by a [Meter], on the reader's side.
//
// True progress of a disk is how much of its data has come. That is neither the
// compressed bytes off the wire nor the position in the disk, how far into its
// capacity the stream has come (LBA times 512, F-NFC-10): most of a disk may be
// holes, which cost no time. All three are kept; how much data there will be is
// estimated ([File.Expect]). One estimate and one [Meter] serve every screen.
package progress

import (
	"sync"
	"sync/atomic"
	"time"
)

// Phase names the step a run is in. The values appear in the REST contract.
type Phase string

// Phases in the order in which a run passes through them.
const (
	Pending     Phase = "pending"
	Connecting  Phase = "connecting"
	Discovering Phase = "discovering" // finding the VM, preflight
	Preparing   Phase = "preparing"   // CD/DVD removal, snapshot, lease
	Exporting   Phase = "exporting"
	Verifying   Phase = "verifying"
	Describing  Phase = "describing"   // OVF descriptor, domain XML, final rename
	Converting  Phase = "converting"   // the guest's disks are made ready for KVM
	Landing     Phase = "landing"      // the images and the domain go to libvirt
	Finishing   Phase = "finishing"    // the source is marked
	RollingBack Phase = "rolling-back" // the way back from an export: no other phase but the first two comes before it
	Done        Phase = "done"
)

// FileState says what is happening to one file of a run.
type FileState string

// States of a [File].
const (
	Waiting  FileState = "waiting"  // for a place under the limits
	Active   FileState = "active"   // bytes are moving
	Retrying FileState = "retrying" // between two attempts
	Complete FileState = "complete" // verified
	Failed   FileState = "failed"
)

// Level grades an [Event].
type Level string

// Levels of an [Event].
const (
	Info    Level = "info"
	Warning Level = "warning"
)

// Event is something a person should know of while a run goes on: a retry, a
// fallback, a disk that resumed. It never holds a secret.
type Event struct {
	Seq   int64     `json:"seq"` // 1 for a tracker's first event, without gaps
	Time  time.Time `json:"time"`
	Level Level     `json:"level"`
	File  string    `json:"file,omitempty"` // the file's name, empty when about the whole run
	Text  string    `json:"text"`
}

// maxEvents bounds the events a Tracker keeps; older ones are dropped.
const maxEvents = 256

// Tracker is what one VM's run counts into. Every method may be called from
// any goroutine; none blocks on a reader. The zero value is not usable: see
// [New].
type Tracker struct {
	mu     sync.Mutex
	phase  Phase
	files  []*File
	events []Event
	seq    int64
	doing  []*Activity // begun and not ended, in that order
	steady bool
	floor  float64       // with steady: the highest percentage that was told
	notify chan struct{} // closed and replaced whenever phase or events change

	tally tally
}

// New returns a Tracker in phase [Pending] without files.
func New() *Tracker {
	return &Tracker{phase: Pending, notify: make(chan struct{})}
}

// SetPhase moves the run to phase p.
func (t *Tracker) SetPhase(p Phase) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase == p {
		return
	}
	t.phase = p
	t.wake()
}

// Phase returns the phase the run is in.
func (t *Tracker) Phase() Phase {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.phase
}

// ResetFiles forgets the files, for a run that begins again with a new lease.
func (t *Tracker) ResetFiles() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.files = nil
	t.wake()
}

// AddFile registers a file. total is its full size in bytes: for a disk its
// capacity, for anything else the bytes to be received; negative is unknown.
func (t *Tracker) AddFile(name string, total int64) *File {
	f := &File{name: name, tracker: t}
	f.total.Store(total)
	f.state.Store(Waiting)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.files = append(t.files, f)
	t.wake()
	return f
}

// Event records text for people, about the named file or, with file empty,
// about the whole run.
func (t *Tracker) Event(level Level, file, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seq++
	t.events = append(t.events, Event{Seq: t.seq, Time: time.Now(), Level: level, File: file, Text: text})
	if len(t.events) > maxEvents {
		t.events = t.events[len(t.events)-maxEvents:]
	}
	t.wake()
}

// EventsAfter returns the kept events whose Seq is greater than seq, oldest
// first.
func (t *Tracker) EventsAfter(seq int64) []Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, e := range t.events {
		if e.Seq > seq {
			return append([]Event(nil), t.events[i:]...)
		}
	}
	return nil
}

// Changed returns a channel that is closed at the next change of phase, of the
// list of files, of the events, or of the activities that go on. Counters do not
// close it: sample them.
func (t *Tracker) Changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.notify
}

func (t *Tracker) wake() {
	close(t.notify)
	t.notify = make(chan struct{})
}

// Snapshot returns the counters as they are now.
func (t *Tracker) Snapshot() Snapshot {
	t.mu.Lock()
	s := Snapshot{Phase: t.phase}
	if n := len(t.doing); n > 0 {
		s.Activity = t.doing[n-1].text
	}
	files, steady := t.files, t.steady
	t.mu.Unlock()
	s.Files = make([]FileSnapshot, len(files))
	said := make([]*forecast, len(files))
	for i, f := range files {
		s.Files[i] = f.Snapshot()
		said[i] = f.forecast.Load()
	}
	estimate(s.Files, said)
	if steady {
		t.mu.Lock()
		defer t.mu.Unlock()
		s.Floor = t.floor
		t.floor = s.Percent()
	}
	return s
}

// Steady keeps [Snapshot.Percent] from falling. It is for the total of many runs, of
// which one that begins again, or turns out to be larger, is a small part.
func (t *Tracker) Steady() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.steady = true
}

// File counts one file of a run. Every method may be called from any
// goroutine.
type File struct {
	name     string
	tracker  *Tracker
	total    atomic.Int64
	position atomic.Int64
	data     atomic.Int64
	resumed  atomic.Int64
	received atomic.Int64
	retries  atomic.Int64
	cause    atomic.Value // string; of the latest retry
	forecast atomic.Pointer[forecast]
	route    atomic.Uint32                // Route
	host     atomic.Pointer[atomic.Int64] // what came through its host, in the tracker's tally
	state    atomic.Value                 // FileState
}

// Name returns the name given to [Tracker.AddFile].
func (f *File) Name() string { return f.name }

// SetTotal sets the full size in bytes once it is known.
func (f *File) SetTotal(n int64) { f.total.Store(n) }

// AddReceived counts n bytes off the wire. Bytes fetched again count again.
func (f *File) AddReceived(n int64) {
	f.received.Add(n)
	f.tracker.tally.received[f.route.Load()].Add(n)
	if h := f.host.Load(); h != nil {
		h.Add(n)
	}
}

// SetPosition says that everything before byte pos of the full size is done.
// It may go back: a stream that starts again starts at 0, and no data has come then.
func (f *File) SetPosition(pos int64) {
	if pos == 0 {
		f.data.Store(0)
		f.resumed.Store(0)
	}
	f.position.Store(pos)
}

// AddRetry counts one more attempt, for a cause that is not said.
func (f *File) AddRetry() { f.AddRetryFor(otherCause) }

// SetState says what is happening to the file.
func (f *File) SetState(s FileState) { f.state.Store(s) }

// Event records text for people about this file.
func (f *File) Event(level Level, text string) { f.tracker.Event(level, f.name, text) }

// Snapshot returns the counters as they are now, without an estimate of the data:
// that is one of all files together.
func (f *File) Snapshot() FileSnapshot {
	s := FileSnapshot{
		Name:     f.name,
		State:    f.state.Load().(FileState),
		Total:    f.total.Load(),
		Position: f.position.Load(),
		Received: f.received.Load(),
		Retries:  f.retries.Load(),
		Data:     f.data.Load(),
		Resumed:  f.resumed.Load(),
	}
	s.Cause, _ = f.cause.Load().(string)
	return s
}
