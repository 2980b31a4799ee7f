package vsphere

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
)

// Identities of errors, for errors.Is. The error itself is mostly an [*Error].
var (
	ErrNotFound      = errors.New("not found")
	ErrLogin         = errors.New("login refused")
	ErrNoPermission  = errors.New("permission missing")
	ErrPoweredOn     = errors.New("the VM's power state forbids it")
	ErrBusy          = errors.New("busy with another task")
	ErrNotExportable = errors.New("cannot be exported")
	ErrLeaseLost     = errors.New("the export lease is lost")
	ErrUnsupported   = errors.New("not supported by this vSphere")
	ErrUnreachable   = errors.New("unreachable")
	// ErrNotVSphere: something answers at the address, and it is no vCenter or ESXi
	// host, or not at that path.
	ErrNotVSphere = errors.New("not a vCenter or ESXi host")
	// ErrUncertain: a call that changes something got no answer, and may have
	// taken effect all the same. Whoever made it looks after that effect.
	ErrUncertain = errors.New("it may have taken effect all the same")
	// ErrPending: vSphere was asked for a change whose end is not known. See
	// [PendingError].
	ErrPending = errors.New("vSphere may still be at it")
)

// Error says what failed, on what, why, and what to try.
type Error struct {
	Op   string // what was tried, as "open the export lease"
	On   string // of what, as an inventory path; may be empty
	Hint string // what to try; may be empty
	Kind error  // one of the Err values, or nil
	Err  error  // the cause
	// Privilege is what a [ErrNoPermission] lacks, as VApp.Export.
	Privilege string
	// Uncertain says that the error is an [ErrUncertain] too.
	Uncertain bool
}

// Error gives all of it in one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.On != "" {
		b.WriteString(" of " + e.On)
	}
	b.WriteString(": " + e.Err.Error())
	if e.Uncertain {
		b.WriteString("; " + ErrUncertain.Error())
	}
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return safetext.Bounded(b.String(), maxText)
}

// Bounds of what an error quotes of a service, in bytes.
const (
	maxText  = 4 << 10 // all of it
	maxFault = 1 << 10 // of a fault
)

// Unwrap gives Kind and the cause.
func (e *Error) Unwrap() []error {
	var out []error
	if e.Kind != nil {
		out = append(out, e.Kind)
	}
	if e.Uncertain {
		out = append(out, ErrUncertain)
	}
	return append(out, e.Err)
}

// AmbiguousError says that a reference fits several VMs.
type AmbiguousError struct {
	Ref     string
	Matches []VM
}

// Error lists the paths, as many as one can read.
func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%q fits %d VMs; give the inventory path or UUID of one of them: %s",
		e.Ref, len(e.Matches), listPaths(e.Matches))
}

// NotFoundError says that no VM fits a reference. It is an [ErrNotFound].
type NotFoundError struct {
	Ref  string
	Near []string // paths of VMs with a similar name, the nearest first
}

// Error names what comes near.
func (e *NotFoundError) Error() string {
	s := fmt.Sprintf("no VM fits %q", e.Ref)
	if len(e.Near) > 0 {
		return s + "; did you mean " + safetext.Bounded(strings.Join(e.Near, ", "), maxText) + "?"
	}
	return s + "; list what there is, or check that this user may see it"
}

// Unwrap gives [ErrNotFound].
func (e *NotFoundError) Unwrap() error { return ErrNotFound }

// listPaths joins the paths of the first few VMs.
func listPaths(vms []VM) string {
	const most = 10
	var b strings.Builder
	for i, vm := range vms {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(vms)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s (%s)", vm.Path, vm.InstanceUUID)
	}
	return safetext.Bounded(b.String(), maxText)
}

// faulter is what govmomi's errors for SOAP faults, missing properties and
// failed tasks have in common.
type faulter interface{ Fault() types.BaseMethodFault }

// faultOf returns the vSphere fault in err's chain, or nil.
func faultOf(err error) types.BaseMethodFault {
	var f faulter
	if errors.As(err, &f) {
		return f.Fault()
	}
	return nil
}

// faultName returns the type's name of the fault in err, or "".
func faultName(err error) string {
	f := faultOf(err)
	if f == nil {
		return ""
	}
	t := reflect.TypeOf(f)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Name()
}

// translate turns what govmomi, the network or TLS reported while op was tried
// on something into an error for people. Every error that leaves this package
// passes through here.
func translate(op, on string, err error) error {
	if err == nil {
		return nil
	}
	var (
		done    *Error
		pending *PendingError
	)
	if errors.As(err, &done) || errors.As(err, &pending) {
		return err
	}
	e := &Error{Op: op, On: on, Err: plain(err), Uncertain: errors.Is(err, ErrUncertain)}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return e
	}
	if faultOf(err) != nil {
		e.explainFault(err)
		return e
	}
	e.explainNetwork(err)
	var w *wearied
	if errors.As(err, &w) {
		e.Err = &worded{fmt.Sprintf("%v (tried for %s)", e.Err, w.after.Round(time.Second)), e.Err}
	}
	return e
}

