package vspheretest

import (
	"slices"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

// devicePath is the property that most of a VM's size is in.
const devicePath = "config.hardware.device"

// bulkDevices gives the devices of bulk VMs to whoever asks for those of many. The
// simulator writes each as XML, reads it again, and writes it once more, which takes
// longer than everything else of ten thousand VMs. Bulk VMs have the same devices,
// which never change, so they are written once.
type bulkDevices struct {
	refs map[types.ManagedObjectReference]bool
	text string // the elements of the array

	mu    sync.Mutex
	pages map[string]bool // tokens of answers that lack the devices
}

// prepare takes in the bulk VMs, whose devices are those of first.
func (b *bulkDevices) prepare(first *simulator.VirtualMachine, refs map[types.ManagedObjectReference]bool) error {
	var text strings.Builder
	e := xml.NewEncoder(&text)
	// Encoded as the elements of their array, they say of which type they are.
	if err := e.Encode(struct {
		XMLName xml.Name                   `xml:"devices"`
		Array   types.ArrayOfVirtualDevice `xml:"array"`
	}{Array: types.ArrayOfVirtualDevice{VirtualDevice: first.Config.Hardware.Device}}); err != nil {
		return err
	}
	_, rest, _ := strings.Cut(text.String(), "<array>")
	inner, _, _ := strings.Cut(rest, "</array>")
	b.refs, b.text, b.pages = refs, inner, map[string]bool{}
	return nil
}

// wants reports whether the call is for bulkDevices to answer.
func (b *bulkDevices) wants(method *simulator.Method) bool {
	switch req := method.Body.(type) {
	case *types.RetrievePropertiesEx:
		return len(b.refs) > 0 && slices.ContainsFunc(req.SpecSet, func(s types.PropertyFilterSpec) bool {
			return slices.ContainsFunc(s.ObjectSet, func(o types.ObjectSpec) bool { return o.Obj.Type == "ContainerView" }) &&
				slices.ContainsFunc(s.PropSet, asksForDevices)
		})
	case *types.ContinueRetrievePropertiesEx:
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.pages[req.Token]
	}
	return false
}

func asksForDevices(p types.PropertySpec) bool {
	return p.Type == "VirtualMachine" && slices.Contains(p.PathSet, devicePath)
}

// RetrievePropertiesEx reads everything but devices, and puts those in.
func (g *gateway) RetrievePropertiesEx(ctx *simulator.Context, req *types.RetrievePropertiesEx) soap.HasFault {
	specs := slices.Clone(req.SpecSet)
	for i, s := range specs {
		specs[i].PropSet = slices.Clone(s.PropSet)
		for j, p := range specs[i].PropSet {
			if asksForDevices(p) {
				specs[i].PropSet[j].PathSet = slices.DeleteFunc(slices.Clone(p.PathSet), func(path string) bool { return path == devicePath })
			}
		}
	}
	without := *req
	without.SpecSet = specs
	pc := g.collector(ctx, req.This)
	body := pc.RetrievePropertiesEx(ctx, &without)
	if b, ok := body.(*methods.RetrievePropertiesExBody); ok && b.Res != nil && b.Res.Returnval != nil {
		g.srv.bulk.insert(ctx, pc, b.Res.Returnval.Objects)
		g.srv.bulk.continues("", b.Res.Returnval.Token)
	}
	return body
}

// ContinueRetrievePropertiesEx is the same for the pages after the first.
func (g *gateway) ContinueRetrievePropertiesEx(ctx *simulator.Context, req *types.ContinueRetrievePropertiesEx) soap.HasFault {
	pc := g.collector(ctx, req.This)
	body := pc.ContinueRetrievePropertiesEx(ctx, req)
	if b, ok := body.(*methods.ContinueRetrievePropertiesExBody); ok && b.Res != nil {
		g.srv.bulk.insert(ctx, pc, b.Res.Returnval.Objects)
		g.srv.bulk.continues(req.Token, b.Res.Returnval.Token)
	}
	return body
}

// collector is the session's property collector.
func (g *gateway) collector(ctx *simulator.Context, ref types.ManagedObjectReference) *simulator.PropertyCollector {
	if pc, ok := ctx.Session.Registry.Get(ref).(*simulator.PropertyCollector); ok {
		return pc
	}
	pc, _ := ctx.Map.Get(ref).(*simulator.PropertyCollector)
	return pc
}

// continues notes that the answer with token is followed by the one with next.
func (b *bulkDevices) continues(token, next string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.pages, token)
	if next != "" {
		b.pages[next] = true
	}
}

// insert adds the devices to the VMs among objects. Those of VMs that are not bulk
// may change, and are read as the simulator does.
func (b *bulkDevices) insert(ctx *simulator.Context, pc *simulator.PropertyCollector, objects []types.ObjectContent) {
	// The encoder names a type as it is called here.
	type ArrayOfVirtualDevice struct {
		Inner string `xml:",innerxml"`
	}
	others := map[types.ManagedObjectReference]*types.ObjectContent{}
	query := types.RetrievePropertiesEx{This: pc.Self, SpecSet: []types.PropertyFilterSpec{{
		PropSet: []types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{devicePath}}},
	}}}
	for i := range objects {
		o := &objects[i]
		switch {
		case b.refs[o.Obj]:
			o.PropSet = append(o.PropSet, types.DynamicProperty{Name: devicePath, Val: ArrayOfVirtualDevice{b.text}})
		case o.Obj.Type == "VirtualMachine":
			others[o.Obj] = o
			query.SpecSet[0].ObjectSet = append(query.SpecSet[0].ObjectSet, types.ObjectSpec{Obj: o.Obj})
		}
	}
	if len(others) == 0 {
		return
	}
	body, ok := pc.RetrievePropertiesEx(ctx, &query).(*methods.RetrievePropertiesExBody)
	if !ok || body.Res == nil || body.Res.Returnval == nil {
		return
	}
	for _, o := range body.Res.Returnval.Objects {
		if to := others[o.Obj]; to != nil {
			to.PropSet = append(to.PropSet, o.PropSet...)
		}
	}
}
