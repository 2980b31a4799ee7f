package client

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// What a failed call can be, for errors.Is.
var (
	// ErrUnavailable: the daemon cannot be reached, or says that it cannot
	// answer now (502, 503, 504, 507). Trying again later can help.
	ErrUnavailable = errors.New("daemon unavailable")
	// ErrTooMany: the daemon is asked too often, or has as many jobs as it takes (429).
	// [Error.RetryAfter] says when asking again makes sense.
	ErrTooMany = errors.New("too much is asked of the daemon")
	// ErrNotFound: no such job or vCenter (404).
	ErrNotFound = errors.New("not found")
	// ErrConflict: the job's state does not allow it, as deleting a running
	// job (409).
	ErrConflict = errors.New("conflict")
	// ErrRejected: the request was understood, and every job in it refused
	// (422).
	ErrRejected = errors.New("rejected")
	// ErrInvalid: the request cannot be parsed, or is too large (400, 413,
	// 415, 431).
	ErrInvalid = errors.New("invalid request")
	// ErrForbidden: the daemon refuses this caller, or the host name under
	// which it was asked (401, 403, 421).
	ErrForbidden = errors.New("forbidden")
	// ErrUntrusted: the daemon's certificate, or the client's, is not believed by
	// the other side. Trying again does not help.
	ErrUntrusted = errors.New("certificate not believed")
)

// Error is an answer of the daemon that is not a success. It satisfies
// errors.Is with the sentinel of its status.
type Error struct {
	Method  string // of the request
	Path    string // of the request, without host and query
	Status  int    // HTTP status code
	Title   string
	Detail  string
	Details []models.ProblemDetail
	Text    string // the body's "error": one line for people

	// RetryAfter is when the daemon expects that asking again makes sense, 0
	// when it does not say.
	RetryAfter time.Duration
}

// Error returns what the daemon said, or the request and status when it said
// nothing.
func (e *Error) Error() string {
	if e.Text != "" {
		return e.Text
	}
	return fmt.Sprintf("%s %s: HTTP %d %s", e.Method, e.Path, e.Status, http.StatusText(e.Status))
}

// Is makes errors.Is(err, ErrNotFound) and its like hold.
func (e *Error) Is(target error) bool {
	switch e.Status {
	case http.StatusNotFound:
		return target == ErrNotFound
	case http.StatusConflict:
		return target == ErrConflict
	case http.StatusTooManyRequests:
		return target == ErrTooMany
	case http.StatusUnprocessableEntity:
		return target == ErrRejected
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
		http.StatusRequestHeaderFieldsTooLarge:
		return target == ErrInvalid
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusMisdirectedRequest:
		return target == ErrForbidden
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
		http.StatusInsufficientStorage:
		return target == ErrUnavailable
	}
	return false
}

// unreachableError is a request that got no answer.
type unreachableError struct {
	addr string
	err  error
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("daemon at %s cannot be reached: %v", e.addr, e.err)
}

func (e *unreachableError) Unwrap() []error { return []error{ErrUnavailable, e.err} }

// unanswered is a request that got no answer because of err.
func (c *Client) unanswered(err error) error {
	var theirs *tls.CertificateVerificationError
	var remote *net.OpError
	switch {
	case errors.As(err, &theirs):
		return fmt.Errorf("%w: that of the daemon at %s: %w; is the authority that signed it the right one (CA file)?", ErrUntrusted, c.BaseURL(), theirs.Err)
	case errors.As(err, &remote) && remote.Op == "remote error": // an alert of TLS
		return fmt.Errorf("%w: the daemon at %s refuses this client's: %w", ErrUntrusted, c.BaseURL(), remote.Err)
	}
	return &unreachableError{addr: c.BaseURL(), err: err}
}

// maxProblem bounds how much of an error's body is read, in bytes.
const maxProblem = 1 << 20

func readError(r request, resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	return problemError(r, resp, body)
}

// problemError makes an *Error of an answer's body, which may come from a
// proxy and be no JSON at all.
func problemError(r request, resp *http.Response, body []byte) error {
	e := &Error{Method: r.method, Path: r.path, Status: resp.StatusCode, Title: http.StatusText(resp.StatusCode)}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	var p struct {
		Title  string          `json:"title"`
		Detail string          `json:"detail"`
		Error  string          `json:"error"`
		Errors json.RawMessage `json:"errors"`
	}
	if json.Unmarshal(body, &p) != nil {
		return e
	}
	if p.Title != "" {
		e.Title = p.Title
	}
	e.Detail, e.Text = p.Detail, p.Error
	var lines []string
	switch {
	case json.Unmarshal(p.Errors, &e.Details) == nil:
	case json.Unmarshal(p.Errors, &lines) == nil: // a submit result
		for _, l := range lines {
			e.Details = append(e.Details, models.ProblemDetail{Message: l})
		}
		if e.Text == "" {
			e.Text = strings.Join(lines, "; ")
		}
	}
	if e.Text == "" {
		e.Text = e.Detail
	}
	return e
}