// plain strips the layers of err that add noise: the method and URL of an
// HTTP client's error.
func plain(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}

func (e *Error) explainFault(err error) {
	name := faultName(err)
	e.Err = &faultError{err: err, name: name}
	switch f := faultOf(err).(type) {
	case *types.InvalidLogin:
		e.Kind, e.Hint = ErrLogin, "check user name and password (GOVC_USERNAME, GOVC_PASSWORD)"
	case *types.PasswordExpired:
		e.Kind, e.Hint = ErrLogin, "set a new password for this user"
	case *types.NotAuthenticated:
		e.Kind, e.Hint = ErrLogin, "the session has ended and logging in again did not help"
	case *types.NoPermission:
		e.Kind, e.Privilege = ErrNoPermission, f.PrivilegeId
		e.Hint = "ask an administrator for a role with the privilege " + f.PrivilegeId
		if f.PrivilegeId == "" {
			e.Hint = "ask an administrator for a role that allows it"
		}
	case *types.ManagedObjectNotFound:
		e.Kind, e.Hint = ErrNotFound, "it may have been deleted meanwhile"
	case *types.InvalidPowerState:
		e.Kind = ErrPoweredOn
		e.Hint = "shut the VM down, or export a running VM by a temporary snapshot"
	case *types.TaskInProgress, *types.ConcurrentAccess, *types.FileLocked, *types.ResourceInUse:
		e.Kind, e.Hint = ErrBusy, "wait for the VM's running task (backup, migration, another export) and try again"
	case *types.HostCommunication, *types.HostNotConnected, *types.HostNotReachable:
		e.Kind, e.Hint = ErrUnreachable, "vCenter has lost the ESXi host: look at the host and its connection"
	case *types.NotSupported, *types.NotImplemented, *types.MethodNotFound, *types.RestrictedVersion:
		e.Kind = ErrUnsupported
		if name == "RestrictedVersion" {
			e.Hint = "the host's licence does not include this API"
		}
	}
}

func (e *Error) explainNetwork(err error) {
	var (
		cert *CertificateError
		addr *AddressError
		dns  *net.DNSError
		nerr net.Error
		none *noAnswer
		w    *wireError
	)
	switch {
	case errors.As(err, &cert):
		e.Err = cert
	case errors.As(err, &addr):
		e.Err = addr
	case errors.As(err, &none):
		e.Kind, e.Err, e.Hint = ErrUnreachable, none, "look whether the service hangs or is overloaded"
	case errors.As(err, &dns):
		e.Kind = ErrUnreachable
		e.Err = &worded{"the name " + dns.Name + " cannot be resolved", err}
		e.Hint = "check the name and this machine's DNS servers"
	case errors.Is(err, connRefused):
		e.Kind, e.Hint = ErrUnreachable, "nothing listens there: check host and port"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, connReset):
		e.Kind, e.Hint = ErrUnreachable, "the other side closed the connection; try again"
	case errors.As(e.Err, &nerr): // not err: a *url.Error is a net.Error whatever it holds
		e.Kind, e.Hint = ErrUnreachable, "check host, port, routing and firewalls"
	case errors.As(err, &w) && w.code != 0:
		e.explainStatus(w)
	}
}

// explainStatus tells what to make of something else that has answered in
// place of vSphere.
func (e *Error) explainStatus(w *wireError) {
	if w.outcome(true) != answered {
		e.Kind, e.Hint = ErrUnreachable, "the service is not ready; try again later"
	}
	if w.code == http.StatusNotFound || w.code == http.StatusMethodNotAllowed || w.code < 400 {
		e.Hint = "is this the address of a vCenter or ESXi host, and does its service run?"
	}
}

// worded is err in other words.
type worded struct {
	text string
	err  error
}

func (w *worded) Error() string { return w.text }
func (w *worded) Unwrap() error { return w.err }

// faultError words a vSphere fault: its message, then its name.
type faultError struct {
	err  error
	name string
}

func (f *faultError) Error() string {
	msg := strings.TrimSpace(strings.TrimPrefix(f.err.Error(), "ServerFaultCode: "))
	msg = safetext.Bounded(oneLine(strings.TrimSuffix(msg, ".")), maxFault)
	if msg == "" || msg == f.name {
		return "fault " + f.name
	}
	return msg + " (fault " + f.name + ")"
}

func (f *faultError) Unwrap() error { return f.err }
