package progress

import (
	"slices"
	"time"
)

// Meter turns successive snapshots into a rate and a remaining time. It is for
// one reader; the zero value is ready.
//
// The remaining time is that of a plan: files that are moving go on at their own
// pace, those that wait take the places of those that end, at the mean pace of all
// so far. Time that a file has its place and no byte comes counts, too: connecting,
// snapshots, leases. So it holds for many small VMs as well as for a few disks of
// which the largest ends last.
type Meter struct {
	last     time.Time
	began    time.Time // when the first byte was seen
	heard    time.Time // when a byte was seen last
	received int64
	rate     float64 // bytes off the wire per second, smoothed

	files  []pace
	places int     // most files that were seen at work at a time
	moved  float64 // bytes of all files
	busy   float64 // seconds that files had places, summed up

	phase Phase
	since time.Time // of the phase or the last byte, whichever is later; zero while bytes are to come
}

// pace is how fast one file moves.
type pace struct {
	name     string
	done     int64 // without what an earlier run had brought
	received int64
	began    time.Time // when it was first seen to move
	rate     float64   // bytes per second, smoothed
}

// Reading is what a [Meter] makes of a snapshot.
type Reading struct {
	Rate      float64       // bytes off the wire per second
	Remaining time.Duration // negative when it cannot be told, as of what comes after the files
	Arrived   bool          // no byte is to come any more: what goes on is something else
	Elapsed   time.Duration // for how long the phase has gone on since then; 0 before
	Stalled   time.Duration // for how long no byte has come though some should; 0 while it is not worth a word
}

const (
	// meterWindow is the time constant of the smoothing: what happened that long
	// ago weighs about a third.
	meterWindow = 8 * time.Second
	// stallShown is how long no byte comes before that is worth a word.
	stallShown = 5 * time.Second
	// settled is how long a file has moved when its own pace counts as much as the
	// mean of all.
	settled = 4 * time.Second
)

// Observe takes the snapshot s, made at now, into account.
func (m *Meter) Observe(s Snapshot, now time.Time) Reading {
	if m.last.IsZero() {
		m.last, m.heard, m.received = now, now, s.Received()
		m.meet(s.Files)
		return Reading{Remaining: -1}
	}
	if now.After(m.last) {
		m.advance(s, now)
	}
	if m.arrived(s.Files, now) {
		switch {
		case m.since.IsZero():
			m.since = m.heard
		case s.Phase != m.phase:
			m.since = now
		}
		m.phase = s.Phase
		m.rate, m.began = 0, time.Time{} // what begins then has a rate of its own
		return Reading{Remaining: -1, Arrived: true, Elapsed: now.Sub(m.since)}
	}
	m.since = time.Time{}
	r := Reading{Rate: m.rate, Remaining: m.remaining(s.Files, now)}
	if quiet := now.Sub(m.heard); quiet >= stallShown && s.Activity == "" && slices.ContainsFunc(s.Files, FileSnapshot.wanting) {
		r.Stalled = quiet.Round(time.Second)
	}
	return r
}

// arrived reports whether there were files, and none has bytes to come. Those that are
// whole and not over may be read once more: then some come.
func (m *Meter) arrived(files []FileSnapshot, now time.Time) bool {
	over := true
	for _, f := range files {
		if f.open() && (f.Size() < 0 || f.Done() < f.Size()) {
			return false
		}
		over = over && !f.open()
	}
	return len(files) > 0 && (over || now.Sub(m.heard) >= stallShown)
}

// wanting reports whether bytes of the file should be coming now.
func (f FileSnapshot) wanting() bool {
	return f.working() && f.State != "" && (f.Size() < 0 || f.Done() < f.Size())
}

// meet begins with files that were not seen before.
func (m *Meter) meet(files []FileSnapshot) {
	if len(m.files) > len(files) {
		m.files = m.files[:len(files)]
	}
	for i, f := range files {
		switch p := (pace{name: f.Name, done: f.Done() - f.Resumed, received: f.Received}); {
		case i == len(m.files):
			m.files = append(m.files, p)
		case m.files[i].name != f.Name:
			m.files[i] = p
		}
	}
}

// advance takes in what happened since the last snapshot.
func (m *Meter) advance(s Snapshot, now time.Time) {
	dt := now.Sub(m.last).Seconds()
	received := s.Received()
	if received > m.received {
		if m.began.IsZero() {
			m.began = m.last
		}
		m.heard = now
	}
	m.rate = smooth(m.rate, float64(max(received-m.received, 0)), dt, m.began, now)
	m.meet(s.Files)
	working := 0
	for i, f := range s.Files {
		p := &m.files[i]
		done := f.Done() - f.Resumed
		n := float64(max(done-p.done, 0))
		if f.Received <= p.received { // nothing came: it was here already
			n = 0
		}
		if n > 0 && p.began.IsZero() {
			p.began = m.last
		}
		p.rate = smooth(p.rate, n, dt, p.began, now)
		p.done, p.received = done, f.Received
		m.moved += n
		if f.working() {
			working++
		}
	}
	m.busy += dt * float64(working)
	m.places = max(m.places, working)
	m.last, m.received = now, received
}

// smooth takes n bytes in dt seconds, the last before now, into a rate. While what
// is measured is younger than the window, the rate is its mean.
func smooth(rate, n, dt float64, began, now time.Time) float64 {
	if began.IsZero() {
		return rate
	}
	w := dt / (dt + meterWindow.Seconds())
	if age := now.Sub(began).Seconds(); age > 0 {
		w = max(w, min(dt/age, 1))
	}
	return rate + w*(n/dt-rate)
}

// remaining is how long it takes until every file has ended.
func (m *Meter) remaining(files []FileSnapshot, now time.Time) time.Duration {
	if m.moved <= 0 || m.busy <= 0 {
		return -1
	}
	mean := m.moved / m.busy
	places := make([]float64, 0, max(m.places, 1)) // seconds until each is free
	for i, f := range files {
		if left := f.Size() - f.Done(); f.working() && left > 0 {
			places = append(places, float64(left)/m.files[i].expected(mean, now))
		}
	}
	for len(places) < cap(places) {
		places = append(places, 0)
	}
	for _, f := range files {
		if f.State != Waiting || f.Size() <= f.Done() {
			continue
		}
		next := 0
		for i := range places {
			if places[i] < places[next] {
				next = i
			}
		}
		places[next] += float64(f.Size()-f.Done()) / mean
	}
	seconds := slices.Max(places)
	if seconds > maxRemaining.Seconds() {
		return -1
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Second)
}

// maxRemaining is the longest time that is worth telling.
const maxRemaining = 1000 * 24 * time.Hour

// expected is the pace of a file from now on: its own, and as long as that says
// little, in parts the mean of all.
func (p *pace) expected(mean float64, now time.Time) float64 {
	if p.began.IsZero() {
		return mean
	}
	age := now.Sub(p.began).Seconds()
	return max((age*p.rate+settled.Seconds()*mean)/(age+settled.Seconds()), 1e-9)
}
