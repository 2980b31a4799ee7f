// Package memory is a [jobs.Store] that lives as long as the process, for
// tests: the daemon's is package sqlite.
//
// It is also the plainest statement of what a store does. A job has one time
// from which it may be claimed: its next attempt while it is pending, the end
// of its claim while it is running, none once it has ended. That time is by the
// steady clock, everything that people see by the wall clock.
package memory

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/clock"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// Store keeps jobs in memory. See [New].
type Store struct {
	clock clock.Clock
	mu    sync.Mutex
	byID  map[string]*record
	all   []*record // in order of creation
	seq   int64
	turns map[string]int64 // when each vCenter was last served
	turn  int64
	count map[models.Status]int

	daemons  []*entry
	outages  []*outage
	refusals []refusal
	divided
}

// record is one job.
type record struct {
	seq       int64
	job       models.Job // without Progress's pointer shared
	progress  models.Progress
	secret    []byte
	owner     string
	daemon    string // that claimed it last, for people
	epoch     int64
	ran       int       // claims that may have left something
	deaths    int       // see jobs.Claimed
	reached   float64   // per cent, in any run
	claimable time.Time // by the steady clock
	cancel    *job.Cancelled
	events    []models.Event
	lastEvent int64
}

// New returns an empty Store.
func New() *Store { return NewAt(nil) }

// NewAt is New with another wall clock than time.Now.
func NewAt(wall func() time.Time) *Store {
	return &Store{
		clock: clock.New(wall),
		byID:  make(map[string]*record),
		turns: make(map[string]int64),
		count: make(map[models.Status]int),
	}
}

// Create implements [jobs.Queue].
func (s *Store) Create(ctx context.Context, batch []jobs.NewJob) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var taken []string
	fresh := make(map[string]bool)
	for _, n := range batch {
		id := n.Definition.ID
		if s.byID[id] != nil || fresh[id] {
			taken = append(taken, id)
		}
		fresh[id] = true
	}
	if len(taken) > 0 {
		return &jobs.ExistsError{IDs: taken}
	}
	now := s.clock.Now()
	for _, n := range batch {
		s.seq++
		r := &record{
			seq:       s.seq,
			job:       models.Job{Definition: n.Definition},
			progress:  models.Progress{Phase: string(models.StatusPending)},
			secret:    slices.Clone(n.Secret),
			claimable: s.clock.Steady(),
		}
		s.byID[n.Definition.ID] = r
		s.all = append(s.all, r)
		s.move(r, models.StatusPending, "", now)
	}
	return nil
}

