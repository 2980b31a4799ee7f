package vspheretest

import (
	"sync"
	"time"
)

// timerTable holds what is to happen later, and lets go of it when the server closes.
type timerTable struct {
	mu     sync.Mutex
	all    []*time.Timer
	closed bool
}

func (t *timerTable) after(d time.Duration, f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.all = append(t.all, time.AfterFunc(d, f))
	}
}

func (t *timerTable) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, timer := range t.all {
		timer.Stop()
	}
}

// latch lets everybody go who waits on it, as often as it is opened.
type latch struct {
	mu sync.Mutex
	ch chan struct{}
}

// opened is closed when the latch is opened next.
func (l *latch) opened() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ch == nil {
		l.ch = make(chan struct{})
	}
	return l.ch
}

func (l *latch) open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ch != nil {
		close(l.ch)
		l.ch = nil
	}
}
