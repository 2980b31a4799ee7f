package vsphere

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/vsphere/nfc"
)

// Tickets for port 902 of an ESXi host come from calls that no schema has (F-902-4).
// The names of the types are those of the methods: calls.go knows them by those. Of
// the service's methods only the two that give a ticket to read are here.

type retrieveInternalContent struct {
	This types.ManagedObjectReference `xml:"_this"`
}

type internalContent struct {
	NfcService *types.ManagedObjectReference `xml:"returnval>nfcService"`
}

// RetrieveInternalContentBody is a call and its answer.
type RetrieveInternalContentBody struct {
	Req    *retrieveInternalContent `xml:"urn:vim25 RetrieveInternalContent,omitempty"`
	Res    *internalContent         `xml:"RetrieveInternalContentResponse,omitempty"`
	Fault_ *soap.Fault              `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault,omitempty"`
}

// Fault is the one that was answered, or nil.
func (b *RetrieveInternalContentBody) Fault() *soap.Fault { return b.Fault_ }

type nfcGetVMFiles struct {
	This types.ManagedObjectReference `xml:"_this"`
	VM   types.ManagedObjectReference `xml:"vm"`
}

type nfcRandomAccessOpenReadonly struct {
	This types.ManagedObjectReference  `xml:"_this"`
	VM   types.ManagedObjectReference  `xml:"vm"`
	Key  int32                         `xml:"diskDeviceKey"`
	Host *types.ManagedObjectReference `xml:"hostForAccess,omitempty"`
}

type nfcTicket struct {
	Ticket *types.HostServiceTicket `xml:"returnval"`
}

// NfcGetVmFilesBody is a call and its answer.
type NfcGetVmFilesBody struct {
	Req    *nfcGetVMFiles `xml:"urn:vim25 NfcGetVmFiles,omitempty"`
	Res    *nfcTicket     `xml:"NfcGetVmFilesResponse,omitempty"`
	Fault_ *soap.Fault    `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault,omitempty"`
}

// Fault is the one that was answered, or nil.
func (b *NfcGetVmFilesBody) Fault() *soap.Fault { return b.Fault_ }

// NfcRandomAccessOpenReadonlyBody is a call and its answer.
type NfcRandomAccessOpenReadonlyBody struct {
	Req    *nfcRandomAccessOpenReadonly `xml:"urn:vim25 NfcRandomAccessOpenReadonly,omitempty"`
	Res    *nfcTicket                   `xml:"NfcRandomAccessOpenReadonlyResponse,omitempty"`
	Fault_ *soap.Fault                  `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault,omitempty"`
}

// Fault is the one that was answered, or nil.
func (b *NfcRandomAccessOpenReadonlyBody) Fault() *soap.Fault { return b.Fault_ }

const opTicket = "get a ticket for port 902"

var errNoService = errors.New("it has no NFC service")

// nfcTicket asks for a ticket, good for one connection: for all files of the VM, or,
// where that is refused, which tell is told, or other is true, for one disk of it. They
// need different privileges.
func (c *Client) nfcTicket(ctx context.Context, vm VM, d Disk, other bool, tell func(string)) (nfc.Ticket, error) {
	this := types.ManagedObjectReference{Type: "ServiceInstance", Value: "ServiceInstance"}
	content := RetrieveInternalContentBody{Req: &retrieveInternalContent{This: this}}
	var answer RetrieveInternalContentBody
	if err := c.vim().RoundTrip(ctx, &content, &answer); err != nil {
		return nfc.Ticket{}, optional(translate(opTicket, vm.Path, err))
	}
	if answer.Res == nil || answer.Res.NfcService == nil {
		return nfc.Ticket{}, &Error{Op: opTicket, On: vm.Path, Kind: ErrUnsupported, Err: errNoService}
	}
	service := *answer.Res.NfcService
	if !other {
		t, err := c.allFilesTicket(ctx, service, vm)
		if err == nil || !isFault(err, "NoPermission", "NotSupported", "InvalidRequest", "MethodNotFound", "RestrictedVersion") {
			return t, translate(opTicket, vm.Path, err)
		}
		refusal := optional(translate(opTicket, vm.Path, err)) // says what to ask for
		t, second := c.diskTicket(ctx, service, vm, d)
		if second != nil {
			return nfc.Ticket{}, refusal
		}
		tell(fmt.Sprintf("taking a ticket for the disk alone, because one for all files of the VM is refused: %v", refusal))
		return t, nil
	}
	t, err := c.diskTicket(ctx, service, vm, d)
	return t, optional(translate(opTicket, vm.Path, err))
}

func (c *Client) allFilesTicket(ctx context.Context, service types.ManagedObjectReference, vm VM) (nfc.Ticket, error) {
	req := NfcGetVmFilesBody{Req: &nfcGetVMFiles{This: service, VM: vmRef(vm.Ref)}}
	var res NfcGetVmFilesBody
	if err := c.vim().RoundTrip(ctx, &req, &res); err != nil {
		return nfc.Ticket{}, err
	}
	return c.ticketOf(res.Res)
}

func (c *Client) diskTicket(ctx context.Context, service types.ManagedObjectReference, vm VM, d Disk) (nfc.Ticket, error) {
	call := &nfcRandomAccessOpenReadonly{This: service, VM: vmRef(vm.Ref), Key: d.Key}
	if vm.Host != "" {
		call.Host = &types.ManagedObjectReference{Type: "HostSystem", Value: vm.Host}
	}
	var res NfcRandomAccessOpenReadonlyBody
	if err := c.vim().RoundTrip(ctx, &NfcRandomAccessOpenReadonlyBody{Req: call}, &res); err != nil {
		return nfc.Ticket{}, err
	}
	return c.ticketOf(res.Res)
}

var errNoTicket = errors.New("the answer has no ticket in it")

// ticketOf reads a ticket. One without a host is for the one that gave it out.
func (c *Client) ticketOf(res *nfcTicket) (nfc.Ticket, error) {
	if res == nil || res.Ticket == nil {
		return nfc.Ticket{}, errNoTicket
	}
	t := res.Ticket
	host := t.Host
	if host == "" || host == "*" {
		host = c.cfg.URL.Hostname()
	}
	return nfc.Ticket{
		Host: host, Port: int(t.Port), Service: t.Service, SessionID: t.SessionId,
		Thumbprint: t.SslThumbprint, Certificate: t.SslCertificate,
	}, nil
}

// trustAt judges the certificate of a host whose ticket names none: only a line of a
// known-hosts file vouches for it, of port 902 or of the host itself.
func (c *Client) trustAt(host func() string) func(*x509.Certificate) error {
	return func(cert *x509.Certificate) error {
		name, _, err := net.SplitHostPort(host())
		if err != nil {
			return err
		}
		for _, addr := range []string{host(), net.JoinHostPort(name, "443")} {
			for _, p := range c.trust.known[addr] {
				if p.matches(cert) {
					return nil
				}
			}
		}
		return certificateError(host(), cert, errNoPin)
	}
}

var errNoPin = errors.New("the ticket names none, and no known-hosts line is for it")

// SnapshotDisks returns the disks as a snapshot has them: their files are those that
// the snapshot has frozen.
func (c *Client) SnapshotDisks(ctx context.Context, s SnapshotRef) ([]Disk, error) {
	var m mo.VirtualMachineSnapshot
	if err := c.properties(ctx, snapshotRef(s), []string{"config.hardware.device"}, &m); err != nil {
		return nil, translate("read the snapshot "+s.Name, "", err)
	}
	return disksOf(m.Config.Hardware.Device), nil
}
