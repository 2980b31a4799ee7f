package vspheretest

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	vimxml "github.com/vmware/govmomi/vim25/xml"
)

// call is what the lab reads of a call of the API before the simulator does.
type call struct {
	method string
	this   types.ManagedObjectReference
	obj    types.ManagedObjectReference // argument "obj", as CreateDescriptor has, or "vm", as tickets have
}

// parseCall reads a SOAP envelope. What is no call becomes the zero value: the
// simulator is the one to complain.
func parseCall(envelope []byte) (c call) {
	dec := xml.NewDecoder(bytes.NewReader(envelope))
	var path []string
	var ref *types.ManagedObjectReference
	for {
		token, err := dec.Token()
		if err != nil {
			return c
		}
		switch t := token.(type) {
		case xml.StartElement:
			path = append(path, t.Name.Local)
			ref = c.reference(path, t)
		case xml.EndElement:
			path, ref = path[:len(path)-1], nil
		case xml.CharData:
			if ref != nil {
				ref.Value += string(t)
			}
		}
	}
}

// reference returns what the text of an element is for, if anything.
func (c *call) reference(path []string, e xml.StartElement) *types.ManagedObjectReference {
	if len(path) < 3 || path[1] != "Body" {
		return nil
	}
	var ref *types.ManagedObjectReference
	switch {
	case len(path) == 3:
		c.method = e.Name.Local
	case len(path) == 4 && e.Name.Local == "_this":
		ref = &c.this
	case len(path) == 4 && (e.Name.Local == "obj" || e.Name.Local == "vm"):
		ref = &c.obj
	}
	if ref != nil {
		i := slices.IndexFunc(e.Attr, func(a xml.Attr) bool { return a.Name == xml.Name{Local: "type"} })
		if i >= 0 {
			ref.Type = e.Attr[i].Value
		}
	}
	return ref
}

// subject is the VM that a call is about: itself, its snapshot, an open lease on
// it, a task of it; nil when there is none.
func (s *Server) subject(ref types.ManagedObjectReference) *guest {
	switch obj := s.svc.Context.Map.Get(ref).(type) {
	case *simulator.VirtualMachine:
		return s.guest(ref)
	case *simulator.VirtualMachineSnapshot:
		return s.guest(obj.Vm)
	case *HttpNfcLease:
		return obj.lease.guest
	case *simulator.Task:
		return s.guest(*obj.Info.Entity)
	}
	return nil
}

// sdk serves the API: it watches for sessions being handed out, keeps count, and
// lets the faults on calls strike.
func (s *Server) sdk(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "the request ends early", http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		c := parseCall(body)
		g := s.subject(c.this)
		if g == nil {
			g = s.subject(c.obj)
		}
		s.logCall(r, c, g)
		s.hooks.call(c.method)
		s.followGuests()
		s.answerCall(w, r, h, c, g)
	})
}

// answerCall lets h answer, unless a fault does or gets in between.
func (s *Server) answerCall(w http.ResponseWriter, r *http.Request, h http.Handler, c call, g *guest) {
	f := s.faults.strikeCall(c.method, g, faultRefuse, faultLate, faultHang, faultLose)
	if f == nil {
		s.carryOut(w, r, h, c)
		return
	}
	if f.kind == faultRefuse {
		s.sessions.countLogin(c, false)
		refuseCall(w, f.name, c.this)
		return
	}
	released := s.released.opened() // before the effect, which may be what a test waits for
	answer := &heldAnswer{header: make(http.Header), status: http.StatusOK}
	if !f.noEffect {
		s.carryOut(answer, r, h, c)
	}
	switch f.kind {
	case faultLate:
		s.hold(r, released, f.after)
	case faultHang:
		s.hold(r, released, 0)
	case faultLose:
		if f.how == HTML || f.how == Unavailable {
			f.how.answer(w)
			return
		}
		panic(http.ErrAbortHandler)
	}
	if f.noEffect {
		panic(http.ErrAbortHandler)
	}
	answer.send(w)
}

