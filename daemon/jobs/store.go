package jobs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// Errors by which stores and the [Manager] tell what went wrong.
var (
	// ErrNotFound: there is no such job.
	ErrNotFound = errors.New("no such job")
	// ErrNoJob: nothing can be claimed now.
	ErrNoJob = errors.New("no job to run")
	// ErrFenced: the claim no longer holds; another owner or a later
	// epoch of the same one holds it, or the job has ended. Nothing was
	// written.
	ErrFenced = errors.New("the claim on the job is lost")
	// ErrFinished: the job has ended, so it cannot be cancelled.
	ErrFinished = errors.New("the job has already ended")
	// ErrNotFinished: the job has not ended, so it cannot be deleted or tried
	// again.
	ErrNotFinished = errors.New("the job has not ended")
	// ErrCompleted: the job was completed, so there is nothing to try again.
	ErrCompleted = errors.New("the job is completed")
	// ErrUsable: no job waits for the vCenter.
	ErrUsable = errors.New("no job waits for this vCenter; a login that it refused may be tried again")
	// ErrCursor: a cursor is not one that an earlier page gave.
	ErrCursor = errors.New("invalid cursor")
	// ErrExists is what an *[ExistsError] is.
	ErrExists = errors.New("the job id is already taken")
)

// ExistsError tells which of the jobs to be created have ids that are taken.
// errors.Is(err, [ErrExists]) holds.
type ExistsError struct{ IDs []string }

// Error names the ids.
func (e *ExistsError) Error() string {
	return fmt.Sprintf("%v: %s", ErrExists, strings.Join(e.IDs, ", "))
}

// Unwrap returns [ErrExists].
func (e *ExistsError) Unwrap() error { return ErrExists }

// Store keeps jobs, the claims on them, and their event logs.
//
// Each method that writes is one transaction; all may be called from any goroutine. Every
// change of a job's status appends an event of type [models.EventState] to its
// log in the same transaction. Times come from the clock that all daemons on
// the store share; claims and delays are measured by one that does not jump
// when that one is set. Stores never see a password in the clear and return a
// sealed one from Claim only.
//
// What keeps a store from working at all is a *[StoreError].
//
// Every implementation passes the suite of package storetest.
type Store interface {
	Queue
	Control
	Reader
}

// Queue is the part of a [Store] that runs jobs.
type Queue interface {
	// Create adds jobs as pending: all of them or, with an *[ExistsError],
	// none.
	Create(ctx context.Context, jobs []NewJob) error

	// Claim gives the next job to an owner and makes it running, or returns
	// [ErrNoJob]. A job can be claimed when it is pending and its next attempt
	// is due, or when it is running and its claim has run out, unless the
	// owner holds that claim itself: it asks, so it is alive. A daemon that is to be
	// drained (see [Daemons]) gets none, but those to be cleaned up. Higher
	// priorities go first; among equals the vCenter that was served longest
	// ago; then the job that was created first.
	//
	// Claiming a job that is running counts a death of its owner: see
	// [Claimed.Deaths].
	Claim(ctx context.Context, r ClaimRequest) (Claimed, error)

	// Heartbeat records what a running job has to tell and extends its claim,
	// or returns [ErrFenced]. Progress that goes further than the job ever
	// was, by a per cent or more, forgets the deaths.
	Heartbeat(ctx context.Context, c Claim, b Beat) (Signals, error)

	// Finish ends a run, with a final status or back to pending, or returns
	// [ErrFenced]. A job for which a cancel was asked does not go back to
	// waiting: it is due at once, so that it can be claimed and cleaned up.
	// An end in good order forgets the deaths.
	Finish(ctx context.Context, c Claim, o Outcome) error
}

// Control is the part of a [Store] by which people steer jobs. When there is no
// such job, the answer is [ErrNotFound].
type Control interface {
	// Cancel asks for a job to be cancelled and returns its status after
	// that: cancelled when it never ran (see [Outcome.Untouched]), and
	// otherwise pending or running, with the request kept until a run with
	// that job's claim has cleaned up.
	// It returns cancelled for a job that is, and [ErrFinished] for one that
	// ended otherwise.
	Cancel(ctx context.Context, id string, c job.Cancelled) (models.Status, error)

	// Retry makes failed and cancelled jobs pending again with all their
	// attempts. It returns for each id nil, [ErrNotFound], [ErrNotFinished],
	// [ErrCompleted] or, for a job with a user of its own whose password was
	// dropped, [ErrNoPassword]; or an error, when nothing has changed.
	Retry(ctx context.Context, ids []string) (map[string]error, error)

	// SetLimit changes Options.Limit of a job's definition, for its runs from
	// now on, or returns [ErrFinished] for one that has ended.
	SetLimit(ctx context.Context, id, limit string) error

	// Delete forgets a job that has ended, or returns [ErrNotFinished].
	Delete(ctx context.Context, id string) error
}

