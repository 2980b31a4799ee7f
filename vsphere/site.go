package vsphere

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// What is asked of a site to describe it, and not to export from it. None of it
// changes anything.

// Ping makes one small call of the API, to see how long that takes. It is not
// repeated when there is no answer.
func (c *Client) Ping(ctx context.Context) error {
	_, err := methods.GetCurrentTime(ctx, c.vim())
	return translate("ask for the time", c.cfg.URL.Host, err)
}

// ServiceAddr is the host and port of the service.
func (c *Client) ServiceAddr() string { return c.addr() }

// ESXi is a host as the inventory has it.
type ESXi struct {
	Ref       string // managed object id
	Name      string // as vSphere knows it: a DNS name, or an address
	Version   string // of ESXi, as 8.0.3
	Port      int    // on which it serves data: 443, unless it was added with another (F-INV-4)
	ByAddress bool   // Name is an IP address
}

// Hosts lists the ESXi hosts that this user sees.
func (c *Client) Hosts(ctx context.Context) ([]ESXi, error) {
	const op = "list the ESXi hosts"
	content := c.session.vim.ServiceContent
	view, err := methods.CreateContainerView(ctx, c.vim(), &types.CreateContainerView{
		This: *content.ViewManager, Container: content.RootFolder, Type: []string{"HostSystem"}, Recursive: true,
	})
	if err != nil {
		return nil, translate(op, c.cfg.URL.Host, err)
	}
	defer func() {
		call, cancel := bounded(ctx, grace)
		defer cancel()
		_, _ = methods.DestroyView(call, c.vim(), &types.DestroyView{This: view.Returnval}) // it ends with the session at the latest
	}()
	res, err := methods.RetrievePropertiesEx(ctx, c.vim(), &types.RetrievePropertiesEx{
		This: content.PropertyCollector,
		SpecSet: []types.PropertyFilterSpec{{
			PropSet: []types.PropertySpec{{Type: "HostSystem", PathSet: []string{"name", "summary.config.product.version", "summary.config.port"}}},
			ObjectSet: []types.ObjectSpec{{
				Obj: view.Returnval, Skip: types.NewBool(true),
				SelectSet: []types.BaseSelectionSpec{&types.TraversalSpec{
					SelectionSpec: types.SelectionSpec{Name: "view"}, Type: "ContainerView", Path: "view",
				}},
			}},
		}},
	})
	if err != nil {
		return nil, translate(op, c.cfg.URL.Host, err)
	}
	if res.Returnval == nil {
		return nil, nil
	}
	var out []ESXi
	for _, o := range res.Returnval.Objects {
		var h mo.HostSystem
		o.MissingSet = nil
		if err := mo.LoadObjectContent([]types.ObjectContent{o}, &h); err != nil {
			return nil, translate(op, c.cfg.URL.Host, err)
		}
		e := ESXi{Ref: o.Obj.Value, Name: h.Name, Port: hostPortOf(h.Summary.Config.Port)}
		if p := h.Summary.Config.Product; p != nil {
			e.Version = p.Version
		}
		_, err := netip.ParseAddr(strings.Trim(h.Name, "[]"))
		e.ByAddress = err == nil
		out = append(out, e)
	}
	return out, nil
}

// Reach connects to a host that vSphere has named, on a TCP port, within a few seconds.
func (c *Client) Reach(ctx context.Context, host string, port int) error {
	return c.reach.tcp(ctx, host, port)
}

// DatastoreType is what kind a VM's datastore is, as VMFS, NFS or vsan; "" when it is
// not to be seen.
func (c *Client) DatastoreType(ctx context.Context, vm VM, name string) (string, error) {
	var m mo.VirtualMachine
	if err := c.properties(ctx, vmRef(vm.Ref), []string{"datastore"}, &m); err != nil {
		return "", translate("read the VM's datastores", vm.Path, err)
	}
	for _, ref := range m.Datastore {
		var d mo.Datastore
		if err := c.properties(ctx, ref, []string{"name", "summary.type"}, &d); unseen(err) != nil {
			return "", translate("read a datastore", vm.Path, err)
		}
		if d.Name == name {
			return d.Summary.Type, nil
		}
	}
	return "", nil
}

// Privilege is a right, and whether this user has it.
type Privilege struct {
	ID      string // as VApp.Export
	Granted bool   // on the VM, or on each of its datastores that can be seen
	Known   bool   // the service tells (F-PRIV-5)
}

// Privileges lists every right that any export of the VM needs, each once, in the order
// of docs/vsphere-permissions.md.
func (c *Client) Privileges(ctx context.Context, vm VM) ([]Privilege, error) {
	x := &examination{}
	if err := c.properties(ctx, vmRef(vm.Ref), []string{"config.hardware.device"}, &x.vm); err != nil {
		return nil, translate("read the VM", vm.Path, err)
	}
	x.vm.Self = vmRef(vm.Ref)
	stores := x.datastores(true, diskDevice)
	var out []Privilege
	for _, p := range privileges {
		if slices.ContainsFunc(out, func(o Privilege) bool { return o.ID == p.id }) {
			continue
		}
		on := []object{{x.vm.Self, ""}}
		if strings.HasPrefix(p.id, "Datastore.") {
			on = stores
		}
		known, granted, err := c.holds(ctx, p, on)
		if err != nil {
			return out, translate("ask for the privileges", vm.Path, err)
		}
		out = append(out, Privilege{ID: p.id, Granted: granted, Known: known})
	}
	return out, nil
}

// holds says whether this user has a right on all of the objects, and whether the
// service tells.
func (c *Client) holds(ctx context.Context, p privilege, on []object) (known, granted bool, err error) {
	granted = true
	for _, o := range on {
		lacks, err := c.missing(ctx, o.ref, []privilege{p})
		if faultOf(err) != nil {
			continue // not told
		}
		if err != nil {
			return false, false, err
		}
		known, granted = true, granted && len(lacks) == 0
	}
	return known, known && granted, nil
}
