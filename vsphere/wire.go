package vsphere

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/vim25/xml"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
)

// outcome is what is known of a call after an attempt at it.
type outcome int

const (
	// answered: vSphere has said yes or no, or no further attempt would help.
	answered outcome = iota
	// unsent: there is no answer, and the call cannot have arrived.
	unsent
	// doubtful: something in front of vSphere has answered in its place, most
	// likely without passing the call on (F-NET-1).
	doubtful
	// unknown: there is no answer; the call may have taken effect.
	unknown
)

// wire carries SOAP calls. It tells apart what is not an answer of vSphere's:
// connections that end, and what a proxy in front of a service that is away
// says in its place.
type wire struct {
	kept  *http.Transport // for calls that may be repeated
	fresh *http.Transport // a new connection for each call
}

// Bounds of what a service sends. The largest answer is a page of an inventory, some
// MiB.
const (
	maxAnswer = 64 << 20  // bytes of a body
	maxHeader = 256 << 10 // bytes of the headers
)

// newWire returns a wire over t. Calls that must not be sent twice get a
// connection of their own: when one that was kept turns out to be dead, nobody
// can tell whether the call still went through it.
func newWire(t *http.Transport) *wire {
	fresh := t.Clone()
	fresh.DisableKeepAlives = true
	return &wire{kept: t, fresh: fresh}
}

// freshKey marks the context of a call that wants a connection of its own.
type freshKey struct{}

// RoundTrip implements http.RoundTripper. Its errors are of type [*wireError].
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent atomic.Bool
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		WroteHeaders: func() { sent.Store(true) },
	}))
	t := w.kept
	if r.Context().Value(freshKey{}) != nil {
		t = w.fresh
	}
	res, err := t.RoundTrip(r)
	if err != nil {
		return nil, &wireError{err: err, sent: sent.Load()}
	}
	switch res.StatusCode {
	case http.StatusOK, http.StatusInternalServerError: // an answer, or a fault
	default:
		_ = res.Body.Close()
		return nil, &wireError{code: res.StatusCode, sent: true}
	}
	body := bufio.NewReaderSize(&boundedBody{res.Body, maxAnswer}, 4096)
	head, err := body.Peek(1024)
	if bytes.Contains(head, []byte("Envelope")) {
		res.Body = struct {
			io.Reader
			io.Closer
		}{body, res.Body}
		return res, nil
	}
	_ = res.Body.Close()
	switch {
	case err != nil && err != io.EOF:
		return nil, &wireError{err: err, sent: true}
	case len(head) == 0:
		return nil, &wireError{err: io.ErrUnexpectedEOF, sent: true}
	}
	return nil, &wireError{code: res.StatusCode, alien: true, sent: true}
}

// errTooMuch: the answer is longer than any of vSphere's.
var errTooMuch = fault.Permanent(fmt.Errorf("the answer is longer than %d MiB, and not read on", maxAnswer>>20))

// boundedBody is a body that must have no more than left bytes.
type boundedBody struct {
	body io.Reader
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooMuch
	}
	n, err := b.body.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// wireError is a call that got no answer of vSphere's.
type wireError struct {
	err   error // the connection's; nil where something else answered
	code  int   // HTTP status of that answer
	alien bool  // it is 200 or 500, and no SOAP
	sent  bool  // the request may have gone out
}

func (e *wireError) Error() string {
	switch {
	case e.err != nil:
		return e.err.Error()
	case e.alien:
		return fmt.Sprintf("something that is not SOAP in place of an answer (HTTP status %d), as from a proxy whose service is away", e.code)
	}
	return fmt.Sprintf("%d %s", e.code, http.StatusText(e.code))
}

func (e *wireError) Unwrap() error { return e.err }

// outcome judges the error. known says that SOAP was spoken at that address
// before: what looks like the wrong address is then a service that is away.
func (e *wireError) outcome(known bool) outcome {
	switch {
	case e.err != nil && !e.sent:
		if !known && misdirected(e.err) {
			return answered
		}
		return unsent
	case e.err != nil:
		return unknown
	case e.alien && e.code == http.StatusOK,
		e.code == http.StatusServiceUnavailable, e.code == http.StatusTooManyRequests:
		return doubtful
	case known && (e.code == http.StatusNotFound || e.code >= 300 && e.code < 400):
		return doubtful
	case e.alien, e.code >= 500, e.code == http.StatusRequestTimeout:
		return unknown
	}
	return answered
}

// misdirected says whether a connection failed in a way that a mistyped
// address gives.
func misdirected(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

// noAnswer is an attempt that ran into its time limit.
type noAnswer struct {
	host   string
	method string
	after  time.Duration
	sent   bool
}

func (e *noAnswer) Error() string {
	return fmt.Sprintf("%s did not answer %s within %s", e.host, e.method, e.after)
}

// beforehand is why a call was not made: what had to come first, a login,
// failed.
type beforehand struct{ err error }

func (b *beforehand) Error() string { return b.err.Error() }
func (b *beforehand) Unwrap() error { return b.err }

// outcomeOf judges what an attempt gave. known is as for [wireError.outcome].
func outcomeOf(err error, known bool) outcome {
	var (
		w       *wireError
		none    *noAnswer
		syntax  *xml.SyntaxError
		network net.Error
		first   *beforehand
	)
	switch {
	case err == nil, errors.As(err, new(*CertificateError)), errors.As(err, new(*AddressError)), errors.Is(err, errTooMuch):
		return answered
	case faultOf(err) != nil:
		if errors.Is(err, ErrUnreachable) { // a login at a service that is starting
			return unsent
		}
		return answered
	case errors.As(err, &first):
		if outcomeOf(first.err, known) == answered {
			return answered
		}
		return unsent
	case errors.As(err, &none):
		if none.sent {
			return unknown
		}
		return unsent
	case errors.As(err, &w):
		return w.outcome(known)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &network),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &syntax) && strings.Contains(syntax.Msg, "unexpected EOF"): // in the middle of the answer
		return unknown
	}
	return answered
}
