package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

type healthReply struct {
	Status int
	Body   models.Health
}

// health answers everybody. Details are for those who can do something about them.
func (a *API) health(ctx context.Context, _ *struct{}) (*healthReply, error) {
	notes, err := a.jobs.Health(ctx)
	r := &healthReply{Status: http.StatusOK, Body: models.Health{Status: models.Healthy, Timestamp: a.now()}}
	if err != nil {
		r.Status = http.StatusServiceUnavailable
		r.Body.Status = models.Unhealthy
	}
	if access.FromContext(ctx).May(access.Operator) {
		r.Body.Warnings = notes
		if err != nil {
			r.Body.Error = a.reason(ctx, err)
		}
	}
	return r, nil
}

// reason is why the daemon is not well, as its /health says. Trouble of the store
// is not logged for each who asks: [jobs.Manager.WatchStore] does that once.
func (a *API) reason(ctx context.Context, err error) string {
	if trouble := new(jobs.StoreError); errors.As(err, &trouble) {
		return trouble.Error()
	}
	return a.fail(ctx, "health", err).Error()
}

func (a *API) status(ctx context.Context, _ *struct{}) (*reply[models.DaemonStatus], error) {
	n, err := a.jobs.Stats(ctx)
	if err != nil {
		return nil, a.fail(ctx, "status", err)
	}
	away, err := a.vcenters(ctx)
	if err != nil {
		return nil, a.fail(ctx, "status", err)
	}
	return &reply[models.DaemonStatus]{models.DaemonStatus{
		Version:       a.o.Version,
		Uptime:        time.Since(a.started).Round(time.Second).String(),
		TotalJobs:     n.Total(),
		PendingJobs:   n.Pending,
		RunningJobs:   n.Running,
		CompletedJobs: n.Completed,
		FailedJobs:    n.Failed,
		CancelledJobs: n.Cancelled,
		VCenters:      away,
		Timestamp:     a.now(),
	}}, nil
}

type submitInput struct {
	ContentType string `header:"Content-Type" hidden:"true"`
	RawBody     []byte
	Atomic      bool `query:"atomic" doc:"Accept every job or none, as atomic in the body"`
}

type submitReply struct {
	Status int
	Body   models.SubmitResult
}

func (a *API) submit(ctx context.Context, in *submitInput) (*submitReply, error) {
	batch, err := decodeJobs(in.RawBody, in.ContentType)
	if err != nil {
		return nil, err
	}
	for i := range batch.Jobs {
		a.fill(&batch.Jobs[i])
	}
	change, err := a.begin(ctx, audit.Entry{Action: audit.Submit, Jobs: auditedJobs(batch.Jobs)})
	if err != nil {
		return nil, err
	}
	s, err := a.jobs.Submit(ctx, batch.Jobs, in.Atomic || batch.Atomic)
	if err != nil {
		err = a.fail(ctx, "submit", err)
		a.end(ctx, change, audit.Entry{}, err)
		return nil, err
	}
	out := &submitReply{Status: http.StatusOK, Body: models.SubmitResult{
		JobIDs:    append([]string{}, s.IDs...),
		Accepted:  len(s.IDs),
		Rejected:  len(batch.Jobs) - len(s.IDs),
		Errors:    []string{},
		Timestamp: a.now(),
	}}
	result := audit.Entry{Done: len(s.IDs)}
	for _, r := range s.Rejected {
		out.Body.Errors = append(out.Body.Errors, r.Error())
		result.Failed = append(result.Failed, batch.Jobs[r.Index].ID)
	}
	if out.Body.Accepted == 0 {
		out.Status = http.StatusUnprocessableEntity
	}
	result.Status = out.Status
	a.end(ctx, change, result, nil)
	return out, nil
}

// fill puts the daemon's defaults where a job says nothing. A vCenter is named
// now, so that its limits count the job whatever way it was submitted, and a
// later change of the default does not send it elsewhere.
func (a *API) fill(j *job.Definition) {
	if j.ID == "" {
		j.ID = uuid.NewString() // now, for the audit log
	}
	if j.Options.ParallelDownloads == 0 {
		j.Options.ParallelDownloads = a.o.ParallelDownloads
	}
	if j.VCenter == "" && j.VCenterURL == "" && j.Username == "" {
		j.VCenter = a.o.DefaultVCenter
	}
}

func (a *API) job(ctx context.Context, in *idInput) (*reply[models.Job], error) {
	j, err := a.jobs.Get(ctx, in.ID)
	if err != nil {
		return nil, a.fail(ctx, "job", err)
	}
	return &reply[models.Job]{shown(j)}, nil
}

func (a *API) cancel(ctx context.Context, in *rawInput) (*reply[models.CancelResult], error) {
	var c models.Cancel
	if err := decodeJSON(in.RawBody, &c); err != nil {
		return nil, err
	}
	if c.JobIDs == nil {
		return nil, failure(http.StatusBadRequest, "body: job_ids is missing; give the ids of the jobs to cancel")
	}
	ids := distinct(c.JobIDs)
	change, err := a.begin(ctx, audit.Entry{Action: audit.Cancel, Jobs: auditedIDs(ids)})
	if err != nil {
		return nil, err
	}
	outcome := a.jobs.Cancel(ctx, ids, job.Cancelled{KeepParts: c.KeepParts})
	out := models.CancelResult{
		Cancelled: []string{},
		Failed:    []string{},
		Errors:    map[string]string{},
		Timestamp: a.now(),
	}
	for _, id := range ids {
		if err := outcome[id]; err != nil {
			out.Failed = append(out.Failed, id)
			out.Errors[id] = a.fail(ctx, "cancel", err).Error()
			continue
		}
		out.Cancelled = append(out.Cancelled, id)
	}
	a.end(ctx, change, audit.Entry{Done: len(out.Cancelled), Failed: out.Failed}, nil)
	return &reply[models.CancelResult]{out}, nil
}

func (a *API) delete(ctx context.Context, in *idInput) (*struct{}, error) {
	return nil, a.audited(ctx, audit.Entry{Action: audit.Delete, Jobs: auditedIDs([]string{in.ID})}, func() error {
		if err := a.jobs.Delete(ctx, in.ID); err != nil {
			return a.fail(ctx, "delete", err)
		}
		return nil
	})
}

// shown is a job as the API gives it: without password, and with no null where
// the contract has a value.
func shown(j models.Job) models.Job {
	j.Definition = j.Definition.Redacted()
	if j.Progress == nil {
		j.Progress = &models.Progress{Phase: string(j.Status)}
	}
	if j.Result != nil && j.Result.Files == nil {
		r := *j.Result
		r.Files = []string{}
		j.Result = &r
	}
	return j
}
