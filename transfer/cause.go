package transfer

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
)

// Cause names the kind of a failure in a word or two, of a small set: what is
// counted by cause must not grow with what servers think of.
func Cause(err error) string {
	var status *StatusError
	var network net.Error
	var dns *net.DNSError
	switch {
	case errors.As(err, &status):
		return statusCause(status.Code)
	case errors.Is(err, ErrStalled):
		return "stalled"
	case errors.Is(err, ErrEmptyBody):
		return "empty"
	case errors.Is(err, ErrChanged):
		return "changed"
	case errors.Is(err, ErrNoRange), errors.Is(err, ErrTooLong):
		return "range"
	case errors.As(err, &dns):
		return "dns"
	case isCertificateError(err):
		return "certificate"
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "unreachable"
	case errors.As(err, &network) && network.Timeout():
		return "timeout"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		return "cut"
	}
	return "other"
}

// statusCause is the cause of a refusal: its code where that says something by
// itself, and its class otherwise.
func statusCause(code int) string {
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return "http_" + strconv.Itoa(code)
	}
	if code >= 500 {
		return "http_5xx"
	}
	return "http_4xx"
}
