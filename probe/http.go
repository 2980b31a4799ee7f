package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/probe/findings"
	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// asker is a source over HTTP that can be asked in any way.
type asker interface {
	transfer.Source
	Ask(ctx context.Context, method, ask string) (*http.Response, error)
}

var errNoHTTP = errors.New("it is not served over HTTP")

func askerOf(s transfer.Source) (asker, error) {
	if a, ok := s.(asker); ok {
		return a, nil
	}
	return nil, errNoHTTP
}

// The range that is asked for: neither the first bytes, which a server that ignores
// ranges would send as well, nor many.
const (
	probeFrom = 512
	probeTo   = 1023
	probeAsk  = "bytes=512-1023"
)

// http finds out how a is served. It returns the status with which a range was refused
// outright, 0 otherwise.
func (p *run) http(ctx context.Context, a asker, h *findings.HTTP) (refused int, err error) {
	resp, err := patiently(ctx, func() (*http.Response, error) { return a.Ask(ctx, http.MethodGet, probeAsk) })
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusPartialContent && strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/", probeFrom, probeTo)):
		h.Range = findings.Honoured
		_, _ = io.CopyN(io.Discard, resp.Body, probeTo-probeFrom+1)
	case resp.StatusCode == http.StatusOK:
		h.Range = findings.Ignored
	case resp.StatusCode == http.StatusPartialContent: // with another range than was asked for
		h.Range, h.RangeStatus = findings.Refused, resp.StatusCode
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable, resp.StatusCode == http.StatusNotImplemented, resp.StatusCode == http.StatusBadRequest:
		h.Range, h.RangeStatus = findings.Refused, resp.StatusCode
	default:
		return resp.StatusCode, fmt.Errorf("status %d", resp.StatusCode)
	}
	if h.Range != findings.Refused {
		validators(resp, h)
	}
	if h.Range == findings.Ignored { // it is all of the object
		bodyOf(resp, h)
	}
	if err := p.head(ctx, a, h); err != nil || h.Body != "" {
		return 0, err
	}
	return 0, p.whole(ctx, a, h)
}

// validators notes what an answer says of the object's version, and of the connection.
func validators(resp *http.Response, h *findings.HTTP) {
	h.KeepAlive = yes(!resp.Close)
	h.Modified = yes(resp.Header.Get("Last-Modified") != "")
	switch tag := resp.Header.Get("ETag"); {
	case tag == "":
		h.ETag = findings.None
	case strings.HasPrefix(tag, "W/"):
		h.ETag = findings.Weak
	default:
		h.ETag = findings.Strong
	}
}

// bodyOf notes how an answer with all of the object is delimited.
func bodyOf(resp *http.Response, h *findings.HTTP) {
	h.Body = findings.Chunked
	if resp.ContentLength >= 0 {
		h.Body = findings.Length
	}
}

// head asks for the head alone.
func (p *run) head(ctx context.Context, a asker, h *findings.HTTP) error {
	resp, err := patiently(ctx, func() (*http.Response, error) { return a.Ask(ctx, http.MethodHead, "") })
	if err != nil {
		return err
	}
	_ = resp.Body.Close() // a HEAD has none
	switch {
	case resp.StatusCode != http.StatusOK:
		h.Head, h.HeadStatus = findings.Refused, resp.StatusCode
	case resp.ContentLength > 0:
		h.Head = findings.Sized
	default:
		h.Head = findings.Unsized
	}
	return nil
}

// whole asks for the whole object.
func (p *run) whole(ctx context.Context, a asker, h *findings.HTTP) error {
	resp, err := patiently(ctx, func() (*http.Response, error) { return a.Ask(ctx, http.MethodGet, "") })
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	bodyOf(resp, h)
	if h.ETag == "" {
		validators(resp, h)
	}
	return nil
}

// served says whether the object can be fetched: its first bytes come, or nothing, or a
// refusal.
func served(ctx context.Context, a asker) findings.Answer {
	resp, err := patiently(ctx, func() (*http.Response, error) { return a.Ask(ctx, http.MethodGet, "") })
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return findings.Refused
	}
	switch n, err := io.CopyN(io.Discard, resp.Body, 1); {
	case n == 1:
		return findings.Served
	case errors.Is(err, io.EOF):
		return findings.Empty
	}
	return ""
}

// A server that has been hung up on may take a moment to notice, and count the
// connection against its limits until then.
const (
	tries = 5
	pause = 200 * time.Millisecond
)

// patiently asks again a few times while the answer is that there is no room.
func patiently(ctx context.Context, ask func() (*http.Response, error)) (*http.Response, error) {
	for try := 1; ; try++ {
		resp, err := ask()
		if err != nil || resp.StatusCode != http.StatusServiceUnavailable || try == tries {
			return resp, err
		}
		_ = resp.Body.Close() // of a refusal
		if err := rest(ctx); err != nil {
			return nil, err
		}
	}
}
