package progress

// FileSnapshot is one file's counters at an instant. Sizes are bytes.
type FileSnapshot struct {
	Name     string    `json:"name"`
	State    FileState `json:"state"`
	Total    int64     `json:"total"` // full size; negative when unknown
	Position int64     `json:"position"`
	Received int64     `json:"received"` // off the wire, bytes fetched again included
	Retries  int64     `json:"retries"`

	Data     int64  `json:"data,omitempty"`     // of the file's own bytes those that came: holes are not among them
	Expected int64  `json:"expected,omitempty"` // what Data will be at the end, as far as can be told; 0 when nothing counts it
	Resumed  int64  `json:"resumed,omitempty"`  // of Data, what an earlier run had brought
	Cause    string `json:"cause,omitempty"`    // of the latest retry, where it is known
}

// Size is how many bytes are to be moved for the file: the data that is expected, or
// the full size where data is not counted; negative when unknown.
func (f FileSnapshot) Size() int64 {
	if f.Expected > 0 {
		return f.Expected
	}
	return f.Total
}

// Done is how many bytes of Size are moved.
func (f FileSnapshot) Done() int64 {
	size := f.Size()
	switch {
	case f.Total > 0 && f.Position >= f.Total:
		return size
	case f.Expected > 0:
		return min(f.Data, size)
	case size >= 0:
		return min(f.Position, size)
	}
	return f.Position
}

// open reports whether bytes of the file are still to come.
func (f FileSnapshot) open() bool { return f.State != Complete && f.State != Failed }

// working reports whether the file has a place, rather than waiting for one.
func (f FileSnapshot) working() bool { return f.open() && f.State != Waiting }

// Snapshot is a run's counters at an instant.
type Snapshot struct {
	Phase Phase          `json:"phase"`
	Files []FileSnapshot `json:"files"`

	// Activity says what the run waits for, or does, that the counters do not
	// show; mostly empty. See [Tracker.Begin].
	Activity string `json:"activity,omitempty"`

	// Floor is the percentage below which Percent does not go; see
	// [Tracker.Steady].
	Floor float64 `json:"floor,omitempty"`
}

// Total is how many bytes are to be moved for all files together, as far as that is
// known: the sum of their [FileSnapshot.Size].
func (s Snapshot) Total() int64 {
	var n int64
	for _, f := range s.Files {
		n += max(f.Size(), 0)
	}
	return n
}

// Position is how many bytes of [Snapshot.Total] are moved.
func (s Snapshot) Position() int64 {
	var n int64
	for _, f := range s.Files {
		n += f.Done()
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

// Resumed is the share of [Snapshot.Total] that an earlier run had brought, from 0 to 1.
func (s Snapshot) Resumed() float64 {
	var n int64
	for _, f := range s.Files {
		n += f.Resumed
	}
	if n == 0 {
		return 0
	}
	return min(float64(n)/float64(max(s.Total(), 1)), 1)
}

// Retries is the sum of the files' retries, with the cause of one that had any.
func (s Snapshot) Retries() (n int64, cause string) {
	for _, f := range s.Files {
		n += f.Retries
		if f.Cause != "" {
			cause = f.Cause
		}
	}
	return n, cause
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

// Percent is how much of [Snapshot.Total] is done, from 0 to 100. It is 100 only
// when every file is [Complete].
func (s Snapshot) Percent() float64 {
	if len(s.Files) > 0 && s.Finished() == len(s.Files) {
		return 100
	}
	total := s.Total()
	if total == 0 {
		return s.Floor
	}
	return max(min(float64(s.Position())/float64(total)*100, 99.9), s.Floor)
}
