package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
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
	return answered(a.Status(ctx))
}

// Status is the answer to GET /status.
func (a *API) Status(ctx context.Context) (models.DaemonStatus, error) {
	if err := a.need(ctx, "GET /status"); err != nil {
		return models.DaemonStatus{}, err
	}
	n, err := a.jobs.Stats(ctx)
	if err != nil {
		return models.DaemonStatus{}, a.fail(ctx, "status", err)
	}
	away, err := a.vcenters(ctx)
	if err != nil {
		return models.DaemonStatus{}, a.fail(ctx, "status", err)
	}
	return models.DaemonStatus{
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
	}, nil
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
	out, err := a.Submit(ctx, batch.Jobs, in.Atomic || batch.Atomic)
	if err != nil {
		return nil, err
	}
	return &submitReply{Status: submitStatus(out), Body: out}, nil
}

// submitStatus is the HTTP status for what became of a submission.
func submitStatus(r models.SubmitResult) int {
	if r.Accepted == 0 {
		return http.StatusUnprocessableEntity
	}
	return http.StatusOK
}

// Submit does what POST /jobs/submit does. What is wrong with jobs is in the result.
func (a *API) Submit(ctx context.Context, defs []job.Definition, atomic bool) (models.SubmitResult, error) {
	if err := a.need(ctx, "POST /jobs/submit"); err != nil {
		return models.SubmitResult{}, err
	}
	defs = slices.Clone(defs)
	for i := range defs {
		a.fill(&defs[i])
	}
	change, err := a.begin(ctx, audit.Entry{Action: audit.Submit, Jobs: auditedJobs(defs)})
	if err != nil {
		return models.SubmitResult{}, err
	}
	s, err := a.jobs.Submit(ctx, defs, atomic)
	if err != nil {
		err = a.fail(ctx, "submit", err)
		a.end(ctx, change, audit.Entry{}, err)
		return models.SubmitResult{}, err
	}
	out := models.SubmitResult{
		JobIDs:    append([]string{}, s.IDs...),
		Accepted:  len(s.IDs),
		Rejected:  len(defs) - len(s.IDs),
		Errors:    []string{},
		Timestamp: a.now(),
	}
	result := audit.Entry{Done: len(s.IDs), Status: submitStatus(out)}
	for _, r := range s.Rejected {
		out.Errors = append(out.Errors, r.Error())
		result.Failed = append(result.Failed, defs[r.Index].ID)
	}
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
	return answered(a.Job(ctx, in.ID))
}

// Job is the answer to GET /jobs/{id}.
func (a *API) Job(ctx context.Context, id string) (models.Job, error) {
	if err := a.need(ctx, "GET /jobs/{id}"); err != nil {
		return models.Job{}, err
	}
	j, err := a.jobs.Get(ctx, id)
	if err != nil {
		return models.Job{}, a.fail(ctx, "job", err)
	}
	return shown(j), nil
}

func (a *API) cancel(ctx context.Context, in *rawInput) (*reply[models.CancelResult], error) {
	var c models.Cancel
	if err := decodeJSON(in.RawBody, &c); err != nil {
		return nil, err
	}
	if c.JobIDs == nil {
		return nil, failure(http.StatusBadRequest, "body: job_ids is missing; give the ids of the jobs to cancel")
	}
	return answered(a.Cancel(ctx, c))
}

// Cancel does what POST /jobs/cancel does: it returns when the runs have ended.
func (a *API) Cancel(ctx context.Context, c models.Cancel) (models.CancelResult, error) {
	if err := a.need(ctx, "POST /jobs/cancel"); err != nil {
		return models.CancelResult{}, err
	}
	ids := distinct(c.JobIDs)
	change, err := a.begin(ctx, audit.Entry{Action: audit.Cancel, Jobs: auditedIDs(ids)})
	if err != nil {
		return models.CancelResult{}, err
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
	return out, nil
}

func (a *API) delete(ctx context.Context, in *idInput) (*struct{}, error) {
	return nil, a.Delete(ctx, in.ID)
}

// Delete does what DELETE /jobs/{id} does.
func (a *API) Delete(ctx context.Context, id string) error {
	if err := a.need(ctx, "DELETE /jobs/{id}"); err != nil {
		return err
	}
	return a.audited(ctx, audit.Entry{Action: audit.Delete, Jobs: auditedIDs([]string{id})}, func() error {
		if err := a.jobs.Delete(ctx, id); err != nil {
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
