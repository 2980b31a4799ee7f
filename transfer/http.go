package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// HTTPSource is a [Source] over HTTP or HTTPS. URL is required. It must not be
// changed once in use.
type HTTPSource struct {
	// Client sends the requests; nil is http.DefaultClient. Its Timeout should
	// be 0, since it would bound the whole transfer. Redirects from https to
	// http are refused whatever it says.
	Client *http.Client

	URL *url.URL

	// Header is sent with every request: cookies, for one. The headers that
	// this package needs (Range, If-Match, Accept-Encoding) win over it.
	Header http.Header

	// Prepare, when set, is called with every request before it is sent, for
	// headers that change while a transfer goes on. Its error is passed on.
	Prepare func(*http.Request) error

	expect Info
}

// Expect returns a Source of the same object whose answers must agree with
// info: its size where that is known, and its validator: an ETag, which is sent
// as If-Match, or the time of its last modification. [NewReader] does it by
// itself.
func (s *HTTPSource) Expect(info Info) Source {
	expecting := *s
	expecting.expect = info
	return &expecting
}

// Probe sends one GET with "Range: bytes=0-0" (F-NFC-9; HEAD is refused by some
// hosts and is never sent). Only a 206 whose Content-Range is "bytes 0-0/SIZE"
// counts as ranges honoured; the size of a 200 is its Content-Length, if any.
// A status of refusal is a [*StatusError], and a content encoding is refused like
// in Open.
//
// A server that ignores the range begins to send the whole object. Its body is
// closed at once, unread, which also closes the connection, so that the server
// stops after what its buffers hold. Where even that is too much, [Open] reads
// on from the probe's own answer instead.
func (s *HTTPSource) Probe(ctx context.Context) (Info, error) {
	info, body, err := s.begin(ctx)
	if body != nil {
		_ = body.Close() // nothing was read that an error could spoil
	}
	return info, err
}

// begin is Probe, except that the body of a server which ignored the range is
// given back: it is the object from its first byte.
func (s *HTTPSource) begin(ctx context.Context) (Info, io.ReadCloser, error) {
	resp, err := s.do(ctx, "bytes=0-0")
	if err != nil {
		return Info{}, nil, err
	}
	unknown := Info{Size: -1}
	switch resp.StatusCode {
	case http.StatusOK:
		if err := s.checkEncoding(resp); err != nil {
			_ = resp.Body.Close() // the whole object: not worth a byte more
			return Info{}, nil, err
		}
		return versioned(Info{Size: resp.ContentLength}, resp), &exactBody{body: resp.Body, left: resp.ContentLength}, nil
	case http.StatusPartialContent:
		defer finish(resp.Body)
		if err := s.checkEncoding(resp); err != nil {
			return Info{}, nil, err
		}
		first, last, size, ok := parseContentRange(resp.Header.Get("Content-Range"))
		if !ok || first != 0 || last != 0 || size < 1 {
			return unknown, nil, nil
		}
		return versioned(Info{Size: size, Ranges: true}, resp), nil, nil
	case http.StatusRequestedRangeNotSatisfiable, http.StatusNotImplemented, http.StatusBadRequest:
		finish(resp.Body) // an empty object, or a server at odds with ranges; if it is neither, Open tells
		return unknown, nil, nil
	}
	finish(resp.Body)
	return Info{}, nil, s.statusError(resp)
}

// Open is [Source.Open]. What an answer has to agree with, on every request:
// the status (200 for the whole object, 206 for a part), Content-Range with
// what was asked for, Content-Length, and the size and validator given to
// Expect. The error is a [*StatusError], [ErrNoRange], [ErrChanged], or what
// net/http reports, without the URL's secrets. The body ends with
// io.ErrUnexpectedEOF when it is too short and with [ErrTooLong] when it is too
// long.
func (s *HTTPSource) Open(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if off < 0 {
		return nil, Permanent(fmt.Errorf("transfer: negative offset %d", off))
	}
	if n == 0 {
		return http.NoBody, nil
	}
	ask := rangeHeader(off, n)
	resp, err := s.do(ctx, ask)
	if err != nil {
		return nil, err
	}
	length, err := s.check(resp, off, n)
	if err != nil {
		if ask == "" || resp.StatusCode != http.StatusOK {
			finish(resp.Body)
		} else {
			_ = resp.Body.Close() // the whole object: not worth a byte more
		}
		return nil, err
	}
	return &exactBody{body: resp.Body, left: length}, nil
}

