package progress

import "time"

// FileSnapshot is one file's counters at an instant. Sizes are bytes.
type FileSnapshot struct {
	Name     string    `json:"name"`
	State    FileState `json:"state"`
	Total    int64     `json:"total"` // full size; negative when unknown
	Position int64     `json:"position"`
	Received int64     `json:"received"` // off the wire, bytes fetched again included
	Retries  int64     `json:"retries"`
}

// Snapshot is a run's counters at an instant.
type Snapshot struct {
	Phase Phase          `json:"phase"`
	Files []FileSnapshot `json:"files"`

	// Activity says what the run waits for, or does, that the counters do not
	// show; mostly empty. See [Tracker.Begin].
	Activity string `json:"activity,omitempty"`
}

// Total is the sum of the files' known full sizes in bytes.
func (s Snapshot) Total() int64 {
	var n int64
	for _, f := range s.Files {
		n += max(f.Total, 0)
	}
	return n
}

// Position is the sum of the files' positions in bytes, each at most its
// file's full size where that is known.
func (s Snapshot) Position() int64 {
	var n int64
	for _, f := range s.Files {
		if f.Total >= 0 {
			n += min(f.Position, f.Total)
		} else {
			n += f.Position
		}
	}
	return n
}

// Received is the sum of bytes off the wire.
func (s Snapshot) Received() int64 {
	var n int64
	for _, f := range s.Files {
		n += f.Received
	}
	return n
}

// Finished counts the files whose state is [Complete].
func (s Snapshot) Finished() int {
	n := 0
	for _, f := range s.Files {
		if f.State == Complete {
			n++
		}
	}
	return n
}

// Current names the first file that is moving or being retried, or "".
func (s Snapshot) Current() string {
	for _, f := range s.Files {
		if f.State == Active || f.State == Retrying {
			return f.Name
		}
	}
	return ""
}

// Percent is how much of the known full sizes is done, from 0 to 100. It is
// 100 only when every file is [Complete].
func (s Snapshot) Percent() float64 {
	if len(s.Files) > 0 && s.Finished() == len(s.Files) {
		return 100
	}
	total := s.Total()
	if total == 0 {
		return 0
	}
	return min(float64(s.Position())/float64(total)*100, 99.9)
}

// Meter turns successive snapshots into a rate and a remaining time. It is for
// one reader; the zero value is ready.
type Meter struct {
	last     time.Time
	received int64
	position int64
	rate     float64 // bytes off the wire per second, smoothed
	pace     float64 // position per second, smoothed
}

// Reading is what a [Meter] makes of a snapshot.
type Reading struct {
	Rate      float64       // bytes off the wire per second
	Remaining time.Duration // negative when it cannot be told
}

// meterWindow is the time constant of the smoothing: what happened that long
// ago weighs about a third.
const meterWindow = 8 * time.Second

// Observe takes the snapshot s, made at now, into account.
func (m *Meter) Observe(s Snapshot, now time.Time) Reading {
	received, position := s.Received(), s.Position()
	if m.last.IsZero() {
		m.last, m.received, m.position = now, received, position
		return Reading{Remaining: -1}
	}
	if dt := now.Sub(m.last).Seconds(); dt > 0 {
		w := dt / (dt + meterWindow.Seconds())
		if m.rate == 0 && m.pace == 0 {
			w = 1
		}
		m.rate += w * (float64(max(received-m.received, 0))/dt - m.rate)
		m.pace += w * (float64(max(position-m.position, 0))/dt - m.pace)
		m.last, m.received, m.position = now, received, position
	}
	r := Reading{Rate: m.rate, Remaining: -1}
	if left := s.Total() - position; m.pace > 0 && left >= 0 {
		r.Remaining = time.Duration(float64(left) / m.pace * float64(time.Second)).Round(time.Second)
	}
	return r
}
