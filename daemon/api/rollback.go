package api

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// rollbackInput is the body of a way back.
type rollbackInput struct {
	ID      string `path:"id" doc:"Id of the job"`
	RawBody []byte
}

// registerRollback adds the route that goes back from a job.
func (b builder) registerRollback(a *API) {
	op, body := b.withBody(b.op("rollback-job", "POST", "/jobs/{id}/rollback", "Go back to the source of a job that has ended"))
	op.Description = "Stops the guest that the job landed at libvirt, undoes the marks of the source, and powers it on if it ran. " +
		"It is a job of its own, which is answered: follow that. While the guest runs, or libvirt cannot be asked, the source stays off and that job fails. " +
		"Asked for again, it answers the job that there is, unless that failed or was cancelled. " +
		"409 while the job has not ended, when it is such a way back itself, and when it needs a password."
	huma.Register(b.h, op, a.rollback)
	body.Required = false
	body.Content = b.json(reflect.TypeFor[models.Rollback]())
}

func (a *API) rollback(ctx context.Context, in *rollbackInput) (*reply[models.Job], error) {
	var how models.Rollback
	if len(bytes.TrimSpace(in.RawBody)) > 0 {
		if err := decodeJSON(in.RawBody, &how); err != nil {
			return nil, err
		}
	}
	e := audit.Entry{Action: audit.Rollback, Jobs: auditedIDs([]string{in.ID})}
	if how.TargetIsStopped {
		e.Value = "target_is_stopped"
	}
	change, err := a.begin(ctx, e)
	if err != nil {
		return nil, err
	}
	id, err := a.jobs.RollBack(ctx, in.ID, job.Rollback{StopTimeout: how.StopTimeout, TargetIsStopped: how.TargetIsStopped}, how.Password)
	if err != nil {
		err = a.rollbackFailed(ctx, err)
		a.end(ctx, change, audit.Entry{}, err)
		return nil, err
	}
	a.end(ctx, change, audit.Entry{Done: 1, Jobs: auditedIDs([]string{id})}, nil)
	return a.job(ctx, &idInput{ID: id})
}

// rollbackFailed maps an error of [jobs.Manager.RollBack].
func (a *API) rollbackFailed(ctx context.Context, err error) error {
	if rejected := new(jobs.Rejection); errors.As(err, rejected) {
		return failure(http.StatusUnprocessableEntity, "rollback: "+refused(ctx, rejected.Err))
	}
	if errors.Is(err, jobs.ErrNoPassword) {
		return failure(http.StatusConflict, "rollback: the job brought a user of its own along, whose password is not kept: give it as password")
	}
	return a.fail(ctx, "rollback", err)
}