// Reader is the part of a [Store] that only looks.
type Reader interface {
	// List returns jobs as q asks. An unknown cursor is [ErrCursor].
	List(ctx context.Context, q Query) (Page, error)

	// Waiting returns how many jobs of a vCenter (see
	// [job.Definition.VCenterKey]) are pending and not to be cancelled.
	Waiting(ctx context.Context, vcenter string) (int, error)

	// Counts returns how many jobs there are, at a cost that does not depend
	// on it.
	Counts(ctx context.Context) (Counts, error)

	// Check returns nil when the store can be read and written now, with what a
	// person should see to all the same, and a *[StoreError] or another error
	// when not.
	Check(ctx context.Context) (notes []string, err error)

	// Events returns at most limit kept events of a job whose IDs are greater
	// than after, in order; limit 0 is all of them. Only the newest
	// [MaxEvents] of a job are kept. It returns [ErrNotFound] when there is no
	// such job.
	Events(ctx context.Context, id string, after int64, limit int) ([]models.Event, error)
}

// MaxEvents is how many events of a job a store keeps; older ones are dropped.
const MaxEvents = 1000

// NewJob is a job to be created. Definition.ID is set and Definition.Password
// is empty.
type NewJob struct {
	Definition job.Definition
	Secret     []byte // sealed password, nil for none
}

// ClaimRequest says for whom a job is claimed, and which one.
type ClaimRequest struct {
	Owner string        // unique to one run of one daemon
	Hold  time.Duration // how long the claim holds without a heartbeat
	// Daemon is the owner as people call it, also after a restart; it may be empty.
	Daemon string

	// Cancelling asks for a job that is to be cancelled and that nobody runs,
	// so that what it left can be cleaned up. Otherwise such jobs are passed
	// over.
	Cancelling bool

	// Full names the vCenters (see [job.Definition.VCenterKey]) of
	// which no job is to be claimed.
	Full []string
	// Most says how many jobs of some vCenters may run at once, at all daemons on the
	// store together: claims that hold are counted.
	Most map[string]int
	// Refused names those of which only jobs that bring a user of their own
	// are to be claimed.
	Refused []string

	// Labels are the owner's: no job is to be claimed that asks for others.
	Labels job.Labels

	// Below names directories: no job is to be claimed whose output is at or below
	// one of them (see [Below]).
	Below []string

	// Deaths asks for a job whose [Claimed.Deaths] will be at least as many.
	Deaths int
}

// Claim is what a daemon has on a job that it runs. Epoch grows with every claim of the
// job, so writes by an owner that was given up are told from the present
// one's.
type Claim struct {
	JobID string
	Owner string
	Epoch int64
}

// Claimed is a job as the owner of its claim gets it.
type Claimed struct {
	Claim    Claim
	Job      models.Job
	Secret   []byte         // as given to Create
	Cancel   *job.Cancelled // set when asked for
	Failures int            // failed attempts so far
	// Before is the Daemon of the claim before this one; empty when there was none, or it
	// did not say.
	Before string

	// Deaths counts the claims of the job whose owner neither ended them nor
	// got further than the job had been before. It is 0 again after each end
	// in good order.
	Deaths int
}

// Beat is what a heartbeat reports.
type Beat struct {
	Hold     time.Duration    // new time to live of the claim, from now
	Progress *models.Progress // nil leaves what is stored
	Events   []models.Event   // to be appended; their IDs are given by the store
}

// Signals is what a heartbeat brings back.
type Signals struct {
	Cancel *job.Cancelled // set when a cancel was asked for
	Deaths int            // as in [Claimed]; 0 once the job has got further
}

// Outcome is how a run ended.
type Outcome struct {
	// Status is final, or pending to hand the job back.
	Status   models.Status
	Result   *job.Result
	Error    string // why it failed, empty otherwise
	Progress *models.Progress
	Events   []models.Event // appended before the change of status

	// Untouched says that the run did nothing that would have to be cleaned
	// up: if no other did, the job counts as one that never ran.
	Untouched bool
	// Failed counts the run as a failed attempt of the job.
	Failed bool
	// Delay is how long a job handed back waits for its next attempt.
	Delay time.Duration
}

// Query asks for jobs.
type Query struct {
	// IDs, when not nil, asks for these jobs, in this order, and nothing else
	// is looked at. Unknown ones are left out.
	IDs []string
	// Statuses, when not empty, asks for jobs in one of them.
	Statuses []models.Status
	// Limit bounds the jobs in a page; 0 is no bound.
	Limit int
	// Cursor is [Page.Next] of the page before, empty for the first.
	Cursor string
}

// Page is a part of the jobs that a [Query] asks for, newest first.
type Page struct {
	Jobs  []models.Job
	Total int    // jobs in all pages
	Next  string // cursor of the next page, empty after the last
}

// Counts is how many jobs have each status.
type Counts struct {
	Pending, Running, Completed, Failed, Cancelled int
}

// Total is the number of jobs.
func (c Counts) Total() int {
	return c.Pending + c.Running + c.Completed + c.Failed + c.Cancelled
}

// Of returns the count of status s, 0 for an unknown one.
func (c Counts) Of(s models.Status) int {
	switch s {
	case models.StatusPending:
		return c.Pending
	case models.StatusRunning:
		return c.Running
	case models.StatusCompleted:
		return c.Completed
	case models.StatusFailed:
		return c.Failed
	case models.StatusCancelled:
		return c.Cancelled
	}
	return 0
}

// Sealer encrypts passwords at rest.
type Sealer interface {
	Seal(plain []byte) ([]byte, error)
	Open(sealed []byte) ([]byte, error)
}
