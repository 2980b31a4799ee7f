package migrate

import (
	"encoding/json"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// The guest's network, as its Tools report it while it runs: written down as soon as
// it is known, because nobody reports it once the guest is off, and kept beside the
// images.

func (r *run) networkName() string { return r.work.Base() + ".network.json" }

// noteNetwork writes down what Tools say of the VM as it is now. What an earlier run
// was told stays when they say nothing.
func (r *run) noteNetwork() error {
	if r.vm.Guest == nil {
		return nil
	}
	n := guestNetwork(r.vm.Guest, time.Now())
	if n.LeftOut > 0 {
		r.note("of what VMware Tools said of the guest's network, %d thing(s) make no sense or are beyond the bounds, and were left out", n.LeftOut)
	}
	return r.work.NoteNetwork(n)
}

// describeNetwork writes the file that says what is known of the guest's network. Where
// nothing is, there is none, unless one of an earlier export is replaced.
func (r *run) describeNetwork() (renames []workdir.Rename, n *job.GuestNetwork, err error) {
	if n = r.work.Network(); n == nil {
		if r.work.Taken([]string{r.networkName()}) == "" {
			return nil, nil, nil
		}
		n = guestNetwork(new(vsphere.GuestNetwork), time.Now())
		n.Known = false
	}
	data, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return nil, nil, err
	}
	renames = []workdir.Rename{{From: r.networkName(), To: r.networkName()}}
	return renames, r.work.Network(), r.work.WriteFile(r.networkName(), append(data, '\n'))
}

// guestNetwork is g in the words of a result.
func guestNetwork(g *vsphere.GuestNetwork, now time.Time) *job.GuestNetwork {
	n := &job.GuestNetwork{
		Version: job.GuestNetworkVersion, ReportedAt: now.UTC().Truncate(time.Second), Known: true,
		HostName: g.HostName, DomainName: g.DomainName, Interfaces: []job.GuestInterface{},
		DNS: g.DNS, SearchDomain: g.Search, LeftOut: g.LeftOut,
	}
	for _, c := range g.Cards {
		i := job.GuestInterface{
			MAC: c.MAC, Network: c.Network, Connected: c.Connected, DHCP: c.DHCP, Addresses: []job.GuestAddress{},
			Gateways: c.Gateways, DNS: c.DNS, Search: c.Search,
		}
		for _, a := range c.Addresses {
			i.Addresses = append(i.Addresses, job.GuestAddress{Address: a.Addr(), Prefix: a.Bits(), Origin: a.Origin})
		}
		n.Interfaces = append(n.Interfaces, i)
	}
	return n
}
