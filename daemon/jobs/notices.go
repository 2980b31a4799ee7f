package jobs

import (
	"context"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
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
