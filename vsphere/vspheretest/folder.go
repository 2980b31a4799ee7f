package vspheretest

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/probe/findings"
)

// serveFolder answers /folder/PATH?dcPath=…&dsName=…: disks as F-DS-1 and F-DS-3
// say, everything else as the simulator does.
func (s *Server) serveFolder(w http.ResponseWriter, r *http.Request) {
	if !s.authorized(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="VMware HTTP server"`)
		http.Error(w, "log in first", http.StatusUnauthorized)
		return
	}
	if s.lacks("Datastore.Browse") || s.lacks("Datastore.FileManagement") { // F-PRIV-4
		http.Error(w, "permission denied", http.StatusForbidden)
		return
	}
	g, d := s.flatDisk(strings.TrimPrefix(r.URL.Path, "/folder/"), query(r.URL.Query(), "dsName"))
	if d == nil {
		s.svc.ServeDatastore(w, r)
		return
	}
	raw := d.now().raw
	del := &delivery{srv: s, w: w, r: r, plane: Folder, guest: g, disk: d.index, how: s.like.Folder.HTTP, object: raw}
	switch {
	case s.like.Folder.Answer == findings.Refused:
		del.fail(cmp.Or(s.like.Folder.Status, http.StatusNotFound), "no such file")
	case raw == nil:
		del.fail(http.StatusNotFound, "no such file")
	case s.busy(g), s.like.Folder.UnderLease == findings.Refused && s.leases.on(g.ref) != nil:
		del.fail(http.StatusInternalServerError, "the file is locked")
	default:
		end, ok := d.lock.browse(s.like.Folder.Beside902 == findings.Served)
		if !ok {
			del.fail(http.StatusInternalServerError, "the file is locked")
			return
		}
		defer end()
		del.run()
	}
}

// authorized accepts a live session's cookie or Basic authentication (F-DS-4).
func (s *Server) authorized(r *http.Request) bool {
	if c, err := r.Cookie(soap.SessionCookieName); err == nil && s.sessions.has(c.Value) {
		return true
	}
	user, password, ok := r.BasicAuth()
	return ok && user == s.cfg.Username && password == s.cfg.Password
}

// store is the datastore that every disk is on.
const store = "LocalDS_0"

func (s *Server) flatDisk(file, name string) (*guest, *disk) {
	if name != store {
		return nil, nil
	}
	for _, g := range s.guests {
		for _, d := range g.disks {
			if d.flat == file {
				return g, d
			}
		}
	}
	return nil, nil
}

// busy tells whether a VM's files are in use: it runs or has snapshots.
func (s *Server) busy(g *guest) (busy bool) {
	s.withVM(g.path, func(m *simulator.VirtualMachine) {
		busy = m.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff || m.Snapshot != nil
	})
	return busy
}
