package nfc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
)

// Identities of errors, for errors.Is. The error itself is an [*Error].
var (
	// ErrActiveLink: a running VM writes to the file (F-902-2).
	ErrActiveLink = errors.New("the file is written to by a running VM")
	// ErrLocked: something else reads the file: /folder, an export, another host (F-902-3).
	ErrLocked = errors.New("something else holds the file")
	// ErrForeign: the ticket does not allow this file (F-902-5).
	ErrForeign = errors.New("the ticket does not allow this file")
	// ErrMemory: the host has no memory left for NFC (F-902-6).
	ErrMemory = errors.New("the host has no memory left for NFC")
	// ErrRefused: the host refuses for another reason, which its code and text tell.
	ErrRefused = errors.New("the host refuses")
	// ErrTicket: the host does not accept the ticket: it is used up, expired, or of
	// somebody else. A new one may do.
	ErrTicket = errors.New("the host does not accept the ticket")
	// ErrService: the host does not offer the service that was asked for.
	ErrService = errors.New("the host does not offer the service")
	// ErrUnsupported: the host is too old, or too new, for this client.
	ErrUnsupported = errors.New("the host does not speak what is needed")
	// ErrBusy: the host takes no connections for the moment.
	ErrBusy = errors.New("the host takes no connection now")
	// ErrCertificate: the host's certificate is not the one that the ticket names.
	ErrCertificate = errors.New("the certificate is not the expected one")
	// ErrClear: the host wants to go on without encryption.
	ErrClear = errors.New("the host wants to send the disk unencrypted")
	// ErrProtocol: the host sent what the protocol does not allow.
	ErrProtocol = errors.New("the host does not keep to the protocol")
	// ErrUnreachable: there is no connection to the host.
	ErrUnreachable = errors.New("unreachable")
	// ErrStalled: the host has sent nothing for too long while something was asked for.
	ErrStalled = errors.New("the host has gone silent")
	// ErrOver: the connection has ended.
	ErrOver = errors.New("the connection has ended")
)

// verdict is what an error of that kind means: whether trying again may help, and
// what a person can do.
type verdict struct {
	permanent bool
	hint      string
}

var verdicts = map[error]verdict{
	ErrActiveLink:  {true, "export the running VM from a temporary snapshot (-snapshot), or shut it down"},
	ErrLocked:      {true, "wait for the other reader's end (a download from the datastore, a backup, another export), or read through the export lease (-transport nfc)"},
	ErrForeign:     {true, "check that the VM is registered at this vCenter with this file; otherwise read through the export lease (-transport nfc)"},
	ErrMemory:      {false, "let fewer disks of this host move at once"},
	ErrRefused:     {false, "look into the host's hostd.log and vpxa.log for NFC"},
	ErrTicket:      {false, "compare the clocks of vCenter and host if this goes on"},
	ErrService:     {false, "read through the export lease (-transport nfc) if this goes on"},
	ErrUnsupported: {true, "read through the export lease (-transport nfc), or update the host"},
	ErrBusy:        {false, "look at the host's load and at how many backups read from it"},
	ErrCertificate: {true, "unless the certificate was renewed a moment ago, somebody may be listening in"},
	ErrClear:       {true, "read through the export lease (-transport nfc)"},
	ErrProtocol:    {false, "read through the export lease (-transport nfc), and please report this"},
	ErrUnreachable: {false, "open TCP port 902 from this machine to the host in every firewall between"},
}

// Error says at which stage of a connection something failed, with which host, and
// what it said.
type Error struct {
	Host  string // host:port
	Stage string // as "TLS", "PROXY", "open [ds1] vm1/vm1.vmdk"
	Kind  error  // one of the Err values
	Code  uint64 // of the host's error message, 0 without one
	Text  string // what the host said, made printable; "" for nothing
	Err   error  // the cause; may be nil
}

// Error gives all of it in one line.
func (e *Error) Error() string { return "NFC with " + e.Host + ": " + e.what() }

// what is the error without the host.
func (e *Error) what() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %v", e.Stage, e.Kind)
	if e.Code != 0 {
		fmt.Fprintf(&b, ": error %d (0x%x)", e.Code, e.Code)
	}
	if e.Text != "" {
		fmt.Fprintf(&b, ": “%s”", e.Text)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap gives Kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// Permanent says whether the same would be answered again until a person has changed
// something.
func (e *Error) Permanent() bool { return verdicts[e.Kind].permanent }

// Hint is what to try; "" when there is nothing to say.
func (e *Error) Hint() string { return verdicts[e.Kind].hint }

// Pause is how long to wait before trying again; package transfer asks for it.
func (e *Error) Pause() time.Duration {
	if errors.Is(e.Kind, ErrMemory) || errors.Is(e.Kind, ErrBusy) {
		return overloadPause
	}
	return 0
}

// overloadPause is how long a host that is out of memory or connections is left alone
// at least (F-902-6).
const overloadPause = 5 * time.Second

// maxText is how much of a host's words is repeated, in bytes.
const maxText = 300

// printable makes a host's words fit for a terminal, without the secret.
func printable(text, secret string) string {
	if secret != "" {
		text = strings.ReplaceAll(text, secret, "[ticket]")
	}
	text = strings.TrimRight(text, "\x00\r\n ")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return safetext.Escape(text)
}

// Codes of error messages (F-902-5 to F-902-7). They may be extended codes with a
// kind in them, so the texts count as well.
const (
	codeMemory  = 5
	codeForeign = 11
	codeLocked  = 16392
)

// kindOf says what a host's error message means.
func kindOf(code uint64, text string) error {
	low := strings.ToLower(text)
	switch {
	case strings.Contains(low, "multiwriter mode"):
		return ErrActiveLink
	case strings.Contains(low, "failed to lock the file"), code == codeLocked:
		return ErrLocked
	case strings.Contains(low, "failed to allocate"):
		return ErrMemory
	case strings.Contains(low, "permission check failed"), code == codeForeign:
		return ErrForeign
	case code == codeMemory:
		return ErrMemory
	}
	return ErrRefused
}

// broken words what the network did to a connection that should have gone on.
func broken(host, stage string, err error) error {
	var done *Error
	var timeout net.Error
	switch {
	case errors.As(err, &done):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &timeout) && timeout.Timeout():
		return &Error{Host: host, Stage: stage, Kind: ErrStalled}
	case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF): // the end of a stream that should have gone on
		return &Error{Host: host, Stage: stage, Kind: ErrOver, Err: io.ErrUnexpectedEOF}
	}
	return &Error{Host: host, Stage: stage, Kind: ErrOver, Err: err}
}
