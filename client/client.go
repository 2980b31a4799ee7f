// Package client is the typed Go client of the hyper2kvmd REST API, and what
// h2kvmctl is built on.
//
// Every call takes a context and makes one request; nothing is retried except
// by [Client.Watch], which reconnects to a job's event stream and goes on after
// the last event it saw. Errors satisfy errors.Is with this package's
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
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
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
	// timeout: the caller's context bounds a call.
	HTTPClient *http.Client
	UserAgent  string // "hyper2kvm-client" when empty
	// RetryDelay is the first pause before Watch connects again; it doubles up
	// to 30 times itself. 0 means 500 ms.
	RetryDelay time.Duration
	// WatchRetries is how many times in a row Watch may fail to connect before
	// it gives up with ErrUnavailable. 0 means 20, about three minutes.
	WatchRetries int
}

// Client speaks to one daemon. Its methods may be called from any goroutine.
type Client struct {
	base *url.URL
	http *http.Client
	o    Options
}

// New returns a client of the daemon at baseURL, such as
// "http://localhost:8080"; the scheme may be left out, and an empty baseURL is
// [DefaultURL]. User info in the URL is sent as HTTP basic authentication. It
// does not connect.
func New(baseURL string, o Options) (*Client, error) {
	if baseURL == "" {
		baseURL = DefaultURL
	}
	if !strings.Contains(baseURL, "://") {
		baseURL = "http://" + baseURL
	}
	u, err := url.Parse(baseURL)
	if err != nil {
		// The parse error quotes the URL, which may hold a password.
		return nil, errors.New("daemon URL cannot be parsed: want http://host:port")
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("daemon URL %s: want http://host:port", u.Redacted())
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawQuery, u.Fragment = "", ""

	if o.UserAgent == "" {
		o.UserAgent = "hyper2kvm-client"
	}
	if o.RetryDelay <= 0 {
		o.RetryDelay = 500 * time.Millisecond
	}
	if o.WatchRetries <= 0 {
		o.WatchRetries = 20
	}
	hc := &http.Client{}
	if o.HTTPClient != nil {
		*hc = *o.HTTPClient
	} else {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.DialContext = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
		hc.Transport = t
	}
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{base: u, http: hc, o: o}, nil
}

// BaseURL is the daemon's address without user info, for messages.
func (c *Client) BaseURL() string {
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
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s %s: %w", r.method, r.path, context.Cause(ctx))
		}
		return nil, &unreachableError{addr: c.BaseURL(), err: withoutURL(err)}
	}
	return resp, nil
}

// do makes the request and decodes the answer.
func (c *Client) do(ctx context.Context, r request) error {
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
