package transfer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
)

// Errors that a caller tells apart.
var (
	// ErrNoRange: a ranged request was answered with something else. Together
	// with ErrRestart: begin again with Info.Ranges false.
	ErrNoRange = errors.New("the server does not answer ranged requests as asked")

	// ErrRestart: the stream broke after bytes were handed out and cannot go on.
	// The budget has a retry for it and the pause before that is over: begin
	// again from the first byte, with a new reader and the same Budget.
	ErrRestart = errors.New("the stream has to begin again")

	// ErrEmptyBody: the answer is a success without a single byte. Asking the
	// same URL again does not help (F-NFC-13: a fresh lease may).
	ErrEmptyBody = errors.New("the server sent an empty body")

	// ErrStalled: no byte came for Options.StallTimeout.
	ErrStalled = errors.New("the transfer stalled")

	// ErrChanged: the object is not the one that was probed. Together with
	// ErrRestart: probe again and begin from the first byte.
	ErrChanged = errors.New("the object changed on the server")

	// ErrTooLong: the body goes on after the bytes that were asked for.
	ErrTooLong = errors.New("the server sent more than was asked for")

	// ErrExhausted: the retry budget is used up. The last failure is wrapped
	// beside it.
	ErrExhausted = errors.New("giving up")
)

// StatusError is an answer whose HTTP status is a refusal.
type StatusError struct {
	Code       int           // HTTP status code
	URL        string        // without user info, query, and ticket; see RedactURL
	RetryAfter time.Duration // what the server asked to wait, 0 when it did not say
}

// Error names the place, the status, and what to try.
func (e *StatusError) Error() string {
	s := fmt.Sprintf("GET %s: %d %s", e.URL, e.Code, http.StatusText(e.Code))
	switch e.Code {
	case http.StatusUnauthorized, http.StatusForbidden:
		s += ": the session or lease has ended, or lacks the right to read this"
	case http.StatusNotFound, http.StatusGone:
		s += ": the lease has ended, or the host does not serve this object"
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		s += ": the host is overloaded; fewer parallel transfers may help"
	}
	return s
}

// Pause is how long the server asked to wait.
func (e *StatusError) Pause() time.Duration { return e.RetryAfter }

// Permanent marks err as one that trying again does not mend, for [Temporary]
// and so for every retry of this package. A nil err stays nil.
func Permanent(err error) error { return fault.Permanent(err) }

// Temporary reports whether trying again may mend err. It is the one place
// where that is decided.
//
// Not temporary are: nil, the end of a context, an answer of 4xx other than
// 408, 425 and 429, a certificate that is not accepted, a host name that does
// not exist, [ErrNoRange], [ErrChanged], [ErrEmptyBody], [ErrExhausted], and
// any error with a method Permanent() bool that returns true. Everything else
// is: cut and refused connections, stalls, 5xx, and errors unknown to this
// package, such as a truncated image.
func Temporary(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	for _, sentinel := range []error{ErrNoRange, ErrChanged, ErrEmptyBody, ErrExhausted} {
		if errors.Is(err, sentinel) {
			return false
		}
	}
	if fault.IsPermanent(err) {
		return false
	}
	var status *StatusError
	if errors.As(err, &status) {
		return temporaryStatus(status.Code)
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return !dns.IsNotFound
	}
	return !isCertificateError(err)
}

func temporaryStatus(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return code >= 500
}

func isCertificateError(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		authority    x509.UnknownAuthorityError
		hostname     x509.HostnameError
		invalid      x509.CertificateInvalidError
	)
	return errors.As(err, &verification) || errors.As(err, &authority) ||
		errors.As(err, &hostname) || errors.As(err, &invalid)
}

// contextError tells why ctx ended: its error, and its cause where one was
// given.
func contextError(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == nil || errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}
