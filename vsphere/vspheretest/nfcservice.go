package vspheretest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/probe/findings"
)

// The NFC service of vCenter, which gives out tickets for port 902 (F-902-4). The
// simulator knows its reference and none of its methods, and no schema has them.

// nfcServiceRef is the reference that RetrieveInternalContent answers with.
var nfcServiceRef = types.ManagedObjectReference{Type: "NfcService", Value: "NfcService"}

// ticketLife is how long a ticket is good before it is used. How long that is on real
// hosts is not known.
const ticketLife = 5 * time.Minute

// Requests of the methods. Those that write have a type too, so that they get a fault
// that every client can read.
type (
	nfcGetVmFiles struct {
		This types.ManagedObjectReference `xml:"_this"`
		VM   types.ManagedObjectReference `xml:"vm"`
	}
	nfcOpenDisk struct {
		This types.ManagedObjectReference  `xml:"_this"`
		VM   types.ManagedObjectReference  `xml:"vm"`
		Key  int32                         `xml:"diskDeviceKey"`
		Host *types.ManagedObjectReference `xml:"hostForAccess"`
	}
	nfcLibVersion struct {
		This types.ManagedObjectReference  `xml:"_this"`
		Host *types.ManagedObjectReference `xml:"hostForAccess"`
	}
	nfcForbidden struct {
		This types.ManagedObjectReference `xml:"_this"`
	}
)

// A call is decoded by the type that has its name in the library's registry, which is
// read by every lab of a process: it must be whole before the first one begins.
func init() {
	for name, request := range map[string]any{
		"NfcGetVmFiles": nfcGetVmFiles{}, "NfcRandomAccessOpenReadonly": nfcOpenDisk{},
		"NfcGetServerNfcLibVersion": nfcLibVersion{},
		"NfcRandomAccessOpenDisk":   nfcForbidden{}, "NfcRandomAccessOpen": nfcForbidden{}, "NfcRandomAccessFileOpen": nfcForbidden{},
		"NfcPutVmFiles": nfcForbidden{}, "NfcFileManagement": nfcForbidden{}, "NfcSystemManagement": nfcForbidden{},
	} {
		types.Add(name, reflect.TypeOf(request))
	}
}

// nfcTicket is what a client is given. Fields of a ticket come in different orders:
// nfcTicketOther is one that was seen as well.
type nfcTicket struct {
	Host           string `xml:"host,omitempty"`
	Port           int32  `xml:"port,omitempty"`
	SSLThumbprint  string `xml:"sslThumbprint,omitempty"`
	SSLCertificate string `xml:"sslCertificate,omitempty"`
	Service        string `xml:"service"`
	ServiceVersion string `xml:"serviceVersion"`
	SessionID      string `xml:"sessionId"`
}

type nfcTicketOther struct {
	SessionID      string `xml:"sessionId"`
	URL            string `xml:"url,omitempty"`
	ServiceVersion string `xml:"serviceVersion"`
	Service        string `xml:"service"`
	SSLCertificate string `xml:"sslCertificate,omitempty"`
	SSLThumbprint  string `xml:"sslThumbprint,omitempty"`
	Port           int32  `xml:"port,omitempty"`
	Host           string `xml:"host,omitempty"`
}

func (t nfcTicket) other() nfcTicketOther {
	return nfcTicketOther{
		SessionID: t.SessionID, URL: "nfc://ignored", ServiceVersion: t.ServiceVersion, Service: t.Service,
		SSLCertificate: t.SSLCertificate, SSLThumbprint: t.SSLThumbprint, Port: t.Port, Host: t.Host,
	}
}

// Answers. The simulator takes the element's name from the tag of Res.
type (
	nfcResult struct {
		Returnval any `xml:"returnval"`
	}
	nfcFilesBody struct {
		refusedBody
		Res *nfcResult `xml:"NfcGetVmFilesResponse,omitempty"`
	}
	nfcReadonlyBody struct {
		refusedBody
		Res *nfcResult `xml:"NfcRandomAccessOpenReadonlyResponse,omitempty"`
	}
	nfcVersionBody struct {
		refusedBody
		Res *nfcResult `xml:"NfcGetServerNfcLibVersionResponse,omitempty"`
	}
)

// nfcService is the managed object. Its methods bear the names that they have on the
// wire.
type nfcService struct {
	unlocked
	srv *Server
}

func (*nfcService) Reference() types.ManagedObjectReference { return nfcServiceRef }