// carryOut lets the simulator do what was asked for.
func (s *Server) carryOut(w http.ResponseWriter, r *http.Request, h http.Handler, c call) {
	cw := &cookieWriter{ResponseWriter: w, srv: s, status: http.StatusOK}
	h.ServeHTTP(cw, r)
	s.sessions.countLogin(c, cw.status == http.StatusOK)
}

// hold waits for d, or without end for 0; no longer than the client, the server
// and until Release.
func (s *Server) hold(r *http.Request, released <-chan struct{}, d time.Duration) {
	var passed <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		passed = t.C
	}
	select {
	case <-passed:
	case <-released:
	case <-r.Context().Done():
	case <-s.closed:
	}
}

// Release lets every call that hangs or is late be answered, and ends every slow
// task, with its effect, at once.
func (s *Server) Release() { s.released.open() }

// heldAnswer keeps an answer until it may go.
type heldAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *heldAnswer) Header() http.Header         { return a.header }
func (a *heldAnswer) WriteHeader(status int)      { a.status = status }
func (a *heldAnswer) Write(b []byte) (int, error) { return a.body.Write(b) }

func (a *heldAnswer) send(w http.ResponseWriter) {
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body.Bytes())
}

// refuseCall answers with a fault, as vCenter does.
func refuseCall(w http.ResponseWriter, name string, this types.ManagedObjectReference) {
	fault := newFault(name)
	switch f := fault.(type) {
	case *types.ManagedObjectNotFound:
		f.Obj = this
	case *types.NotAuthenticated:
		f.NoPermission = types.NoPermission{Object: &this, PrivilegeId: "System.View"}
	case *types.NoPermission:
		f.Object, f.PrivilegeId = &this, "System.View"
	case *types.TaskInProgress:
		f.Task = types.ManagedObjectReference{Type: "Task", Value: "task-0"}
	}
	var detail bytes.Buffer
	start := vimxml.StartElement{Name: vimxml.Name{Local: name + "Fault"}, Attr: []vimxml.Attr{
		{Name: vimxml.Name{Local: "xmlns"}, Value: "urn:vim25"},
		{Name: vimxml.Name{Local: "xsi:type"}, Value: name},
	}}
	enc := vimxml.NewEncoder(&detail)
	if err := enc.EncodeElement(fault, start); err != nil {
		panic(fmt.Sprintf("vspheretest: encode fault %s: %v", name, err))
	}
	w.Header().Set("Content-Type", `text/xml; charset="utf-8"`)
	w.WriteHeader(http.StatusInternalServerError)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>`+
		`<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>injected fault %s</faultstring><detail>%s</detail></soapenv:Fault>`+
		`</soapenv:Body></soapenv:Envelope>`, name, detail.String())
}

// LoginCount is how often somebody logged in, or tried to.
type LoginCount struct {
	Succeeded, Failed int
}

type loginCounter struct {
	mu    sync.Mutex
	count LoginCount
}

// Logins counts the logins so far. Failed are those with a wrong password and
// those that a fault refused.
func (s *Server) Logins() LoginCount {
	s.sessions.logins.mu.Lock()
	defer s.sessions.logins.mu.Unlock()
	return s.sessions.logins.count
}

func (t *sessionTable) countLogin(c call, ok bool) {
	if c.method != "Login" {
		return
	}
	t.logins.mu.Lock()
	defer t.logins.mu.Unlock()
	if ok {
		t.logins.count.Succeeded++
	} else {
		t.logins.count.Failed++
	}
}

// logCall notes a call of a session that is known.
func (s *Server) logCall(r *http.Request, c call, g *guest) {
	cookie, err := r.Cookie(soap.SessionCookieName)
	if err != nil || !s.sessions.has(cookie.Value) {
		return
	}
	entry := Request{Plane: SOAP, Method: c.method, Disk: -1, Session: cookie.Value}
	if g != nil {
		entry.VM = g.path
	}
	s.log.add(entry)
}
