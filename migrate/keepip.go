package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/guestnet"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/v2v"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// CodeKeepIP is the code of obstacles to a guest's keeping its addresses.
const CodeKeepIP = "keep_ip"

// keepIPPart has the guest keep its addresses on its new cards. Into Linux guests it
// writes files; for Windows the conversion before it does it.
type keepIPPart struct{ *run }

// keepIPRoom is what it writes at least, in bytes: some files, the journals of the
// guest's file systems.
const keepIPRoom = 64 << 20

func (p *keepIPPart) name() string { return "keep_ip" }
func (p *keepIPPart) asked() bool  { return p.def.Options.KeepIP }
func (p *keepIPPart) room() int64  { return keepIPRoom }

// isWindows reports whether the guest is one, as far as is known.
func (r *run) isWindows() bool {
	return v2v.Guest{ID: r.vm.GuestID, FullName: r.vm.GuestFullName}.Windows()
}

// otherSystems begins the guest ids of systems that are neither Linux nor Windows.
var otherSystems = []string{"freebsd", "solaris", "darwin", "netware", "os2", "unixware", "openServer", "eComStation", "vmkernel", "dos"}

func (p *keepIPPart) obstacles(context.Context) (out []vsphere.Obstacle) {
	say := func(severity vsphere.Severity, text, hint string) {
		out = append(out, vsphere.Obstacle{Code: CodeKeepIP, Severity: severity, Text: "keep_ip: " + text, Hint: hint})
	}
	n := p.reported()
	switch {
	case p.isWindows() && !p.def.Options.Convert:
		say(vsphere.SeverityError, "the addresses of a Windows guest are kept by its conversion alone", "ask for that, too (-convert), or leave keep_ip out")
	case slices.ContainsFunc(otherSystems, func(id string) bool { return strings.HasPrefix(p.vm.GuestID, id) }):
		say(vsphere.SeverityError, fmt.Sprintf("it is known for Linux and Windows alone, and the guest is %q", p.vm.GuestID), "leave keep_ip out, and set the addresses by hand")
	case n == nil && p.here != nil:
		say(vsphere.SeverityError, "there is no file NAME.network.json beside what is converted, with the addresses of the guest",
			"hyper2kvm export writes it of a VM that runs with VMware Tools; leave keep_ip out, and set the addresses by hand")
	case p.here != nil && len(n.Interfaces) == 0 && len(p.here.Network.Interfaces) > 0:
		say(vsphere.SeverityError, "no card of what is converted has a MAC address that NAME.network.json tells of",
			"an OVF has them if it was made so (ovftool --exportFlags=mac); or leave keep_ip out, and set the addresses by hand")
	case n == nil || !slices.ContainsFunc(n.Interfaces, func(i job.GuestInterface) bool { return len(i.Addresses) > 0 }):
		say(vsphere.SeverityError, "VMware Tools have reported no addresses of the guest",
			"they do while the guest runs: let it run with Tools, and export it with -shutdown or -snapshot; or leave keep_ip out")
	case p.isWindows():
		_, _, lost := guestnet.MACs(*n)
		for _, text := range lost {
			say(vsphere.SeverityWarning, text, "")
		}
	}
	if !p.isWindows() {
		out = append(out, machineObstacles(CodeKeepIP, p.fish().Problems())...)
	}
	return out
}

func (p *keepIPPart) fish() *guestnet.Fish {
	if p.m.Fish != nil {
		return p.m.Fish
	}
	return new(guestnet.Fish)
}

// reported is what Tools have reported, of the cards that vSphere has given the VM: they
// tell of what the guest makes itself, too. It is nil when that is nothing.
func (r *run) reported() *job.GuestNetwork {
	var n *job.GuestNetwork
	if r.here != nil {
		n = r.here.Network
	} else if r.work != nil {
		n = r.work.Network()
		if receipt, ok := r.foundFinished(); ok && n == nil {
			n = receipt.Result.Network
		}
	}
	if r.vm.Guest != nil {
		n = guestNetwork(r.vm.Guest, r.started)
	}
	if n == nil || !n.Known {
		return nil
	}
	own := *n
	own.Interfaces = slices.DeleteFunc(slices.Clone(n.Interfaces), func(i job.GuestInterface) bool {
		return len(r.vm.NICs) > 0 && !slices.ContainsFunc(r.vm.NICs, func(c vsphere.NIC) bool { return sameMAC(c.MAC, i.MAC) })
	})
	return &own
}

// sameMAC compares MAC addresses, whichever way they are written.
func sameMAC(a, b string) bool {
	one, err := net.ParseMAC(a)
	other, err2 := net.ParseMAC(b)
	return err == nil && err2 == nil && bytes.Equal(one, other)
}

// windowsMACs is what the conversion of a Windows guest is to do for its addresses.
func (r *run) windowsMACs() []string {
	n := r.reported()
	if !r.def.Options.KeepIP || !r.isWindows() || n == nil {
		return nil
	}
	values, _, _ := guestnet.MACs(*n)
	return values
}

func (p *keepIPPart) do(ctx context.Context, g *inside) error {
	n := p.reported()
	if n == nil {
		n = g.result.Network
	}
	if n == nil {
		return fault.Permanent(fault.WithHint(errors.New("keep_ip: VMware Tools have reported no addresses of the guest"), "leave keep_ip out"))
	}
	if p.here != nil && p.here.Bare {
		g.did.Notes = append(g.did.Notes, "keep_ip: nothing describes the machine; give its cards the MAC addresses that they had, by which the guest knows them")
	}
	if p.isWindows() {
		if g.did.Converted == nil {
			return fault.Permanent(fault.WithHint(errors.New("keep_ip: the guest was converted before without it, and addresses are kept by the conversion alone"),
				"set the addresses by hand, or export the VM again (overwrite)"))
		}
		_, told, lost := guestnet.MACs(*n)
		g.did.NetworkKept, g.did.Notes = told, append(g.did.Notes, lost...)
		return nil
	}
	looking := p.slow("", "having the guest keep its addresses, by guestfish")
	defer looking.end()
	changes, err := p.fish().Apply(ctx, g.Overlays(), *n, func(text string) { p.info("", "%s", text) })
	switch {
	case errors.Is(err, guestnet.ErrUnclear):
		return fault.Permanent(fault.WithHint(fmt.Errorf("keep_ip: %w", err), "leave keep_ip out, and set the addresses by hand at the guest's console"))
	case err != nil:
		return fmt.Errorf("keep_ip: %w", err)
	}
	for _, text := range changes.Told {
		p.info("", "the card %s", text)
	}
	g.did.NetworkKept = changes.Told
	if changes.Relabel {
		g.did.Notes = append(g.did.Notes, "the guest has SELinux, and labels all its files when it starts for the first time, which takes minutes")
	}
	return nil
}