// NfcGetVmFiles gives a ticket for every file of a VM.
func (n *nfcService) NfcGetVmFiles(_ *simulator.Context, req *nfcGetVmFiles) soap.HasFault {
	if n.srv.like.Port902.Ticket == findings.OneDisk {
		return &refusedBody{simulator.Fault("The operation is not supported on the object.", &types.NotSupported{})}
	}
	t, fault := n.ticket(req.VM, -1, "VirtualMachine.Provisioning.GetVmFiles")
	if fault != nil {
		return &refusedBody{fault}
	}
	return &nfcFilesBody{Res: &nfcResult{t}}
}

// NfcRandomAccessOpenReadonly gives a ticket for one disk of a VM.
func (n *nfcService) NfcRandomAccessOpenReadonly(_ *simulator.Context, req *nfcOpenDisk) soap.HasFault {
	t, fault := n.ticket(req.VM, req.Key, "VirtualMachine.Provisioning.DiskRandomRead")
	if fault != nil {
		return &refusedBody{fault}
	}
	return &nfcReadonlyBody{Res: &nfcResult{t}}
}

// NfcGetServerNfcLibVersion tells the version of a host's library.
func (n *nfcService) NfcGetServerNfcLibVersion(_ *simulator.Context, req *nfcLibVersion) soap.HasFault {
	if req.Host == nil || req.Host.Value == "" {
		return &refusedBody{simulator.Fault("A specified parameter was not correct: hostForAccess", &types.InvalidArgument{InvalidProperty: "hostForAccess"})}
	}
	return &nfcVersionBody{Res: &nfcResult{int32(11)}}
}

// forbid is the answer to what a client that reads must not ask for.
func (n *nfcService) forbid(method string) soap.HasFault {
	n.srv.violated("the call " + method)
	return &refusedBody{simulator.Fault("The lab gives nobody the right to write.", &types.NotSupported{})}
}

// NfcRandomAccessOpenDisk would give a ticket to write.
func (n *nfcService) NfcRandomAccessOpenDisk(*simulator.Context, *nfcForbidden) soap.HasFault {
	return n.forbid("NfcRandomAccessOpenDisk")
}

// NfcRandomAccessOpen would give a ticket to write.
func (n *nfcService) NfcRandomAccessOpen(*simulator.Context, *nfcForbidden) soap.HasFault {
	return n.forbid("NfcRandomAccessOpen")
}

// NfcRandomAccessFileOpen would give a ticket for any file.
func (n *nfcService) NfcRandomAccessFileOpen(*simulator.Context, *nfcForbidden) soap.HasFault {
	return n.forbid("NfcRandomAccessFileOpen")
}

// NfcPutVmFiles would give a ticket to write.
func (n *nfcService) NfcPutVmFiles(*simulator.Context, *nfcForbidden) soap.HasFault {
	return n.forbid("NfcPutVmFiles")
}

// NfcFileManagement would change files.
func (n *nfcService) NfcFileManagement(*simulator.Context, *nfcForbidden) soap.HasFault {
	return n.forbid("NfcFileManagement")
}

// NfcSystemManagement would change a host.
func (n *nfcService) NfcSystemManagement(*simulator.Context, *nfcForbidden) soap.HasFault {
	return n.forbid("NfcSystemManagement")
}

