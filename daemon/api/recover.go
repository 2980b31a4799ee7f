package api

import (
	"context"
	"fmt"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// retryPage is how many jobs are made pending again at once.
const retryPage = 500

// registerRecovery adds the routes by which people go on after trouble.
func (b builder) registerRecovery(a *API) {
	one := b.op("retry-job", "POST", "/jobs/{id}/retry", "Queue a failed or cancelled job again")
	one.Description = "It goes on from what is on disk."
	huma.Register(b.h, one, a.retry)

	many, body := b.withBody(b.op("retry-jobs", "POST", "/jobs/retry", "Queue failed or cancelled jobs again"))
	many.Description = "The jobs with the ids in job_ids, or without any all that have one of the statuses in status: failed, cancelled. " +
		"A login that was refused is tried again, once for each user."
	huma.Register(b.h, many, a.retryMany)
	body.Content = b.json(reflect.TypeFor[models.Retry]())

	resume := b.op("resume-vcenter", "POST", "/vcenters/{name}/resume", "Try a vCenter again that jobs wait for")
	resume.Description = "At once, and with a login that was refused. name is as in /status. 404 when no job waits for it; a login that was refused is tried again then, too."
	huma.Register(b.h, resume, a.resume)
}

func (a *API) retry(ctx context.Context, in *idInput) (*reply[models.Job], error) {
	err := a.audited(ctx, audit.Entry{Action: audit.Retry, Jobs: auditedIDs([]string{in.ID})}, func() error {
		if err := a.jobs.Retry(ctx, in.ID); err != nil {
			return a.fail(ctx, "retry", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a.job(ctx, in)
}

func (a *API) retryMany(ctx context.Context, in *rawInput) (*reply[models.RetryResult], error) {
	var r models.Retry
	if err := decodeJSON(in.RawBody, &r); err != nil {
		return nil, err
	}
	return answered(a.Retry(ctx, r))
}

// Retry does what POST /jobs/retry does.
func (a *API) Retry(ctx context.Context, r models.Retry) (out models.RetryResult, err error) {
	if err := a.need(ctx, "POST /jobs/retry"); err != nil {
		return out, err
	}
	if (len(r.JobIDs) > 0) == (len(r.Status) > 0) {
		return out, failure(http.StatusBadRequest, "body: give either job_ids, or status with failed, cancelled, or both")
	}
	for _, s := range r.Status {
		if s != models.StatusFailed && s != models.StatusCancelled {
			return out, failure(http.StatusUnprocessableEntity, "retry", models.ProblemDetail{
				Location: "body.status", Message: "must be of failed, cancelled: other jobs cannot be queued again",
			})
		}
	}
	e := audit.Entry{Action: audit.Retry, Jobs: auditedIDs(distinct(r.JobIDs))}
	if len(r.Status) > 0 {
		e.Target = fmt.Sprintf("all that are %v", r.Status)
	}
	change, err := a.begin(ctx, e)
	if err != nil {
		return out, err
	}
	out = models.RetryResult{Retried: []string{}, Failed: []string{}, Errors: map[string]string{}, Timestamp: a.now()}
	err = a.retryPages(ctx, r, &out)
	result := audit.Entry{Done: len(out.Retried), Failed: out.Failed}
	if len(r.Status) > 0 {
		result.Jobs = auditedIDs(out.Retried)
	}
	a.end(ctx, change, result, err)
	return out, err
}

// retryPages makes the jobs that r asks for pending again, some at a time, and
// adds what became of it to out.
func (a *API) retryPages(ctx context.Context, r models.Retry, out *models.RetryResult) error {
	q := jobs.Query{Statuses: r.Status, Limit: retryPage}
	for ids := distinct(r.JobIDs); ; {
		page := ids[:min(len(ids), retryPage)]
		ids = ids[len(page):]
		if len(r.Status) > 0 {
			found, err := a.jobs.Query(ctx, q)
			if err != nil {
				return a.fail(ctx, "retry", err)
			}
			for _, j := range found.Jobs {
				page = append(page, j.Definition.ID)
			}
			q.Cursor = found.Next
		}
		if err := a.retryPage(ctx, page, out); err != nil {
			return a.fail(ctx, "retry", err)
		}
		if len(ids) == 0 && q.Cursor == "" {
			return nil
		}
	}
}

// retryPage makes some jobs pending again and adds what became of it to out.
func (a *API) retryPage(ctx context.Context, ids []string, out *models.RetryResult) error {
	if len(ids) == 0 {
		return nil
	}
	outcome, err := a.jobs.RetryAll(ctx, ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := outcome[id]; err != nil {
			out.Failed = append(out.Failed, id)
			out.Errors[id] = a.fail(ctx, "retry", err).Error()
			continue
		}
		out.Retried = append(out.Retried, id)
	}
	return nil
}

// defaultVCenter is how the vCenter of jobs that name none is called where a
// name has to stand.
const defaultVCenter = "default"

func (a *API) resume(ctx context.Context, in *struct {
	Name string `path:"name" doc:"Name of the vCenter as /status gives it"`
}) (*reply[models.Resumed], error) {
	return answered(a.Resume(ctx, in.Name))
}

// Resume does what POST /vcenters/{name}/resume does.
func (a *API) Resume(ctx context.Context, name string) (models.Resumed, error) {
	if err := a.need(ctx, "POST /vcenters/{name}/resume"); err != nil {
		return models.Resumed{}, err
	}
	err := a.audited(ctx, audit.Entry{Action: audit.ResumeVCenter, Target: name}, func() error {
		err := a.jobs.Resume(name)
		if err != nil && name == defaultVCenter {
			err = a.jobs.Resume("")
		}
		if err != nil {
			return a.fail(ctx, "resume", err)
		}
		return nil
	})
	return models.Resumed{Name: name, Timestamp: a.now()}, err
}

// vcenters are those that cannot be used, for /status.
func (a *API) vcenters(ctx context.Context) ([]models.VCenter, error) {
	all, err := a.jobs.VCenters(ctx)
	out := make([]models.VCenter, len(all))
	for i, v := range all {
		out[i] = models.VCenter{
			Name: v.Name, State: string(v.State), Since: v.Since, Reason: v.Reason, NextProbe: v.NextProbe, Waiting: v.Waiting,
		}
		if v.Name == "" {
			out[i].Name = defaultVCenter
		}
	}
	return out, err
}