// Heartbeat implements [jobs.Queue].
func (s *Store) Heartbeat(ctx context.Context, l jobs.Claim, b jobs.Beat) (jobs.Signals, error) {
	if err := ctx.Err(); err != nil {
		return jobs.Signals{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.held(l)
	if err != nil {
		return jobs.Signals{}, err
	}
	r.claimable = s.clock.Steady().Add(b.Hold)
	r.job.UpdatedAt = s.clock.Now()
	if b.Progress != nil {
		r.progress = *b.Progress
	}
	if percent := r.progress.PercentComplete; percent >= r.reached+1 {
		r.reached, r.deaths = percent, 0
	}
	r.log(b.Events...)
	return jobs.Signals{Cancel: r.cancel, Deaths: r.deaths}, nil
}

// held returns the record of a claim that holds.
func (s *Store) held(l jobs.Claim) (*record, error) {
	r := s.byID[l.JobID]
	if r == nil || r.job.Status != models.StatusRunning || r.owner != l.Owner || r.epoch != l.Epoch {
		return nil, jobs.ErrFenced
	}
	return r, nil
}

// Finish implements [jobs.Queue].
func (s *Store) Finish(ctx context.Context, l jobs.Claim, o jobs.Outcome) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.held(l)
	if err != nil {
		return err
	}
	now := s.clock.Now()
	r.owner, r.deaths = "", 0
	r.job.Result = o.Result
	if o.Progress != nil {
		r.progress = *o.Progress
	}
	if o.Failed {
		r.job.Attempts++
	}
	if o.Untouched {
		r.ran--
	}
	if r.ran == 0 {
		r.job.StartedAt = nil
	}
	r.log(o.Events...)
	r.claimable = s.clock.Steady()
	if r.cancel == nil {
		r.claimable = r.claimable.Add(o.Delay)
	}
	s.move(r, o.Status, o.Error, now)
	return nil
}

// Cancel implements [jobs.Control].
func (s *Store) Cancel(ctx context.Context, id string, c job.Cancelled) (models.Status, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.byID[id]
	switch {
	case r == nil:
		return "", jobs.ErrNotFound
	case r.job.Status == models.StatusCancelled:
		return r.job.Status, nil
	case r.job.Status.Final():
		return r.job.Status, jobs.ErrFinished
	case r.cancel != nil:
		return r.job.Status, nil
	}
	now := s.clock.Now()
	if r.ran == 0 {
		s.move(r, models.StatusCancelled, "", now)
		return r.job.Status, nil
	}
	r.cancel = &c
	r.job.UpdatedAt = now
	if r.job.Status == models.StatusPending {
		r.claimable = s.clock.Steady()
	}
	return r.job.Status, nil
}

// Retry implements [jobs.Control].
func (s *Store) Retry(ctx context.Context, ids []string) (map[string]error, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	outcome := make(map[string]error, len(ids))
	for _, id := range ids {
		if _, seen := outcome[id]; !seen {
			outcome[id] = s.retry(id)
		}
	}
	return outcome, nil
}

func (s *Store) retry(id string) error {
	r := s.byID[id]
	switch {
	case r == nil:
		return jobs.ErrNotFound
	case r.job.Status == models.StatusCompleted:
		return jobs.ErrCompleted
	case !r.job.Status.Final():
		return jobs.ErrNotFinished
	case r.secret == nil && r.job.Definition.Username != "":
		return jobs.ErrNoPassword
	}
	r.job.Attempts, r.deaths, r.reached = 0, 0, 0
	r.job.StartedAt, r.job.CompletedAt, r.job.Result = nil, nil, nil
	r.progress = models.Progress{Phase: string(models.StatusPending)}
	r.claimable = s.clock.Steady()
	s.move(r, models.StatusPending, "", s.clock.Now())
	return nil
}

// SetLimit implements [jobs.Control].
func (s *Store) SetLimit(ctx context.Context, id, limit string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.byID[id]
	switch {
	case r == nil:
		return jobs.ErrNotFound
	case r.job.Status.Final():
		return jobs.ErrFinished
	}
	r.job.Definition.Options.Limit = limit
	r.job.UpdatedAt = s.clock.Now()
	return nil
}

// Delete implements [jobs.Control].
func (s *Store) Delete(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.byID[id]
	switch {
	case r == nil:
		return jobs.ErrNotFound
	case !r.job.Status.Final():
		return jobs.ErrNotFinished
	}
	s.remove(r)
	return nil
}

// remove forgets a job that has ended.
func (s *Store) remove(r *record) {
	s.count[r.job.Status]--
	delete(s.byID, r.job.Definition.ID)
	s.all = slices.DeleteFunc(s.all, func(o *record) bool { return o == r })
}

// Check implements [jobs.Reader].
func (s *Store) Check(context.Context) ([]string, error) { return nil, nil }

// List implements [jobs.Reader].
func (s *Store) List(ctx context.Context, q jobs.Query) (jobs.Page, error) {
	if err := ctx.Err(); err != nil {
		return jobs.Page{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.IDs != nil {
		return s.byIDs(q.IDs), nil
	}
	below := s.seq + 1
	if q.Cursor != "" {
		var err error
		if below, err = strconv.ParseInt(q.Cursor, 10, 64); err != nil {
			return jobs.Page{}, jobs.ErrCursor
		}
	}
	page := jobs.Page{Jobs: []models.Job{}}
	for _, r := range slices.Backward(s.all) {
		if len(q.Statuses) > 0 && !slices.Contains(q.Statuses, r.job.Status) {
			continue
		}
		page.Total++
		switch {
		case r.seq >= below || page.Next != "":
		case q.Limit > 0 && len(page.Jobs) == q.Limit:
			page.Next = strconv.FormatInt(r.seq+1, 10)
		default:
			page.Jobs = append(page.Jobs, s.view(r))
		}
	}
	return page, nil
}

func (s *Store) byIDs(ids []string) jobs.Page {
	page := jobs.Page{Jobs: []models.Job{}}
	seen := make(map[string]bool)
	for _, id := range ids {
		if r := s.byID[id]; r != nil && !seen[id] {
			seen[id] = true
			page.Jobs = append(page.Jobs, s.view(r))
		}
	}
	page.Total = len(page.Jobs)
	return page
}

// Waiting implements [jobs.Reader].
func (s *Store) Waiting(ctx context.Context, vcenter string) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.all {
		if r.job.Status == models.StatusPending && r.cancel == nil && r.job.Definition.VCenterKey() == vcenter {
			n++
		}
	}
	return n, nil
}

// Counts implements [jobs.Reader].
func (s *Store) Counts(ctx context.Context) (jobs.Counts, error) {
	if err := ctx.Err(); err != nil {
		return jobs.Counts{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return jobs.Counts{
		Pending:   s.count[models.StatusPending],
		Running:   s.count[models.StatusRunning],
		Completed: s.count[models.StatusCompleted],
		Failed:    s.count[models.StatusFailed],
		Cancelled: s.count[models.StatusCancelled],
	}, nil
}

// Events implements [jobs.Reader].
func (s *Store) Events(ctx context.Context, id string, after int64, limit int) ([]models.Event, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.byID[id]
	if r == nil {
		return nil, jobs.ErrNotFound
	}
	from, _ := slices.BinarySearchFunc(r.events, after+1, func(e models.Event, id int64) int {
		return cmp.Compare(e.ID, id)
	})
	events := r.events[from:]
	if limit > 0 && len(events) > limit {
		events = events[:limit]
	}
	return slices.Clone(events), nil
}

// move gives a job a status, counts it there, and logs the change.
func (s *Store) move(r *record, to models.Status, text string, now time.Time) {
	if r.job.Status != "" {
		s.count[r.job.Status]--
	}
	s.count[to]++
	r.job.Status = to
	r.job.Error = text
	r.job.UpdatedAt = now
	if to.Final() {
		r.job.CompletedAt = &now
		r.cancel = nil
	}
	if to == models.StatusCompleted {
		r.secret = nil
	}
	r.log(models.Event{Type: models.EventState, Time: now, Status: to, Error: text})
}

// log appends events and drops the oldest above the bound.
func (r *record) log(events ...models.Event) {
	for _, e := range events {
		r.lastEvent++
		e.ID = r.lastEvent
		r.events = append(r.events, e)
	}
	if n := len(r.events) - jobs.MaxEvents; n > 0 {
		r.events = slices.Delete(r.events, 0, n)
	}
}

// view returns the job as others see it.
func (s *Store) view(r *record) models.Job {
	j := r.job
	progress := r.progress
	j.Progress = &progress
	j.Cancelling = r.cancel != nil
	if j.Status == models.StatusPending && r.claimable.After(s.clock.Steady()) {
		at := s.clock.Shown(r.claimable)
		j.NextAttempt = &at
	}
	return j
}