// rangeHeader returns the Range header that asks for n bytes from off, or ""
// for the whole object.
func rangeHeader(off, n int64) string {
	switch {
	case n > 0:
		return fmt.Sprintf("bytes=%d-%d", off, off+n-1)
	case off > 0:
		return fmt.Sprintf("bytes=%d-", off)
	}
	return ""
}

// check compares the head of an answer with what was asked for and returns the
// number of bytes its body must have, or -1.
func (s *HTTPSource) check(resp *http.Response, off, n int64) (int64, error) {
	place := RedactURL(s.URL)
	if resp.StatusCode == http.StatusPreconditionFailed && s.expect.ETag != "" {
		return 0, fmt.Errorf("GET %s: %w: it is no longer %s", place, ErrChanged, s.expect.ETag)
	}
	ranged := off > 0 || n > 0
	switch code := resp.StatusCode; {
	case ranged && code == http.StatusRequestedRangeNotSatisfiable:
		return 0, fmt.Errorf("%w: %w", s.statusError(resp), ErrNoRange)
	case ranged && code != http.StatusPartialContent && code/100 == 2:
		return 0, fmt.Errorf("GET %s, %s: %w: status %d", place, rangeHeader(off, n), ErrNoRange, code)
	case ranged && code != http.StatusPartialContent, !ranged && code != http.StatusOK:
		return 0, s.statusError(resp)
	}
	if err := s.checkEncoding(resp); err != nil {
		return 0, err
	}
	if err := s.checkVersion(resp); err != nil {
		return 0, err
	}
	if ranged {
		return s.checkRange(resp, off, n)
	}
	if want := s.expect.Size; want > 0 {
		if resp.ContentLength >= 0 && resp.ContentLength != want {
			return 0, fmt.Errorf("GET %s: %w: it has %d bytes and had %d", place, ErrChanged, resp.ContentLength, want)
		}
		return want, nil
	}
	return resp.ContentLength, nil
}

// checkEncoding refuses a body that is not the bytes as they are stored. Several
// headers count as one list (RFC 9110, 5.3).
func (s *HTTPSource) checkEncoding(resp *http.Response) error {
	for _, list := range resp.Header.Values("Content-Encoding") {
		for encoding := range strings.SplitSeq(list, ",") {
			if encoding = strings.TrimSpace(encoding); encoding != "" && !strings.EqualFold(encoding, "identity") {
				return Permanent(fmt.Errorf("GET %s: the server sends content encoding %q, though identity was asked for; "+
					"a proxy in between may have to be told to leave the bytes alone", RedactURL(s.URL), encoding))
			}
		}
	}
	return nil
}

// checkVersion compares the validator of an answer with the expected one. An
// answer that has none is not held against the server.
func (s *HTTPSource) checkVersion(resp *http.Response) error {
	got, want := resp.Header.Get("ETag"), s.expect.ETag
	same := got == want
	if want == "" {
		got, want = resp.Header.Get("Last-Modified"), s.expect.LastModified
		same = sameTime(got, want)
	}
	if want == "" || got == "" || same {
		return nil
	}
	return fmt.Errorf("GET %s: %w: it is %q and was %q", RedactURL(s.URL), ErrChanged, got, want)
}

// sameTime tells whether two HTTP dates, in any of their forms, are the same.
func sameTime(a, b string) bool {
	x, xerr := http.ParseTime(a)
	y, yerr := http.ParseTime(b)
	if xerr != nil || yerr != nil {
		return a == b
	}
	return x.Equal(y)
}

// checkRange compares a 206 with the range that was asked for.
func (s *HTTPSource) checkRange(resp *http.Response, off, n int64) (int64, error) {
	place, header := RedactURL(s.URL), resp.Header.Get("Content-Range")
	first, last, size, ok := parseContentRange(header)
	mismatch := func() (int64, error) {
		return 0, fmt.Errorf("GET %s, %s: %w: Content-Range %q, Content-Length %d",
			place, rangeHeader(off, n), ErrNoRange, header, resp.ContentLength)
	}
	if !ok || first != off {
		return mismatch()
	}
	if want := s.expect.Size; want > 0 && size != want {
		return 0, fmt.Errorf("GET %s: %w: it has %d bytes and had %d", place, ErrChanged, size, want)
	}
	if n < 0 {
		n = size - off
	}
	if last != off+n-1 || resp.ContentLength >= 0 && resp.ContentLength != n {
		return mismatch()
	}
	return n, nil
}

// Ask sends one request by a method, for ask as its Range header unless that is empty,
// with everything else that a transfer sends along, and returns whatever is answered.
// It is for whoever wants to know how a server answers. The caller closes the body.
func (s *HTTPSource) Ask(ctx context.Context, method, ask string) (*http.Response, error) {
	return s.send(ctx, method, ask)
}

