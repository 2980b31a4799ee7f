package transfer_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

func TestEveryFailureHasACauseOfASmallSet(t *testing.T) {
	t.Parallel()
	status := func(code int) error { return &transfer.StatusError{Code: code} }
	for _, test := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("%w: no byte for 30s", transfer.ErrStalled), "stalled"},
		{transfer.ErrEmptyBody, "empty"},
		{fmt.Errorf("%w: %w", transfer.ErrRestart, transfer.ErrChanged), "changed"},
		{transfer.ErrNoRange, "range"},
		{transfer.ErrTooLong, "range"},
		{status(503), "http_503"},
		{status(429), "http_429"},
		{status(401), "http_401"},
		{status(418), "http_4xx"},
		{status(507), "http_5xx"},
		{status(999), "http_5xx"},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, "cut"},
		{io.ErrUnexpectedEOF, "cut"},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, "unreachable"},
		{&net.DNSError{Err: "no such host", Name: "esxi-7"}, "dns"},
		{context.DeadlineExceeded, "timeout"},
		{x509.UnknownAuthorityError{}, "certificate"},
		{errors.New("whatever a server thinks of 12345"), "other"},
	} {
		if got := transfer.Cause(test.err); got != test.want {
			t.Errorf("the cause of %v is %q, want %q", test.err, got, test.want)
		}
	}
}
