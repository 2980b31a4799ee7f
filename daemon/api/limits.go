package api

import (
	"context"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// registerLimits adds the routes that show and change bandwidths.
func (b builder) registerLimits(a *API) {
	get := b.op("get-limits", "GET", "/limits", "Bandwidth of all jobs together")
	get.Description = "As it is now, which may be another than the configuration's."
	huma.Register(b.h, get, a.limits)

	put, body := b.withBody(b.op("set-limits", "PUT", "/limits", "Change the bandwidth of all jobs together"))
	put.Description = "Takes effect at once. It is not kept: at the next start the daemon has the limit of its configuration."
	huma.Register(b.h, put, a.setLimits)
	body.Content = b.json(reflect.TypeFor[models.SetLimit]())

	j, body := b.withBody(b.op("set-job-limit", "PUT", "/jobs/{id}/limit", "Change a job's bandwidth"))
	j.Description = "Takes effect at once, also while the job runs, and is kept with the job. " +
		"The limit of all jobs together holds beside it. 409 when the job has ended."
	huma.Register(b.h, j, a.setJobLimit)
	body.Content = b.json(reflect.TypeFor[models.SetLimit]())
}

func (a *API) limits(context.Context, *struct{}) (*reply[models.Limits], error) {
	if a.o.Bandwidth == nil {
		return nil, failure(http.StatusNotImplemented, "limits: this daemon has no limit to change")
	}
	n := a.o.Bandwidth.Limit()
	return &reply[models.Limits]{models.Limits{Limit: units.FormatRate(n), BytesPerSecond: n, Timestamp: a.now()}}, nil
}

func (a *API) setLimits(ctx context.Context, in *rawInput) (*reply[models.Limits], error) {
	_, rate, err := decodeLimit(in.RawBody)
	if err != nil {
		return nil, err
	}
	if a.o.Bandwidth != nil {
		err := a.audited(ctx, audit.Entry{Action: audit.SetLimit, Value: units.FormatRate(rate)}, func() error {
			a.o.Bandwidth.SetLimit(rate)
			return nil
		})
		if err != nil {
			return nil, err
		}
		a.log.InfoContext(ctx, "the bandwidth of all jobs was changed", "limit", units.FormatRate(rate))
	}
	return a.limits(ctx, nil)
}

// limitInput is the body of a change to one job.
type limitInput struct {
	ID      string `path:"id" doc:"Id of the job"`
	RawBody []byte
}

func (a *API) setJobLimit(ctx context.Context, in *limitInput) (*reply[models.Job], error) {
	limit, _, err := decodeLimit(in.RawBody)
	if err != nil {
		return nil, err
	}
	err = a.audited(ctx, audit.Entry{Action: audit.SetJobLimit, Jobs: auditedIDs([]string{in.ID}), Value: limit}, func() error {
		if err := a.jobs.SetLimit(ctx, in.ID, limit); err != nil {
			return a.fail(ctx, "limit", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a.job(ctx, &idInput{ID: in.ID})
}

// decodeLimit reads the body of a change: the limit as it is kept, and in bytes
// per second.
func decodeLimit(b []byte) (string, int64, error) {
	var s models.SetLimit
	if err := decodeJSON(b, &s); err != nil {
		return "", 0, err
	}
	rate, err := units.ParseRate(s.Limit)
	if err != nil || s.Limit == "" {
		return "", 0, failure(http.StatusUnprocessableEntity, "limit", models.ProblemDetail{
			Location: "body.limit", Message: `must be a rate such as 200MB/s, 25MiB/s or 1Gbit/s, or "none"`,
		})
	}
	return units.FormatRate(rate), rate, nil
}
