package metrics

import (
	"context"
	"errors"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// troubles are the values of the label of store_errors_total.
var troubles = []string{
	string(jobs.TroubleFull), string(jobs.TroubleReadOnly), string(jobs.TroubleBusy),
	string(jobs.TroubleGone), string(jobs.TroubleBroken), string(jobs.TroubleAway), string(jobs.TroubleDenied), "other",
}

// troubleOf is what is wrong with a store that gave err; empty when nothing is: no
// error, or one that is an answer.
func troubleOf(err error) string {
	if err == nil {
		return ""
	}
	if trouble := new(jobs.StoreError); errors.As(err, &trouble) {
		return string(trouble.Trouble)
	}
	for _, answer := range []error{
		jobs.ErrNotFound, jobs.ErrNoJob, jobs.ErrFenced, jobs.ErrFinished, jobs.ErrNotFinished, jobs.ErrCompleted,
		jobs.ErrCursor, jobs.ErrExists, jobs.ErrNoPassword, context.Canceled,
	} {
		if errors.Is(err, answer) {
			return ""
		}
	}
	return "other"
}

// store observes a [jobs.Store].
type store struct {
	jobs.Store
	m *Metrics
}

// Store returns s with its operations timed and its failures counted.
func (m *Metrics) Store(s jobs.Store) jobs.Store { return store{s, m} }

// timed notes how an operation went, when the function that it returns is called.
func (s store) timed(operation string, err *error) func() {
	began := time.Now()
	return func() {
		s.m.storeTime.WithLabelValues(operation).Observe(time.Since(began).Seconds())
		if t := troubleOf(*err); t != "" {
			s.m.storeFails.WithLabelValues(t).Inc()
		}
	}
}

func (s store) Create(ctx context.Context, batch []jobs.NewJob) (err error) {
	defer s.timed("create", &err)()
	return s.Store.Create(ctx, batch)
}

func (s store) Claim(ctx context.Context, r jobs.ClaimRequest) (c jobs.Claimed, err error) {
	defer s.timed("claim", &err)()
	return s.Store.Claim(ctx, r)
}

func (s store) Heartbeat(ctx context.Context, c jobs.Claim, b jobs.Beat) (signals jobs.Signals, err error) {
	defer s.timed("heartbeat", &err)()
	return s.Store.Heartbeat(ctx, c, b)
}

func (s store) Finish(ctx context.Context, c jobs.Claim, o jobs.Outcome) (err error) {
	defer s.timed("finish", &err)()
	return s.Store.Finish(ctx, c, o)
}

func (s store) Cancel(ctx context.Context, id string, c job.Cancelled) (status models.Status, err error) {
	defer s.timed("cancel", &err)()
	return s.Store.Cancel(ctx, id, c)
}

func (s store) Retry(ctx context.Context, ids []string) (outcome map[string]error, err error) {
	defer s.timed("retry", &err)()
	return s.Store.Retry(ctx, ids)
}

func (s store) SetLimit(ctx context.Context, id, limit string) (err error) {
	defer s.timed("set_limit", &err)()
	return s.Store.SetLimit(ctx, id, limit)
}

func (s store) Delete(ctx context.Context, id string) (err error) {
	defer s.timed("delete", &err)()
	return s.Store.Delete(ctx, id)
}

func (s store) List(ctx context.Context, q jobs.Query) (page jobs.Page, err error) {
	defer s.timed("list", &err)()
	return s.Store.List(ctx, q)
}

func (s store) Waiting(ctx context.Context, vcenter string) (n int, err error) {
	defer s.timed("waiting", &err)()
	return s.Store.Waiting(ctx, vcenter)
}

func (s store) Counts(ctx context.Context) (c jobs.Counts, err error) {
	defer s.timed("counts", &err)()
	return s.Store.Counts(ctx)
}

func (s store) Check(ctx context.Context) (notes []string, err error) {
	defer s.timed("check", &err)()
	return s.Store.Check(ctx)
}

func (s store) Events(ctx context.Context, id string, after int64, limit int) (events []models.Event, err error) {
	defer s.timed("events", &err)()
	return s.Store.Events(ctx, id, after, limit)
}
