package vspheretest

import (
	"net/http"
	"net/url"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/probe/findings"
)

// serve puts the planes together and starts them. The simulator's own server is
// not used: its Close waits for clients that wait for updates, its idle watch
// leaves a goroutine for half an hour, and its certificate is everybody's.
func (s *Server) serve() {
	reg := s.svc.Context.Map
	gw := &gateway{srv: s}
	reg.Handler = func(ctx *simulator.Context, method *simulator.Method) (mo.Reference, types.BaseMethodFault) {
		return s.beforeCall(gw, ctx, method)
	}
	dropOption(reg.OptionManager(), "config.vmacore.soap.sessionTimeout") // the lab watches idle time itself
	s.svc.Listen = s.URL()
	sm := reg.SessionManager()
	sm.ServiceHostName = s.vcenter.addr()

	s.svc.RegisterSDK(reg, vim25.Path+"/vimService")
	mux := http.NewServeMux()
	mux.HandleFunc(vim25.Path+"/vimServiceVersions.xml", s.svc.ServiceVersions)
	mux.Handle(vim25.Path, s.sdk(s.svc.ServeMux))
	mux.Handle(vim25.Path+"/", s.sdk(s.svc.ServeMux))
	mux.HandleFunc("/folder/", s.serveFolder)
	if s.like.Lease.URLs == findings.Wildcard {
		mux.HandleFunc("/ha-nfc/", s.hosts[0].serveNFC)
	}
	s.vcenter.serve(s.slow(mux))
	for _, h := range s.hosts {
		h.serve(s.slow(http.HandlerFunc(h.serveNFC)))
		if h.nfc != nil {
			h.nfc.serve()
		}
	}
	reg.Put(&nfcService{srv: s})
}

// slow adds the configured latency to each request.
func (s *Server) slow(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		delay(r.Context(), s.cfg.Latency)
		h.ServeHTTP(w, r)
	})
}

// cookieWriter rewrites the session cookie before the header is sent.
type cookieWriter struct {
	http.ResponseWriter
	srv    *Server
	status int // that was sent
}

func (w *cookieWriter) WriteHeader(status int) {
	cookies := w.Header().Values("Set-Cookie")
	for i, c := range cookies {
		quoted, key := quoteCookie(c)
		if key != "" {
			cookies[i] = quoted
			w.srv.login(key)
		}
	}
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// beforeCall sees every call that the simulator is to answer: it watches
// sessions, and hands to the gateway what the simulator has no answer to.
func (s *Server) beforeCall(gw *gateway, ctx *simulator.Context, method *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	if ctx.Session == nil {
		return nil, nil
	}
	idle, known := s.sessions.touch(ctx.Session.Key)
	if known && idle > s.cfg.SessionIdle {
		s.endSession(ctx.Session.Key, false)
		return nil, &types.NotAuthenticated{NoPermission: types.NoPermission{
			Object: &method.This, PrivilegeId: "System.View",
		}}
	}
	switch method.Name {
	case "Logout":
		s.sessions.remove(ctx.Session.Key)
		s.dropLeases(ctx.Session.Key)
	case "WaitForUpdates", "WaitForUpdatesEx":
		if pc, ok := ctx.Session.Get(method.This).(*simulator.PropertyCollector); ok {
			s.sessions.waiting(pc)
		}
	}
	if h := gw.intercept(method); h != nil {
		return h, nil
	}
	return nil, nil
}

func dropOption(m *simulator.OptionManager, key string) {
	for i, o := range m.Setting {
		if o.GetOptionValue().Key == key {
			m.Setting = append(m.Setting[:i:i], m.Setting[i+1:]...)
			return
		}
	}
}

// query reads a parameter that some clients encode twice (F-DS-2).
func query(v url.Values, key string) string {
	s := v.Get(key)
	if again, err := url.QueryUnescape(s); err == nil {
		return again
	}
	return s
}
