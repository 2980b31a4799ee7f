package probe

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/probe/findings"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// attempts is how often a round trip is measured.
const attempts = 5

// median of the times that a call takes; 0 when it fails.
func median(ctx context.Context, f func(context.Context) error) (int, error) {
	var took []time.Duration
	for range attempts {
		began := time.Now()
		if err := f(ctx); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return ms(took[len(took)/2]), nil
}

// service tells what answers, and how fast.
func (p *run) service(ctx context.Context) error {
	about := p.client.About()
	p.r.Service = findings.Service{
		Kind: findings.Host, Version: findings.Text("number", about.Version),
		APIVersion: findings.Text("number", about.APIVersion), Build: findings.Text("number", about.Build),
	}
	if about.VCenter {
		p.r.Service.Kind = findings.VCenter
	}
	var err, second error
	p.r.Timings.CallMS, err = median(ctx, p.client.Ping)
	host, port, split := net.SplitHostPort(p.client.ServiceAddr())
	if n, bad := strconv.Atoi(port); split == nil && bad == nil {
		p.r.Timings.ConnectMS, second = median(ctx, func(ctx context.Context) error { return p.client.Reach(ctx, host, n) })
	}
	return errors.Join(err, second)
}

// maxHosts is the largest count in a report.
const maxHosts = 64

// allHosts counts the hosts, and lists their versions.
func (p *run) allHosts(ctx context.Context) error {
	hosts, err := p.client.Hosts(ctx)
	if err != nil {
		return err
	}
	p.hosts = hosts
	p.r.Hosts.Count = min(len(hosts), maxHosts)
	var versions []string
	for _, h := range hosts {
		if v := findings.Text("number", h.Version); v != "" {
			versions = append(versions, v)
		}
	}
	slices.Sort(versions)
	p.r.Hosts.Versions = slices.Compact(versions)
	if len(p.r.Hosts.Versions) > maxHosts {
		p.r.Hosts.Versions = p.r.Hosts.Versions[:maxHosts]
	}
	return nil
}

// find finds the VM to look at. Only one that was named, and is not there, is an error.
func (p *run) find(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p.o.Step("VM")
	limited, cancel := context.WithTimeout(ctx, 4*p.o.Limit) // an inventory may be large
	defer cancel()
	if p.o.VM != "" {
		vm, err := p.client.Find(limited, p.o.VM)
		if err != nil {
			return err
		}
		p.take(vm)
		return nil
	}
	vms, err := p.client.List(limited)
	if err != nil {
		p.o.Tell("the inventory: " + err.Error())
		return ctx.Err()
	}
	for _, vm := range candidates(vms) {
		full, err := p.client.Refresh(limited, vm)
		if err != nil {
			p.o.Tell(vm.Path + ": " + err.Error())
			continue
		}
		p.take(full)
		return nil
	}
	return ctx.Err()
}

// enough is how much data a VM should have, in bytes, so that rates say something.
const enough = 256 << 20

// candidates are VMs to look at when none was named, the best first: powered off, with
// enough data, and no more of it than is of use.
func candidates(vms []vsphere.VM) []vsphere.VM {
	vms = slices.DeleteFunc(slices.Clone(vms), func(vm vsphere.VM) bool { return vm.Template || vm.DiskCount == 0 })
	slices.SortStableFunc(vms, func(a, b vsphere.VM) int {
		if c := cmp.Compare(off(b), off(a)); c != 0 {
			return c
		}
		if aEnough, bEnough := a.CommittedBytes >= enough, b.CommittedBytes >= enough; !aEnough || !bEnough {
			return cmp.Compare(b.CommittedBytes, a.CommittedBytes)
		}
		return cmp.Compare(a.CommittedBytes, b.CommittedBytes)
	})
	return vms[:min(len(vms), 3)]
}

// off is 1 for a VM that is powered off.
func off(vm vsphere.VM) int {
	if vm.Power == vsphere.PoweredOff {
		return 1
	}
	return 0
}

// take makes vm the one that is looked at.
func (p *run) take(vm vsphere.VM) {
	p.vm, p.target = vm, vsphere.Target{VM: vm}
	p.o.Tell("the VM is " + vm.Path)
	power := map[string]findings.Answer{vsphere.PoweredOn: findings.PoweredOn, vsphere.PoweredOff: findings.PoweredOff, vsphere.Suspended: findings.Suspended}
	p.r.VM = findings.VM{
		Power: power[vm.Power], Disks: min(len(vm.Disks), 256),
		Snapshots: yes(vm.Snapshots > 0), Tracking: yes(vm.ChangeTracking),
	}
	disks := slices.DeleteFunc(slices.Clone(vm.Disks), func(d vsphere.Disk) bool {
		return d.RDM != "" || d.Encrypted || d.Independent() && vm.Power != vsphere.PoweredOff
	})
	if len(disks) == 0 {
		return
	}
	bySize := func(a, b vsphere.Disk) int { return cmp.Compare(a.Capacity, b.Capacity) }
	p.small, p.large = slices.MinFunc(disks, bySize), slices.MaxFunc(disks, bySize)
}

// privileges lists what this user may do.
func (p *run) privileges(ctx context.Context) error {
	list, err := p.client.Privileges(ctx, p.vm)
	for _, one := range list {
		if p.r.Privileges == nil {
			p.r.Privileges = map[string]findings.Answer{}
		}
		switch {
		case !one.Known:
			p.r.Privileges[one.ID] = findings.Unknown
		case one.Granted:
			p.r.Privileges[one.ID] = findings.Granted
		default:
			p.r.Privileges[one.ID] = findings.Missing
		}
	}
	return err
}

// datastores are the types of file systems that a report knows.
var datastores = map[string]findings.Answer{
	"vmfs": "vmfs", "nfs": "nfs", "nfs41": "nfs41", "vsan": "vsan", "vvol": "vvol",
}

// ports resolves and connects to the host that the VM is on (F-NFC-5).
func (p *run) ports(ctx context.Context) error {
	kind, err := p.client.DatastoreType(ctx, p.vm, p.large.Datastore)
	if err == nil && kind != "" {
		p.r.VM.Datastore = cmp.Or(datastores[strings.ToLower(kind)], "other")
	}
	if p.r.Service.Kind == findings.Host { // the host is what was asked
		return err
	}
	i := slices.IndexFunc(p.hosts, func(h vsphere.ESXi) bool { return h.Ref == p.vm.Host })
	if i < 0 {
		return err
	}
	h := p.hosts[i]
	p.r.Hosts.Known = findings.ByName
	if h.ByAddress {
		p.r.Hosts.Known = findings.ByAddress
	} else {
		_, unknown := net.DefaultResolver.LookupHost(ctx, h.Name)
		p.r.Hosts.Resolves = yes(unknown == nil)
	}
	took, blocked := median(ctx, func(ctx context.Context) error { return p.client.Reach(ctx, h.Name, h.Port) })
	p.r.Timings.HostMS, p.r.Hosts.Port443 = took, reached(blocked)
	return errors.Join(err, blocked)
}
