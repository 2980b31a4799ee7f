// Package client is the typed Go client of the hyper2kvmd REST API, and what
// h2kvmctl is built on.
//
// Every call takes a context and makes one request; nothing is retried but what the
// daemon wants to come a few seconds later (429), which it has not looked at, and by
// [Client.Watch], which reconnects to a job's event stream and resumes after the last
// event it saw. Errors satisfy errors.Is with this package's
// sentinels, so that a caller never looks at HTTP status codes:
//
//	job, err := c.Job(ctx, id)
//	if errors.Is(err, client.ErrNotFound) { … }
//
// It does not validate jobs: the daemon does, and its answer names the field.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
)

// DefaultURL is where a daemon listens unless told otherwise.
const DefaultURL = "http://localhost:8080"

// maxResponse bounds what is read of one answer, in bytes: a full query over
// tens of thousands of jobs fits.
const maxResponse = 256 << 20

// Options of a [Client]. The zero value works.
type Options struct {
	// HTTPClient is used as it is, except that redirects are never followed.
	// Nil makes one of its own with a dial timeout of 10 s and no total
	// timeout: the caller's context bounds a call. It excludes the files below.
	HTTPClient *http.Client

	// CAFile holds the authorities, in PEM, one of which must have signed the
	// daemon's certificate; empty believes those of the system.
	CAFile string
	// CertFile and KeyFile are a client certificate and its key, in PEM. They are
	// read for each connection, so that renewed ones are used.
	CertFile, KeyFile string

	// Token is sent as a bearer token with each request; TokenFile is a file that
	// holds one, read for each request. Neither is sent over plain HTTP to another
	// machine: that is an error of [New].
	Token     string
	TokenFile string

	UserAgent string // "hyper2kvm-client" when empty
	// RetryDelay is the first pause before Watch connects again; it doubles up
	// to 30 times itself. 0 means 500 ms.
	RetryDelay time.Duration
	// WatchRetries is how many times in a row Watch may fail to connect before
	// it gives up with ErrUnavailable. 0 means 20, about three minutes.
	WatchRetries int
}

// Client speaks to one daemon. Its methods may be called from any goroutine.
type Client struct {
	base   *url.URL
	socket string // path of the unix socket, or ""
	http   *http.Client
	o      Options
}

// New returns a client of the daemon at baseURL: "http://localhost:8080" (the scheme
// may be left out), "https://host:8443", or "unix:///path/of/socket". An empty
// baseURL is [DefaultURL]. User info in the URL is sent as HTTP basic
// authentication, unless there is a token. It does not connect, but reads the files
// that it is given.
func New(baseURL string, o Options) (*Client, error) {
	u, socket, err := parseBase(baseURL)
	if err != nil {
		return nil, err
	}
	if o.UserAgent == "" {
		o.UserAgent = "hyper2kvm-client"
	}
	if o.RetryDelay <= 0 {
		o.RetryDelay = 500 * time.Millisecond
	}
	if o.WatchRetries <= 0 {
		o.WatchRetries = 20
	}
	c := &Client{base: u, socket: socket, o: o}
	token, err := c.token()
	if err != nil {
		return nil, err
	}
	if token != "" && !c.private() {
		return nil, fmt.Errorf("a token is not sent to %s over plain http, where everybody on the way can read it: "+
			"use https, the unix socket, or an SSH tunnel to localhost", c.BaseURL())
	}
	if c.http, err = c.httpClient(); err != nil {
		return nil, err
	}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c, nil
}

// BaseURL is the daemon's address without user info, for messages.
func (c *Client) BaseURL() string {
	if c.socket != "" {
		return "unix://" + c.socket
	}
	u := *c.base
	u.User = nil
	return u.String()
}

