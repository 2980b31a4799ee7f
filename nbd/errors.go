package nbd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

// Identities of errors, for errors.Is. The error itself is an [*Error].
var (
	// ErrUnreachable: there is no connection to the server.
	ErrUnreachable = errors.New("unreachable")
	// ErrProtocol: the server sent what the protocol does not allow.
	ErrProtocol = errors.New("the server does not keep to the NBD protocol")
	// ErrUnsupported: the server speaks a form of the protocol that this client does
	// not: no newstyle, only TLS, blocks that are too large.
	ErrUnsupported = errors.New("the server does not speak what is needed")
	// ErrNoExport: the server does not offer the export, or not now.
	ErrNoExport = errors.New("the server does not offer this export")
	// ErrRead: the server could not read.
	ErrRead = errors.New("the server could not read")
	// ErrStalled: the server has sent nothing for too long while something was asked for.
	ErrStalled = errors.New("the server has gone silent")
	// ErrOver: the connection has ended.
	ErrOver = errors.New("the connection has ended")
)

// Error says at which stage of a connection something failed, and what the server said.
type Error struct {
	Name  string // of the server, for people
	Stage string // as "option GO", "read 4096 bytes at 0"
	Kind  error  // one of the Err values
	Code  uint32 // of the server's error: an errno of NBD, or a type of reply; 0 without one
	Text  string // what the server said, made printable; "" for nothing
	Err   error  // the cause; may be nil
}

// Error gives all of it in one line.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "NBD with %s: %s: %v", e.Name, e.Stage, e.Kind)
	if e.Code != 0 {
		fmt.Fprintf(&b, ": %s", codeName(e.Code))
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
func (e *Error) Permanent() bool { return errors.Is(e.Kind, ErrUnsupported) }

// Hint is what to try; "" when there is nothing to say.
func (e *Error) Hint() string {
	return hints[e.Kind]
}

// hints are what to try, by the kind of the error.
var hints = map[error]string{
	ErrUnreachable: "see whether the server runs and listens there",
	ErrUnsupported: "serve the disk with nbdkit or qemu-nbd on a unix socket, without TLS",
	ErrNoExport:    "look for the reason in what the server has logged",
	ErrRead:        "look for the reason in what the server has logged",
}

// maxText is how much of a server's words is repeated, in bytes.
const maxText = 300

// codeNames are the error numbers of the protocol.
var codeNames = map[uint32]string{
	1: "EPERM", 5: "EIO", 12: "ENOMEM", 22: "EINVAL", 28: "ENOSPC", 75: "EOVERFLOW", 95: "ENOTSUP", 108: "ESHUTDOWN",
	repUnsupported: "not supported", repPolicy: "forbidden", repInvalid: "invalid", repPlatform: "not on this platform",
	repTLS: "it wants TLS", repUnknown: "unknown export", repShutdown: "it is shutting down", repBlockSize: "it wants block sizes to be agreed", repTooBig: "too big",
}

func codeName(code uint32) string {
	if name, ok := codeNames[code]; ok {
		return name
	}
	if code&errorBit != 0 {
		return fmt.Sprintf("error %d", code&^errorBit)
	}
	return fmt.Sprintf("error %d", code)
}

// broken words what became of a connection that should have gone on.
func broken(name, stage string, err error) error {
	var done *Error
	var timeout net.Error
	switch {
	case errors.As(err, &done), errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &timeout) && timeout.Timeout():
		return &Error{Name: name, Stage: stage, Kind: ErrStalled}
	case err == io.EOF: // the end of a stream that should have gone on
		return &Error{Name: name, Stage: stage, Kind: ErrOver, Err: io.ErrUnexpectedEOF}
	}
	return &Error{Name: name, Stage: stage, Kind: ErrOver, Err: err}
}
