package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// Errors that an [Inventory] returns.
var (
	// ErrUnknownVCenter: the configuration has no vCenter of that name.
	ErrUnknownVCenter = errors.New("no such vCenter in the daemon's configuration")
	// ErrNoInventory: no vCenter was named, and there is no default one.
	ErrNoInventory = errors.New("no vCenter is configured")
)

// problemType is the media type of RFC 9457.
const problemType = "application/problem+json"

// statusError is an error with the HTTP status to answer with. Its texts hold
// no value of the request.
type statusError struct {
	status     int
	detail     string
	details    []models.ProblemDetail
	retryAfter int // seconds after which asking again makes sense, 0 for no such advice
	header     http.Header
}

func (e *statusError) Error() string { return e.detail }

// GetStatus makes it a huma.StatusError.
func (e *statusError) GetStatus() int { return e.status }

// GetHeaders makes it a huma.HeadersError.
func (e *statusError) GetHeaders() http.Header {
	h := e.header.Clone()
	if e.retryAfter > 0 {
		if h == nil {
			h = http.Header{}
		}
		h.Set("Retry-After", strconv.Itoa(e.retryAfter))
	}
	return h
}

// ContentType makes it a huma.ContentTypeFilter.
func (e *statusError) ContentType(string) string { return problemType }

// StatusOf is the HTTP status of an error that an operation of the API has returned, and
// its text for people, which holds no value of the request and no secret.
func StatusOf(err error) (status int, text string) {
	if e := new(statusError); errors.As(err, &e) {
		return e.status, e.problem(time.Time{}).Error
	}
	return http.StatusInternalServerError, "internal error: the daemon's log tells more"
}

func failure(status int, detail string, details ...models.ProblemDetail) *statusError {
	return &statusError{status: status, detail: detail, details: details}
}

// busy is a 503 for what can be done a little later.
func busy(detail string) *statusError {
	return &statusError{status: http.StatusServiceUnavailable, detail: detail, retryAfter: 5}
}

// problem is the body for an error.
func (e *statusError) problem(now time.Time) models.Problem {
	p := models.Problem{
		Title:     http.StatusText(e.status),
		Status:    e.status,
		Detail:    e.detail,
		Errors:    e.details,
		Error:     e.detail,
		Timestamp: now,
	}
	if len(e.details) > 0 {
		lines := make([]string, len(e.details))
		for i, d := range e.details {
			lines[i] = d.Message
			if d.Location != "" && d.Location != "body" {
				lines[i] = d.Location + ": " + d.Message
			}
		}
		p.Error = strings.TrimPrefix(e.detail+": "+strings.Join(lines, "; "), ": ")
	}
	if p.Error == "" {
		p.Error = p.Title
	}
	return p
}

// asProblem is the transformer that gives every error body its shape. The
// framework's own errors carry the offending value, which may be a password:
// only message and place are taken over.
func (a *API) asProblem(_ huma.Context, _ string, v any) (any, error) {
	switch e := v.(type) {
	case *statusError:
		return e.problem(a.now()), nil
	case *huma.ErrorModel:
		se := failure(e.Status, e.Detail)
		if e.Status < http.StatusInternalServerError {
			for _, d := range e.Errors {
				if d != nil {
					se.details = append(se.details, models.ProblemDetail{Message: d.Message, Location: d.Location})
				}
			}
		}
		return se.problem(a.now()), nil
	}
	return v, nil
}

// refuse writes an error from outside the framework.
func (a *API) refuse(w http.ResponseWriter, e *statusError) {
	h := w.Header()
	maps.Copy(h, e.GetHeaders())
	h.Set("Content-Type", problemType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Del("Content-Length")
	w.WriteHeader(e.status)
	// An error here is a client that has gone.
	_ = json.NewEncoder(w).Encode(e.problem(a.now()))
}

// fail maps an error of a lower layer to an answer. What it does not know is
// logged and becomes a 500 that tells nothing.
func (a *API) fail(ctx context.Context, what string, err error) error {
	for _, k := range []struct {
		is     error
		status int
	}{
		{jobs.ErrNotFound, http.StatusNotFound},
		{jobs.ErrUsable, http.StatusNotFound},
		{jobs.ErrNoDaemon, http.StatusNotFound},
		{jobs.ErrFinished, http.StatusConflict},
		{jobs.ErrNotFinished, http.StatusConflict},
		{jobs.ErrCompleted, http.StatusConflict},
		{jobs.ErrNoPassword, http.StatusConflict},
		{jobs.ErrWayBack, http.StatusConflict},
		{jobs.ErrExists, http.StatusConflict},
		{jobs.ErrCursor, http.StatusBadRequest},
		{ErrUnknownVCenter, http.StatusNotFound},
		{ErrNoInventory, http.StatusNotFound},
	} {
		if errors.Is(err, k.is) {
			return failure(k.status, what+": "+k.is.Error())
		}
	}
	if trouble := new(jobs.StoreError); errors.As(err, &trouble) {
		a.log.LogAttrs(ctx, slog.LevelWarn, what+" failed", slog.Any("error", err))
		return storeFailed(what, trouble)
	}
	if full := new(jobs.QueueFullError); errors.As(err, &full) {
		if full.Never() {
			return failure(http.StatusRequestEntityTooLarge, what+": "+full.Error()+"; submit them in parts")
		}
		return &statusError{status: http.StatusTooManyRequests, detail: what + ": " + full.Error() + "; try again later", retryAfter: queueRetry}
	}
	switch {
	case ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded):
		return failure(http.StatusGatewayTimeout, what+": not done in time")
	case errors.Is(err, context.Canceled):
		return failure(http.StatusServiceUnavailable, what+": the daemon is stopping")
	}
	a.log.LogAttrs(ctx, slog.LevelError, what+" failed", slog.Any("error", err))
	return failure(http.StatusInternalServerError, what+": internal error: the daemon's log tells more")
}

// queueRetry is how many seconds after a refusal by a full queue some jobs may have
// begun.
const queueRetry = 60

// storeFailed is the answer when the jobs' store cannot be used.
func storeFailed(what string, e *jobs.StoreError) *statusError {
	detail := what + ": " + e.Error()
	switch e.Trouble {
	case jobs.TroubleFull:
		return failure(http.StatusInsufficientStorage, detail)
	case jobs.TroubleBusy:
		return busy(detail)
	}
	return failure(http.StatusServiceUnavailable, detail)
}
