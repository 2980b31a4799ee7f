package migrate

import (
	"sync"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// JobLimits changes the bandwidth of jobs while they run. The zero value works;
// a nil *JobLimits changes nothing. Its methods may be called from any
// goroutine.
type JobLimits struct {
	mu      sync.Mutex
	running map[string]*transfer.Limiter // by job ID
	early   map[string]int64             // set before the run began to count
}

// Set bounds the job with that ID to bytesPerSecond, where 0 or less is no limit
// of its own. A job that does not run yet has that limit when it does: its
// definition may have been read before the change.
func (l *JobLimits) Set(id string, bytesPerSecond int64) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if limiter, ok := l.running[id]; ok {
		limiter.SetLimit(bytesPerSecond)
		return
	}
	if l.early == nil {
		l.early = make(map[string]int64)
	}
	l.early[id] = bytesPerSecond
}

// hold makes limiter the one that Set changes until the returned function is
// called. A job without an ID cannot be changed.
func (l *JobLimits) hold(id string, limiter *transfer.Limiter) (release func()) {
	if l == nil || id == "" {
		return func() {}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running == nil {
		l.running = make(map[string]*transfer.Limiter)
	}
	l.running[id] = limiter
	if rate, ok := l.early[id]; ok {
		limiter.SetLimit(rate)
		delete(l.early, id)
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.running[id] == limiter { // else a later run of the job holds it
			delete(l.running, id)
		}
	}
}
