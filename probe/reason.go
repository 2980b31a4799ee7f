package probe

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/hyper2kvm/hyper2kvm/probe/findings"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/nfc"
)

// kinds are the errors that have a word of their own, the first that fits.
var kinds = []struct {
	err error
	is  findings.Answer
}{
	{vsphere.ErrPoweredOn, findings.PowerState},
	{vsphere.ErrNoPermission, findings.NoPermission},
	{vsphere.ErrBusy, findings.Busy},
	{vsphere.ErrUnsupported, findings.Unsupported},
	{vsphere.ErrNotExportable, findings.NotExportable},
	{vsphere.ErrNotFound, findings.NotFound},
	{nfc.ErrLocked, findings.InUse},
	{nfc.ErrActiveLink, findings.PowerState},
	{nfc.ErrMemory, findings.Memory},
	{nfc.ErrTicket, findings.Ticket},
	{nfc.ErrForeign, findings.Ticket},
	{nfc.ErrUnsupported, findings.Unsupported},
	{nfc.ErrService, findings.Unsupported},
	{nfc.ErrBusy, findings.Busy},
	{nfc.ErrCertificate, findings.Untrusted},
	{nfc.ErrProtocol, findings.Protocol},
	{nfc.ErrClear, findings.Protocol},
	{nfc.ErrStalled, findings.TimedOut},
	{vsphere.ErrUnreachable, findings.Unreachable},
	{nfc.ErrUnreachable, findings.Unreachable},
	{context.DeadlineExceeded, findings.TimedOut},
	{context.Canceled, findings.Interrupted},
	{os.ErrDeadlineExceeded, findings.TimedOut},
}

// reason is the word for an error: of its text nothing gets into a report.
func reason(err error) findings.Answer {
	if err == nil {
		return ""
	}
	var certificate *vsphere.CertificateError
	if errors.As(err, &certificate) {
		return findings.Untrusted
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.is
		}
	}
	var network net.Error
	if errors.As(err, &network) {
		return findings.Unreachable
	}
	return findings.Failed
}

// reached is what an attempt to connect says of a port.
func reached(err error) findings.Answer {
	var dns *net.DNSError
	switch {
	case err == nil:
		return findings.Open
	case errors.As(err, &dns):
		return findings.Unresolved
	case errors.Is(err, syscall.ECONNREFUSED), strings.Contains(err.Error(), "refused"):
		return findings.Closed
	}
	return findings.Silent
}