// Close drops idle connections. The client stays usable.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// request is one call: what goes out and where the answer goes.
type request struct {
	method, path string
	query        url.Values
	contentType  string
	body         io.Reader
	header       http.Header
	out          any // decoded from a 2xx answer; nil discards it
	// alsoDecode is a further status whose body goes to out as well; do then
	// returns the *Error beside the filled value.
	alsoDecode int
}

func (c *Client) postJSON(ctx context.Context, path string, in, out any) error {
	r, err := jsonRequest(path, in, out)
	if err != nil {
		return err
	}
	return c.do(ctx, r)
}

func jsonRequest(path string, in, out any) (request, error) {
	b, err := json.Marshal(in)
	if err != nil {
		return request{}, fmt.Errorf("encode request for %s: %w", path, err)
	}
	return request{
		method: http.MethodPost, path: path,
		contentType: "application/json", body: bytes.NewReader(b), out: out,
	}, nil
}

// send makes the request and returns the answer, whatever its status.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	u := c.base.JoinPath(r.path)
	u.RawQuery = r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), r.body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: request cannot be made", r.method, r.path)
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", c.o.UserAgent)
	token, err := c.token()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.method, r.path, err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s %s: %w", r.method, r.path, context.Cause(ctx))
		}
		return nil, c.unanswered(withoutURL(err))
	}
	return resp, nil
}

const (
	// patience is how long a daemon that is asked too often (429) may have a request
	// wait, and patientTries how often.
	patience     = 10 * time.Second
	patientTries = 5
)

// do makes the request and decodes the answer. When the daemon wants it to come a
// moment later, it does.
func (c *Client) do(ctx context.Context, r request) error {
	rewind := rewinder(r.body)
	for try := 1; ; try++ {
		err := c.once(ctx, r)
		var e *Error
		if !errors.As(err, &e) || !errors.Is(err, ErrTooMany) || e.RetryAfter <= 0 || e.RetryAfter > patience || try == patientTries {
			return err
		}
		if !rewind() || sleep.For(ctx, e.RetryAfter) != nil {
			return err
		}
	}
}

// rewinder returns what makes a body be sent from where it is now once more, and says
// whether it can be.
func rewinder(body io.Reader) func() bool {
	if body == nil {
		return func() bool { return true }
	}
	s, ok := body.(io.Seeker)
	if !ok {
		return func() bool { return false }
	}
	start, err := s.Seek(0, io.SeekCurrent)
	return func() bool {
		if err == nil {
			_, err = s.Seek(start, io.SeekStart)
		}
		return err == nil
	}
}

// once makes the request once.
func (c *Client) once(ctx context.Context, r request) error {
	resp, err := c.send(ctx, r) //nolint:bodyclose // drain does
	if err != nil {
		return err
	}
	defer drain(resp.Body)

	ok := resp.StatusCode >= 200 && resp.StatusCode < 300
	if !ok && resp.StatusCode != r.alsoDecode {
		return readError(r, resp)
	}
	if r.out == nil {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("%s %s: %w", r.method, r.path, context.Cause(ctx))
	case err != nil:
		return &unreachableError{addr: c.BaseURL(), err: fmt.Errorf("answer cut short: %w", err)}
	case len(body) > maxResponse:
		return fmt.Errorf("%s %s: answer is larger than %d bytes; ask for fewer with a limit", r.method, r.path, int64(maxResponse))
	}
	if !ok { // a body that is a result as well as an error
		_ = json.Unmarshal(body, r.out) // a proxy's page leaves it empty
		return problemError(r, resp, body)
	}
	if err := json.Unmarshal(body, r.out); err != nil {
		return fmt.Errorf("%s %s: the answer is not this API's JSON (is %s a hyper2kvmd?): %w", r.method, r.path, c.BaseURL(), err)
	}
	return nil
}

// drain lets the connection be used again when little is left to read.
func drain(rc io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, rc, 64<<10)
	_ = rc.Close()
}

// withoutURL drops the *url.Error wrapper, whose text holds the whole URL.
func withoutURL(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}