// ticket gives out a ticket for the host of a VM: for its disk with that key, or for
// all with key -1.
func (n *nfcService) ticket(vm types.ManagedObjectReference, key int32, privilege string) (any, *soap.Fault) {
	g := n.srv.guest(vm)
	if g == nil {
		return nil, simulator.Fault("The object has been deleted or has not been completely created.", &types.ManagedObjectNotFound{Obj: vm})
	}
	if n.srv.lacks(privilege) || slices.Contains(g.vm.DeniedPrivileges, privilege) {
		return nil, simulator.Fault("Permission to perform this operation was denied.", &types.NoPermission{Object: &vm, PrivilegeId: privilege})
	}
	if key >= 0 && !slices.ContainsFunc(g.disks, func(d *disk) bool { return d.key == key }) {
		return nil, simulator.Fault("A specified parameter was not correct: diskDeviceKey", &types.InvalidArgument{InvalidProperty: "diskDeviceKey"})
	}
	h := g.host
	if n.srv.like.Port902.Ticket == findings.Refused {
		return nil, simulator.Fault("Permission to perform this operation was denied.", &types.NoPermission{Object: &vm, PrivilegeId: privilege})
	}
	if h.nfc == nil {
		return nil, simulator.Fault("The operation is not supported on the object.", &types.NotSupported{})
	}
	strike := func(name string) bool { return n.srv.strikeNFC(name, g, -1) }
	t := nfcTicket{
		Host: h.known(), Port: int32(h.nfc.gate.address.Port), SSLThumbprint: h.id().thumbprint(),
		Service: "vpxa-nfc", ServiceVersion: "1.1", SessionID: uuid.NewString(),
	}
	if n.srv.like.Lease.URLs == findings.Wildcard {
		t.Service = "nfc"
	}
	switch n.srv.like.Port902.Pinned {
	case findings.None:
		t.SSLThumbprint = ""
	case findings.Certificate:
		t.SSLThumbprint, t.SSLCertificate = "", string(h.id().pem())
	case findings.Both:
		t.SSLCertificate = string(h.id().pem())
	}
	n.srv.nfcTickets.add(t.SessionID, &nfcGrant{srv: n.srv, host: h, guest: g, key: key})
	switch {
	case strike("no-host"):
		t.Host = ""
	case strike("wrong-thumbprint"):
		t.SSLThumbprint = n.srv.vcenter.id().thumbprint()
	case strike("lower-thumbprint"):
		t.SSLThumbprint = strings.ToLower(strings.ReplaceAll(t.SSLThumbprint, ":", ""))
	case strike("no-thumbprint"):
		t.SSLThumbprint = ""
	case strike("certificate"):
		t.SSLThumbprint, t.SSLCertificate = "", string(h.id().pem())
	case strike("wrong-certificate"):
		t.SSLCertificate = string(n.srv.vcenter.id().pem())
	case strike("service-ssl"):
		t.Service += "ssl"
	case strike("bad-session-id"):
		t.SessionID += " \r\nPROXY nfc"
	case strike("reordered"):
		return t.other(), nil
	}
	return t, nil
}

// nfcTicketFaults are the faults of tickets; those of what comes then are
// [authd.Faults].
var nfcTicketFaults = map[string]string{
	"no-host":           "the ticket names no host: it is the one that issued it",
	"wrong-thumbprint":  "the ticket has vCenter's thumbprint",
	"lower-thumbprint":  "the thumbprint is in lower case and without colons",
	"no-thumbprint":     "the ticket has neither thumbprint nor certificate",
	"certificate":       "the ticket has the certificate in place of the thumbprint",
	"wrong-certificate": "the ticket has vCenter's certificate beside the right thumbprint",
	"service-ssl":       "the service ends in ssl already",
	"bad-session-id":    "the session id has a line break in it",
	"reordered":         "the fields come in another order, with an unknown one among them",
}

// nfcTickets are the tickets that were given out and not used yet.
type nfcTickets struct {
	mu    sync.Mutex
	open  map[string]*nfcGrant
	until map[string]time.Time
}

func (t *nfcTickets) add(id string, g *nfcGrant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		t.open, t.until = make(map[string]*nfcGrant), make(map[string]time.Time)
	}
	t.open[id], t.until[id] = g, time.Now().Add(ticketLife)
}

// redeem uses a ticket up at one host. nil is one that is used up, expired, or of
// another host.
func (t *nfcTickets) redeem(id string, at *host) *nfcGrant {
	t.mu.Lock()
	defer t.mu.Unlock()
	g, until := t.open[id], t.until[id]
	delete(t.open, id)
	delete(t.until, id)
	if g == nil || g.host != at || time.Now().After(until) {
		return nil
	}
	return g
}

// violated notes what a client has tried that one which reads must not.
func (s *Server) violated(what string) {
	s.nfcHarm.mu.Lock()
	defer s.nfcHarm.mu.Unlock()
	s.nfcHarm.list = append(s.nfcHarm.list, what)
}

type nfcHarm struct {
	mu   sync.Mutex
	list []string
}

// Violations lists what clients have tried over NFC, or asked vCenter for, that would
// change something. [Start] fails its test when there is anything.
func (s *Server) Violations() []string {
	s.nfcHarm.mu.Lock()
	defer s.nfcHarm.mu.Unlock()
	return slices.Clone(s.nfcHarm.list)
}

// strikeNFC uses up a fault of kind nfc902 by that name.
func (s *Server) strikeNFC(name string, g *guest, disk int) bool {
	for _, f := range s.faults.find(func(f *fault) bool {
		return f.kind == faultNFC902 && string(f.how) == name && f.matches(g, disk)
	}) {
		if s.faults.take(f) {
			return true
		}
	}
	return false
}

// checkNFC says what is wrong with a fault of kind nfc902.
func (f *fault) checkNFC() error {
	if _, known := nfcTicketFaults[string(f.how)]; known {
		return nil
	}
	if _, known := authdFaults[string(f.how)]; known {
		return nil
	}
	return fmt.Errorf("how=%s: want one of those that `go doc vspheretest/authd.Faults` lists, or a ticket's", f.how)
}