// do sends one GET, with the Range header ask unless that is empty.
func (s *HTTPSource) do(ctx context.Context, ask string) (*http.Response, error) {
	return s.send(ctx, http.MethodGet, ask)
}

func (s *HTTPSource) send(ctx context.Context, method, ask string) (*http.Response, error) {
	if s.URL == nil {
		return nil, Permanent(errors.New("transfer: an HTTPSource without a URL"))
	}
	place := RedactURL(s.URL)
	req, err := http.NewRequestWithContext(ctx, method, s.URL.String(), nil)
	if err != nil {
		return nil, Permanent(redactError(place, err))
	}
	for key, values := range s.Header {
		req.Header[http.CanonicalHeaderKey(key)] = values
	}
	// Whatever the bytes are, they are wanted as they are stored.
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Del("Range")
	if ask != "" {
		req.Header.Set("Range", ask)
	}
	if s.expect.ETag != "" {
		req.Header.Set("If-Match", s.expect.ETag)
	}
	if s.Prepare != nil {
		if err := s.Prepare(req); err != nil {
			return nil, redactError(place, err)
		}
	}
	resp, err := s.client().Do(req)
	if err != nil {
		return nil, redactError(place, err)
	}
	return resp, nil
}

// client returns the caller's client with a check of redirects before its own.
func (s *HTTPSource) client() *http.Client {
	base := s.Client
	if base == nil {
		base = http.DefaultClient
	}
	client := *base
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https" {
			return Permanent(fmt.Errorf("redirected from https to %s: refused", RedactURL(req.URL)))
		}
		if base.CheckRedirect != nil {
			return base.CheckRedirect(req, via)
		}
		if len(via) >= 10 {
			return Permanent(errors.New("stopped after 10 redirects"))
		}
		return nil
	}
	return &client
}

func (s *HTTPSource) statusError(resp *http.Response) *StatusError {
	return &StatusError{
		Code:       resp.StatusCode,
		URL:        RedactURL(s.URL),
		RetryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now()),
	}
}

// retryAfter reads both forms of a Retry-After header (RFC 9110, 10.2.3).
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseInt(header, 10, 32); err == nil {
		return max(time.Duration(seconds)*time.Second, 0)
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// versioned adds to info what names the object's version in an answer.
func versioned(info Info, resp *http.Response) Info {
	info.ETag = strongETag(resp)
	if info.ETag == "" {
		info.LastModified = resp.Header.Get("Last-Modified")
	}
	return info
}

// strongETag returns the answer's validator if it is a strong one (RFC 9110,
// 8.8.3): a weak one does not vouch for single bytes.
func strongETag(resp *http.Response) string {
	tag := resp.Header.Get("ETag")
	if len(tag) < 2 || tag[0] != '"' || tag[len(tag)-1] != '"' {
		return ""
	}
	return tag
}

// parseContentRange reads "bytes FIRST-LAST/SIZE" (RFC 9110, 14.4). An unknown
// size, "*", is not accepted: without it a change would go unseen.
func parseContentRange(s string) (first, last, size int64, ok bool) {
	s, found := strings.CutPrefix(s, "bytes ")
	if !found {
		return 0, 0, 0, false
	}
	span, total, found := strings.Cut(s, "/")
	from, to, dash := strings.Cut(span, "-")
	if !found || !dash {
		return 0, 0, 0, false
	}
	numbers := [3]int64{}
	for i, text := range []string{from, to, total} {
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil {
			return 0, 0, 0, false
		}
		numbers[i] = int64(n)
	}
	first, last, size = numbers[0], numbers[1], numbers[2]
	return first, last, size, first <= last && last < size
}

// finish reads the little that is left of an answer, so that its connection
// can be used again, and closes it.
func finish(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, 4<<10) // only a courtesy: the answer itself is known
	_ = body.Close()
}

// exactBody is a body that must have exactly left more bytes; with left < 0 it
// may have any number.
type exactBody struct {
	body io.ReadCloser
	left int64
}

func (b *exactBody) Read(p []byte) (int, error) {
	if b.left < 0 || len(p) == 0 {
		return b.body.Read(p)
	}
	if b.left == 0 {
		var one [1]byte
		n, err := b.body.Read(one[:])
		if n > 0 {
			return 0, ErrTooLong
		}
		return 0, err
	}
	n, err := b.body.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if b.left > 0 && errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (b *exactBody) Close() error { return b.body.Close() }
