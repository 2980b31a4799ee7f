package jobs

import (
	"context"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// NoticeType says what a [Notice] tells.
type NoticeType string

// Types of a [Notice].
const (
	NoticeQueue    NoticeType = "queue"    // there may be something to claim
	NoticeJob      NoticeType = "job"      // the job or its log has changed; without a job, any may have
	NoticeCancel   NoticeType = "cancel"   // a cancel of the job was asked for
	NoticeLimit    NoticeType = "limit"    // the job has another limit
	NoticeWatched  NoticeType = "watched"  // somebody watches the job at another daemon than it runs at
	NoticeProgress NoticeType = "progress" // how far the job is
	NoticeDaemons  NoticeType = "daemons"  // a daemon came or went, or is asked for something
	NoticeOutages  NoticeType = "outages"  // a vCenter cannot be used, or can be again
	NoticeShares   NoticeType = "shares"   // a limit that daemons share is another, or is to be divided anew
)

// Notice tells the other daemons on a store what has just happened. Notices are hints:
// one that is lost costs time and nothing else, because the store has what is true.
type Notice struct {
	Type     NoticeType       `json:"type"`
	Job      string           `json:"job,omitempty"` // its id
	Progress *models.Progress `json:"progress,omitempty"`
}

// Notices is what a [Store] that several daemons share does so that they need not wait
// for their next look at it. The store itself tells what its methods change, when that
// is committed.
type Notices interface {
	// Listen calls heard, from one goroutine, with each notice of another daemon, until
	// ctx ends. A connection that breaks is made again; heard is then told
	// [NoticeQueue] and [NoticeJob] of any job, for what was missed.
	Listen(ctx context.Context, heard func(Notice))
	// Tell gives a notice to the other daemons.
	Tell(ctx context.Context, n Notice) error
}

// heard does what a notice of another daemon asks for.
func (m *Manager) heard(n Notice) {
	switch n.Type {
	case NoticeQueue:
		m.nudge()
	case NoticeOutages:
		m.breaker.tell()
	case NoticeShares:
		m.lookAtLimits()
	case NoticeJob:
		if n.Job == "" { // something was missed
			m.hub.allChanged()
			m.lookAtLimits()
			m.breaker.tell()
			return
		}
		m.hub.changed(n.Job)
	case NoticeCancel, NoticeLimit:
		m.mu.Lock()
		r := m.runs[n.Job]
		m.mu.Unlock()
		if r != nil {
			select {
			case r.look <- struct{}{}:
			default: // it is about to look
			}
		}
		m.hub.changed(n.Job)
	case NoticeDaemons:
		m.member.changed()
	case NoticeWatched:
		m.hub.ask(n.Job, m.lately())
	case NoticeProgress:
		if n.Progress != nil {
			m.hub.remote(n.Job, n.Progress)
		}
	}
}

// lookAtLimits has this daemon's part of them asked for anew.
func (m *Manager) lookAtLimits() {
	if m.o.Limits != nil {
		m.o.Limits.Look()
	}
}

// tellTimeout bounds how long a run or a watcher waits for others to be told.
const tellTimeout = 2 * time.Second

// lately is for how long what another daemon has told or asked for is good. Watchers
// look at the store, and ask again, at every heartbeat.
func (m *Manager) lately() time.Duration { return 3 * m.o.Heartbeat }

// tell gives a notice to the other daemons, if there can be any. It takes little time,
// whatever the store does.
func (m *Manager) tell(ctx context.Context, n Notice) {
	if m.o.Notices == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	if err := m.o.Notices.Tell(ctx, n); err != nil {
		m.log.Debug("other daemons are not told", "notice", n.Type, "job", n.Job, "error", err)
	}
}

// tell tells how far the run is where that is watched.
func (e *execution) tell(base context.Context) {
	if e.trouble != "" {
		return // it would only delay the next heartbeat
	}
	if id := e.claimed.Claim.JobID; e.m.o.Notices != nil && e.m.hub.askedFor(id) {
		p := e.progress
		e.m.tell(base, Notice{Type: NoticeProgress, Job: id, Progress: &p})
	}
}

// limit gives the run the limit that the store has, which another daemon may have
// changed.
func (e *execution) limit(base context.Context) {
	if e.m.o.Throttle == nil {
		return
	}
	ctx, cancel := context.WithTimeout(base, e.m.o.Heartbeat)
	defer cancel()
	page, err := e.m.store.List(ctx, Query{IDs: []string{e.claimed.Claim.JobID}})
	if err != nil || len(page.Jobs) == 0 {
		e.log.Warn("cannot read the job's limit again; it keeps the one that it has", "error", err)
		return
	}
	if rate, err := units.ParseRate(page.Jobs[0].Definition.Options.Limit); err == nil {
		e.m.o.Throttle.Set(e.claimed.Claim.JobID, rate)
	}
}
