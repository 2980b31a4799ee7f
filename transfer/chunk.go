package transfer

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// chunk is one range of the object. Up to two workers fetch it, each into
// blocks of its own; the first to finish wins and the other is cancelled.
type chunk struct {
	off, length int64
	started     atomic.Int64  // when the first worker's request began (Unix ns), 0 for none
	head        chan struct{} // closed when the consumer waits for it
	done        chan struct{} // closed after data is set
	data        [][]byte

	mu      sync.Mutex
	cancels []context.CancelFunc // of those at work on it, the first worker's first
	helpers int                  // how often a helper joined
}

func newChunk(off, length int64) *chunk {
	return &chunk{off: off, length: length, head: make(chan struct{}), done: make(chan struct{})}
}

// join registers a worker. It is false when there is nothing left to do.
func (c *chunk) join(cancel context.CancelFunc) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.finished() || len(c.cancels) == 2 {
		return false
	}
	if len(c.cancels) == 1 {
		c.helpers++
	}
	c.cancels = append(c.cancels, cancel)
	return true
}

// leave takes a helper out again, so that another may try.
func (c *chunk) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.cancels) == 2 {
		c.cancels = c.cancels[:1]
	}
}

// finish publishes data and stops everybody else at work on the chunk. It is
// false when another worker was first.
func (c *chunk) finish(data [][]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.finished() {
		return false
	}
	c.data = data
	close(c.done)
	for _, cancel := range c.cancels {
		cancel()
	}
	return true
}

func (c *chunk) finished() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// patience returns how long the first worker's request has taken, 0 when there
// is none, divided among the helpers that have already tried in vain: each
// further one comes later.
func (c *chunk) patience(now time.Time) time.Duration {
	started := c.started.Load()
	if started == 0 {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return now.Sub(time.Unix(0, started)) / time.Duration(1+c.helpers)
}

const (
	// helpInterval is how often the consumer looks whether the chunk it waits
	// for is slow.
	helpInterval = 100 * time.Millisecond
	// A chunk is slow when it takes slowFactor times as long as others did, and
	// helpInterval more.
	slowFactor = 3
)

// sizer chooses the length of chunks and knows what is a slow one.
//
// A connection is idle for one round trip per request, so chunks grow while
// the wait for the first byte is more than 4 % of a request, and shrink while
// it is less than 0.5 %: small chunks need less memory and lose less when they
// are cut.
type sizer struct {
	smallest, largest int64
	workers           int64

	mu      sync.Mutex
	size    int64
	perByte float64 // ns for a byte, smoothed; 0 before the first
}

func newSizer(largest int64, workers int) *sizer {
	smallest := max(largest/8, min(largest, blockSize))
	return &sizer{
		smallest: smallest,
		largest:  largest,
		workers:  int64(workers),
		size:     max(largest/4, smallest),
	}
}

// next returns the length of the next chunk when left bytes are unplanned. At
// the end chunks become smaller, so that the workers end together.
func (s *sizer) next(left int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(s.size, max(left/s.workers, s.smallest))
	if n > blockSize {
		n -= n % blockSize // no block that is used in part only
	}
	return min(n, left)
}

// observe takes a finished request of n bytes into account.
func (s *sizer) observe(n int64, latency, total time.Duration) {
	if n < s.smallest || total <= 0 {
		return // the rest of a cut chunk says little
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	perByte := float64(total) / float64(n)
	if s.perByte == 0 {
		s.perByte = perByte
	}
	s.perByte += (perByte - s.perByte) / 8
	switch {
	case latency*25 > total:
		s.size = min(s.size*2, s.largest)
	case latency*200 < total:
		s.size = max(s.size/2, s.smallest)
	}
}

// slow reports whether a request for n bytes that has taken age so far is far
// slower than others were.
func (s *sizer) slow(n int64, age time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	usual := time.Duration(s.perByte * float64(n))
	return usual > 0 && age > slowFactor*usual+helpInterval
}
