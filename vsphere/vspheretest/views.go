package vspheretest

import (
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// viewTable knows the container views of each session, so that a logout can drop
// them one by one. The simulator's own logout drops them with the session's
// registry locked: it waits for the view, and who reads the view waits for the
// registry, for ever. It happens when a client gives up waiting and logs out
// while its read goes on.
type viewTable struct {
	mu        sync.Mutex
	bySession map[string][]openView
}

type openView struct {
	registry *simulator.Registry // the session's
	view     simulator.RegisterObject
}

// CreateContainerView makes a view and remembers it until its session ends.
func (g *gateway) CreateContainerView(ctx *simulator.Context, req *types.CreateContainerView) soap.HasFault {
	v := &g.srv.views
	v.mu.Lock()
	defer v.mu.Unlock()
	body := ctx.Map.ViewManager().CreateContainerView(ctx, req)
	if created, ok := body.(*methods.CreateContainerViewBody); ok && created.Res != nil {
		registry := ctx.Session.Registry
		if view, ok := registry.Get(created.Res.Returnval).(simulator.RegisterObject); ok {
			key := ctx.Session.Key
			if v.bySession == nil {
				v.bySession = map[string][]openView{}
			}
			v.bySession[key] = append(v.bySession[key], openView{registry, view})
		}
	}
	return body
}

// Logout ends the session after its views.
func (g *gateway) Logout(ctx *simulator.Context, req *types.Logout) soap.HasFault {
	g.srv.dropViews(ctx, ctx.Session.Key)
	return ctx.Map.SessionManager().Logout(ctx, req)
}

// dropViews forgets a session's views. One that is being read is not waited for.
func (s *Server) dropViews(ctx *simulator.Context, session string) {
	s.views.mu.Lock()
	defer s.views.mu.Unlock()
	for _, o := range s.views.bySession[session] {
		ctx.Map.RemoveHandler(o.view)
		o.registry.Remove(ctx, o.view.Reference())
	}
	delete(s.views.bySession, session)
}
