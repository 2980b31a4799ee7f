package jobs

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/progress"
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
	// Detail says of a [NoticeWatched] that the job's files are looked at, too.
	Detail   bool                  `json:"detail,omitempty"`
	Files    []models.FileProgress `json:"files,omitempty"`    // of a [NoticeProgress], where they are looked at
	Unlisted int                   `json:"unlisted,omitempty"` // files that are not among them
}

// Shorter returns the notice with less in it, for a store that cannot carry all: files are
// left out, the finished ones first, then all but that something is new. ok is false when
// there is nothing to leave out.
func (n Notice) Shorter() (shorter Notice, ok bool) {
	switch {
	case len(n.Files) > 0:
		kept := fewer(n.Files, len(n.Files)/2)
		n.Unlisted += len(n.Files) - len(kept)
		n.Files = kept
	case n.Progress != nil:
		n = Notice{Type: NoticeJob, Job: n.Job}
	default:
		return n, false
	}
	return n, true
}

// fewer returns some of the files in their order, those first with which something is
// going on.
func fewer(files []models.FileProgress, most int) []models.FileProgress {
	order := make([]int, len(files))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rank(files[a]), rank(files[b])) })
	order = order[:most]
	slices.Sort(order)
	kept := make([]models.FileProgress, 0, most)
	for _, i := range order {
		kept = append(kept, files[i])
	}
	return kept
}

// rank is the lower, the more is going on with a file.
func rank(f models.FileProgress) int {
	switch progress.FileState(f.State) {
	case progress.Active, progress.Retrying:
		return 0
	case progress.Failed:
		return 1
	case progress.Waiting:
		return 2
	}
	return 3
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
		m.hub.ask(n.Job, m.lately(), n.Detail)
	case NoticeProgress:
		if n.Progress != nil {
			m.hub.remote(n)
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
	id := e.claimed.Claim.JobID
	if e.m.o.Notices == nil {
		return
	}
	asked, files := e.m.hub.askedFor(id)
	if !asked {
		return
	}
	p := e.progress
	n := Notice{Type: NoticeProgress, Job: id, Progress: &p}
	if files {
		n.Files = filesOf(e.m.hub.liveFiles(id))
	}
	e.m.tell(base, n)
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
