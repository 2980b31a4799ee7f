package client

import (
	"context"
	"net/http"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// Limits asks for the bandwidth of all jobs together.
func (c *Client) Limits(ctx context.Context) (models.Limits, error) {
	var out models.Limits
	err := c.do(ctx, request{method: http.MethodGet, path: "/limits", out: &out})
	return out, err
}

// SetLimit changes the bandwidth of all jobs together, at once and until the
// daemon starts again, or for all daemons on a store until it is changed again. limit is a rate such as "200MB/s", or "none"; one that
// cannot be read is ErrRejected.
func (c *Client) SetLimit(ctx context.Context, limit string) (models.Limits, error) {
	var out models.Limits
	err := c.putJSON(ctx, "/limits", models.SetLimit{Limit: limit}, &out)
	return out, err
}

// SetJobLimit changes the bandwidth of one job, at once and for its later runs;
// see [Client.SetLimit] for limit. A job that has ended is ErrConflict.
func (c *Client) SetJobLimit(ctx context.Context, id, limit string) (models.Job, error) {
	var out models.Job
	path, err := jobPath(id, "/limit")
	if err != nil {
		return out, err
	}
	err = c.putJSON(ctx, path, models.SetLimit{Limit: limit}, &out)
	return out, err
}

// putJSON sends in with PUT.
func (c *Client) putJSON(ctx context.Context, path string, in, out any) error {
	r, err := jsonRequest(path, in, out)
	if err != nil {
		return err
	}
	r.method = http.MethodPut
	return c.do(ctx, r)
}
