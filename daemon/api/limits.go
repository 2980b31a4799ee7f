package api

import (
	"cmp"
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
	put.Description = "Takes effect at once. It is not kept: at the next start the daemon has the limit of its configuration. " +
		"Where several daemons share a store, it is the limit of all of them together, each follows within a second, and it is kept in the store until it is changed again."
	huma.Register(b.h, put, a.setLimits)
	body.Content = b.json(reflect.TypeFor[models.SetLimit]())

	j, body := b.withBody(b.op("set-job-limit", "PUT", "/jobs/{id}/limit", "Change a job's bandwidth"))
	j.Description = "Takes effect at once, also while the job runs, and is kept with the job. " +
		"The limit of all jobs together holds beside it. 409 when the job has ended."
	huma.Register(b.h, j, a.setJobLimit)
	body.Content = b.json(reflect.TypeFor[models.SetLimit]())
}

func (a *API) limits(ctx context.Context, _ *struct{}) (*reply[models.Limits], error) {
	return answered(a.Limits(ctx))
}

// Limits is the answer to GET /limits.
func (a *API) Limits(ctx context.Context) (models.Limits, error) {
	if err := a.need(ctx, "GET /limits"); err != nil {
		return models.Limits{}, err
	}
	var n int64
	switch {
	case a.o.Shares != nil:
		n = a.o.Shares.Limit()
	case a.o.Bandwidth != nil:
		n = a.o.Bandwidth.Limit()
	default:
		return models.Limits{}, failure(http.StatusNotImplemented, "limits: this daemon has no limit to change")
	}
	out := models.Limits{Limit: units.FormatRate(n), BytesPerSecond: n, Shared: a.o.Shares != nil, Timestamp: a.now()}
	if a.o.Shares != nil {
		var err error
		if out.Shares, err = a.shares(ctx); err != nil {
			return out, a.fail(ctx, "limits", err)
		}
	}
	return out, nil
}

// shares are what the daemons on the store have of the limits that they share.
func (a *API) shares(ctx context.Context) ([]models.Share, error) {
	held, err := a.o.Shares.Holdings(ctx)
	if err != nil {
		return nil, err
	}
	daemons, _, err := a.jobs.Daemons(ctx)
	if err != nil {
		return nil, err
	}
	ids := make(map[string]string, len(daemons))
	for _, d := range daemons {
		ids[d.Owner] = d.ID
	}
	out := make([]models.Share, len(held))
	for i, h := range held {
		out[i] = models.Share{Name: h.Name, Limit: h.Limit, Daemon: cmp.Or(ids[h.Owner], h.Owner), Held: h.Held, Waiting: h.Waiting}
	}
	return out, nil
}

func (a *API) setLimits(ctx context.Context, in *rawInput) (*reply[models.Limits], error) {
	var s models.SetLimit
	if err := decodeJSON(in.RawBody, &s); err != nil {
		return nil, err
	}
	return answered(a.SetLimits(ctx, s))
}

// SetLimits does what PUT /limits does.
func (a *API) SetLimits(ctx context.Context, s models.SetLimit) (models.Limits, error) {
	if err := a.need(ctx, "PUT /limits"); err != nil {
		return models.Limits{}, err
	}
	_, rate, err := parseLimit(s)
	if err != nil {
		return models.Limits{}, err
	}
	if a.o.Bandwidth != nil || a.o.Shares != nil {
		err := a.audited(ctx, audit.Entry{Action: audit.SetLimit, Value: units.FormatRate(rate)}, func() error {
			if a.o.Shares == nil {
				a.o.Bandwidth.SetLimit(rate)
				return nil
			}
			if err := a.o.Shares.SetLimit(ctx, rate); err != nil {
				return a.fail(ctx, "limits", err)
			}
			return nil
		})
		if err != nil {
			return models.Limits{}, err
		}
		a.log.InfoContext(ctx, "the bandwidth of all jobs was changed", "limit", units.FormatRate(rate))
	}
	return a.Limits(ctx)
}

// limitInput is the body of a change to one job.
type limitInput struct {
	ID      string `path:"id" doc:"Id of the job"`
	RawBody []byte
}

func (a *API) setJobLimit(ctx context.Context, in *limitInput) (*reply[models.Job], error) {
	var s models.SetLimit
	if err := decodeJSON(in.RawBody, &s); err != nil {
		return nil, err
	}
	return answered(a.SetJobLimit(ctx, in.ID, s))
}

// SetJobLimit does what PUT /jobs/{id}/limit does.
func (a *API) SetJobLimit(ctx context.Context, id string, s models.SetLimit) (models.Job, error) {
	if err := a.need(ctx, "PUT /jobs/{id}/limit"); err != nil {
		return models.Job{}, err
	}
	limit, _, err := parseLimit(s)
	if err != nil {
		return models.Job{}, err
	}
	err = a.audited(ctx, audit.Entry{Action: audit.SetJobLimit, Jobs: auditedIDs([]string{id}), Value: limit}, func() error {
		if err := a.jobs.SetLimit(ctx, id, limit); err != nil {
			return a.fail(ctx, "limit", err)
		}
		return nil
	})
	if err != nil {
		return models.Job{}, err
	}
	return a.Job(ctx, id)
}

// parseLimit returns the limit as it is kept, and in bytes per second.
func parseLimit(s models.SetLimit) (string, int64, error) {
	rate, err := units.ParseRate(s.Limit)
	if err != nil || s.Limit == "" {
		return "", 0, failure(http.StatusUnprocessableEntity, "limit", models.ProblemDetail{
			Location: "body.limit", Message: `must be a rate such as 200MB/s, 25MiB/s or 1Gbit/s, or "none"`,
		})
	}
	return units.FormatRate(rate), rate, nil
}
