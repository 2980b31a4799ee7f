package vsphere

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// checkHosts sees to it that what vSphere names for a VM's disks, in a lease or with a
// ticket, leads to nobody but vSphere: to the service itself, or to an ESXi host that
// the VM, or a datastore of it, is on (F-NFC-5). A ticket or the session's cookie goes
// along with every request, and what comes back is taken for a disk.
func (c *Client) checkHosts(ctx context.Context, vm VM, hosts ...string) error {
	service := c.cfg.URL.Hostname()
	strangers := map[string]bool{}
	for _, host := range hosts {
		if strings.EqualFold(host, service) || c.reach.isVouched(vm.Ref, host) {
			continue
		}
		if !c.reach.near(classOfName(host)) {
			return &AddressError{Host: host, Why: notANetwork}
		}
		strangers[host] = true
	}
	if len(strangers) == 0 {
		return nil
	}
	known, err := c.hostsOf(ctx, vm)
	if err != nil {
		return err
	}
	for host := range strangers {
		if !known.has(ctx, host) {
			return &AddressError{Host: host, Why: "it is none of the ESXi hosts that the VM or its datastores are on"}
		}
		c.reach.vouch(vm.Ref, host)
	}
	return nil
}

// hostNames are what some hosts are called, in lower case, and their addresses. Where
// nothing of them is to be seen, any name is theirs: then it is the service alone
// that vouches for it.
type hostNames struct {
	names     []string
	addresses []netip.Addr
}

// hostsOf collects the hosts that may serve the VM's disks. A user who may not see
// hosts gets none.
func (c *Client) hostsOf(ctx context.Context, vm VM) (hostNames, error) {
	var known hostNames
	var m mo.VirtualMachine
	err := c.properties(ctx, vmRef(vm.Ref), []string{"runtime.host", "datastore"}, &m)
	if err != nil {
		return known, unseen(err)
	}
	var hosts []types.ManagedObjectReference
	if m.Runtime.Host != nil {
		hosts = append(hosts, *m.Runtime.Host)
	}
	for _, ref := range m.Datastore {
		var d mo.Datastore
		if err := c.properties(ctx, ref, []string{"host"}, &d); unseen(err) != nil {
			return known, err
		}
		for _, mount := range d.Host {
			if !slices.Contains(hosts, mount.Key) {
				hosts = append(hosts, mount.Key)
			}
		}
	}
	for _, ref := range hosts {
		if err := c.addHost(ctx, &known, ref); err != nil {
			return known, err
		}
	}
	return known, nil
}

// addHost adds the names and addresses of one host.
func (c *Client) addHost(ctx context.Context, known *hostNames, ref types.ManagedObjectReference) error {
	var h mo.HostSystem
	paths := []string{"name", "config.network.dnsConfig", "config.network.vnic"}
	if err := c.properties(ctx, ref, paths, &h); err != nil {
		return unseen(err)
	}
	known.add(h.Name)
	if h.Config == nil || h.Config.Network == nil {
		return nil
	}
	if h.Config.Network.DnsConfig != nil {
		if dns := h.Config.Network.DnsConfig.GetHostDnsConfig(); dns != nil && dns.HostName != "" {
			known.add(dns.HostName)
			known.add(dns.HostName + "." + dns.DomainName)
		}
	}
	for _, nic := range h.Config.Network.Vnic {
		if nic.Spec.Ip != nil {
			known.add(nic.Spec.Ip.IpAddress)
		}
	}
	return nil
}

// unseen is nil for a fault: what a user may not see is not there for them.
func unseen(err error) error {
	if err != nil && faultOf(err) != nil {
		return nil
	}
	return err
}

func (h *hostNames) add(name string) {
	name = strings.ToLower(strings.Trim(name, "."))
	if a, err := netip.ParseAddr(name); err == nil {
		h.addresses = append(h.addresses, a.Unmap())
	} else if name != "" {
		h.names = append(h.names, name)
	}
}

// has reports whether host is one of them, by name or, where one side has a name and
// the other an address, by what the names stand for.
func (h *hostNames) has(ctx context.Context, host string) bool {
	if len(h.names)+len(h.addresses) == 0 {
		return true
	}
	var asked hostNames
	asked.add(host)
	if len(asked.names) > 0 && slices.Contains(h.names, asked.names[0]) {
		return true
	}
	theirs := slices.Concat(h.addresses, lookUp(ctx, h.names))
	return slices.ContainsFunc(slices.Concat(asked.addresses, lookUp(ctx, asked.names)), func(a netip.Addr) bool {
		return slices.Contains(theirs, a)
	})
}

// lookUp returns what the names stand for, as far as that is known here.
func lookUp(ctx context.Context, names []string) (out []netip.Addr) {
	ctx, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	for _, name := range names {
		found, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
		for _, a := range found {
			out = append(out, a.Unmap())
		}
	}
	return out
}
