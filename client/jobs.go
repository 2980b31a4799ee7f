package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// Health asks whether the daemon is well. When it is not, the error is
// ErrUnavailable and says why.
func (c *Client) Health(ctx context.Context) (models.Health, error) {
	var out models.Health
	err := c.do(ctx, request{method: http.MethodGet, path: "/health", out: &out})
	return out, err
}

// Status asks for the daemon's version, uptime and job counts.
func (c *Client) Status(ctx context.Context) (models.DaemonStatus, error) {
	var out models.DaemonStatus
	err := c.do(ctx, request{method: http.MethodGet, path: "/status", out: &out})
	return out, err
}

// Submit hands jobs to the daemon; with atomic, all are accepted or none. When
// none was, the error is ErrRejected and the result says why.
func (c *Client) Submit(ctx context.Context, defs []job.Definition, atomic bool) (models.SubmitResult, error) {
	var out models.SubmitResult
	r, err := jsonRequest("/jobs/submit", models.Batch{Jobs: defs, Atomic: atomic}, &out)
	if err != nil {
		return out, err
	}
	r.alsoDecode = http.StatusUnprocessableEntity
	err = c.do(ctx, r)
	return out, err
}

// SubmitFile hands a job file to the daemon as it is: one job, {jobs: […]} or
// a bare list, in YAML or JSON. contentType is "application/json" or
// "application/yaml"; empty lets the daemon try JSON, then YAML. Errors of the
// daemon name key and line of the file.
func (c *Client) SubmitFile(ctx context.Context, body io.Reader, contentType string, atomic bool) (models.SubmitResult, error) {
	var out models.SubmitResult
	if contentType == "" {
		contentType = "application/octet-stream"
	}
	r := request{
		method: http.MethodPost, path: "/jobs/submit",
		contentType: contentType, body: body,
		out: &out, alsoDecode: http.StatusUnprocessableEntity,
	}
	if atomic {
		r.query = url.Values{"atomic": {"true"}}
	}
	err := c.do(ctx, r)
	return out, err
}

// Query asks for one page of jobs.
func (c *Client) Query(ctx context.Context, q models.Query) (models.QueryResult, error) {
	var out models.QueryResult
	err := c.postJSON(ctx, "/jobs/query", q, &out)
	return out, err
}

// Job asks for one job. An unknown id is ErrNotFound.
func (c *Client) Job(ctx context.Context, id string) (models.Job, error) {
	var out models.Job
	path, err := jobPath(id, "")
	if err != nil {
		return out, err
	}
	err = c.do(ctx, request{method: http.MethodGet, path: path, out: &out})
	return out, err
}

// Cancel ends jobs and returns when their runs have ended. Their part files are
// removed unless keepParts is set, which lets a retry resume from them. Jobs that
// could not be cancelled are in the result, which is no error.
func (c *Client) Cancel(ctx context.Context, ids []string, keepParts bool) (models.CancelResult, error) {
	var out models.CancelResult
	err := c.postJSON(ctx, "/jobs/cancel", models.Cancel{JobIDs: ids, KeepParts: keepParts}, &out)
	return out, err
}

// Retry queues a failed or cancelled job again under its own id; it goes on
// from what is on disk. Any other job is ErrConflict.
func (c *Client) Retry(ctx context.Context, id string) (models.Job, error) {
	var out models.Job
	path, err := jobPath(id, "/retry")
	if err != nil {
		return out, err
	}
	err = c.do(ctx, request{method: http.MethodPost, path: path, out: &out})
	return out, err
}

// Rollback goes back from a job that has ended: the guest that it landed is stopped, the
// marks of its source are undone, and that is powered on if it ran. It returns the job
// that does so. ErrConflict is one that has not ended, or that needs a password.
func (c *Client) Rollback(ctx context.Context, id string, how models.Rollback) (models.Job, error) {
	var out models.Job
	path, err := jobPath(id, "/rollback")
	if err != nil {
		return out, err
	}
	err = c.postJSON(ctx, path, how, &out)
	return out, err
}

// RetryAll queues failed and cancelled jobs again: those with the ids, or
// without any those that have one of the statuses. Jobs that could not be are in
// the result, which is no error.
func (c *Client) RetryAll(ctx context.Context, r models.Retry) (models.RetryResult, error) {
	var out models.RetryResult
	err := c.postJSON(ctx, "/jobs/retry", r, &out)
	return out, err
}

// Resume has the daemon try a vCenter again that jobs wait for, by the name that
// Status gives it. One that no job waits for is ErrNotFound.
func (c *Client) Resume(ctx context.Context, vcenter string) (models.Resumed, error) {
	var out models.Resumed
	err := c.do(ctx, request{method: http.MethodPost, path: "/vcenters/" + url.PathEscape(vcenter) + "/resume", out: &out})
	return out, err
}

// Delete forgets a finished job; the files it made stay. A job that has not
// ended is ErrConflict.
func (c *Client) Delete(ctx context.Context, id string) error {
	path, err := jobPath(id, "")
	if err != nil {
		return err
	}
	return c.do(ctx, request{method: http.MethodDelete, path: path})
}

// Check runs preflight on a job without queueing it.
func (c *Client) Check(ctx context.Context, def job.Definition) (models.CheckResult, error) {
	var out models.CheckResult
	err := c.postJSON(ctx, "/jobs/check", def, &out)
	return out, err
}

// CheckFile runs preflight on the single job of a job file; see
// [Client.SubmitFile] for contentType.
func (c *Client) CheckFile(ctx context.Context, body io.Reader, contentType string) (models.CheckResult, error) {
	var out models.CheckResult
	if contentType == "" {
		contentType = "application/octet-stream"
	}
	err := c.do(ctx, request{
		method: http.MethodPost, path: "/jobs/check",
		contentType: contentType, body: body, out: &out,
	})
	return out, err
}

// VMs asks for one page of the inventory of a vCenter of the daemon's
// configuration. vcenter may be empty when there is only one. limit 0 leaves
// the page size to the daemon; cursor is NextCursor of the page before.
func (c *Client) VMs(ctx context.Context, vcenter string, limit int, cursor string) (models.VMPage, error) {
	var out models.VMPage
	q := url.Values{}
	if vcenter != "" {
		q.Set("vcenter", vcenter)
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	err := c.do(ctx, request{method: http.MethodGet, path: "/vms", query: q, out: &out})
	return out, err
}

// jobPath is the path of a job. An id that would change the path's shape
// cannot be a job's.
func jobPath(id, suffix string) (string, error) {
	if id == "" || id == "." || id == ".." {
		return "", fmt.Errorf("job id %q: %w", id, ErrNotFound)
	}
	return "/jobs/" + url.PathEscape(id) + suffix, nil
}
