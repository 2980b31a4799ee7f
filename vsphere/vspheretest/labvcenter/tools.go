package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// toolsFile is a guest with VMware Tools, as inventory files write it.
type toolsFile struct {
	HostName string   `yaml:"host_name"`
	Gateway  string   `yaml:"gateway"`
	DNS      []string `yaml:"dns"`
	DHCP     bool     `yaml:"dhcp"`
	Shutdown string   `yaml:"shutdown"` // a duration, or never
}

// never is a guest that does not shut down when it is asked to.
const never = "never"

// setTools applies an attribute of a -vm flag that is about the guest in the VM.
func (v *vmFile) setTools(key, value string) error {
	if v.Tools == nil {
		v.Tools = new(toolsFile)
	}
	t := v.Tools
	switch key {
	case "tools":
		t.HostName = value
	case "ip":
		if len(v.NICs) == 0 {
			return errors.New("an address is of the card before it: give nic=TYPE/MAC first")
		}
		card := &v.NICs[len(v.NICs)-1]
		card.Addresses = append(card.Addresses, value)
	case "gateway":
		t.Gateway = value
	case "dns":
		t.DNS = append(t.DNS, value)
	case "dhcp":
		t.DHCP = true
	case "shutdown":
		t.Shutdown = value
	}
	return nil
}

// toolsAttributes are those of setTools.
var toolsAttributes = map[string]bool{"tools": true, "ip": true, "gateway": true, "dns": true, "dhcp": true, "shutdown": true}

// guest is what Tools in the VM report of it; nil without Tools.
func (v *vmFile) guest() (*vspheretest.Guest, error) {
	t := v.Tools
	if t == nil {
		for _, n := range v.NICs {
			if len(n.Addresses) > 0 {
				return nil, errors.New("it has addresses and no tools, which would tell of them")
			}
		}
		return nil, nil
	}
	g := &vspheretest.Guest{HostName: t.HostName}
	switch t.Shutdown {
	case "":
	case never:
		g.ShutdownTakes = -1
	default:
		d, err := time.ParseDuration(t.Shutdown)
		if err != nil || d < 0 {
			return nil, fmt.Errorf("shutdown %q: want a time such as 5s, or %s", t.Shutdown, never)
		}
		g.ShutdownTakes = d
	}
	for i, n := range v.NICs {
		card, err := n.reported(t.DHCP)
		if err != nil {
			return nil, fmt.Errorf("card %d: %w", i, err)
		}
		g.Net = append(g.Net, card)
	}
	stack, err := t.stack()
	if err == nil && len(g.Net) > 0 {
		g.IPStack = stack
	}
	return g, err
}

// reported is a card as Tools report it.
func (n nicFile) reported(dhcp bool) (types.GuestNicInfo, error) {
	card := types.GuestNicInfo{Network: n.Network, MacAddress: strings.ToLower(n.MAC), Connected: true}
	if _, err := net.ParseMAC(n.MAC); err != nil && len(n.Addresses) > 0 {
		return card, errors.New("a card with an address needs a MAC address of its own, by which the guest knows it: nic=vmxnet3/00:50:56:01:02:03")
	}
	origin := types.NetIpConfigInfoIpAddressOriginManual
	if dhcp {
		origin = types.NetIpConfigInfoIpAddressOriginDhcp
	}
	config := new(types.NetIpConfigInfo)
	for _, text := range n.Addresses {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return card, fmt.Errorf("address %q: want one such as 192.0.2.10/24", text)
		}
		card.IpAddress = append(card.IpAddress, p.Addr().String())
		config.IpAddress = append(config.IpAddress, types.NetIpConfigInfoIpAddress{
			IpAddress: p.Addr().String(), PrefixLength: int32(p.Bits()), Origin: string(origin), //nolint:gosec // up to 128
			State: string(types.NetIpConfigInfoIpAddressStatusPreferred),
		})
	}
	if len(config.IpAddress) > 0 {
		config.Dhcp = &types.NetDhcpConfigInfo{Ipv4: &types.NetDhcpConfigInfoDhcpOptions{Enable: dhcp}}
		card.IpConfig = config
	}
	return card, nil
}

// stack is the guest's default route, over its first card, and its name servers.
func (t *toolsFile) stack() ([]types.GuestStackInfo, error) {
	if t.Gateway == "" && len(t.DNS) == 0 {
		return nil, nil
	}
	stack := types.GuestStackInfo{DnsConfig: &types.NetDnsConfigInfo{Dhcp: t.DHCP, HostName: t.HostName}}
	for _, server := range t.DNS {
		if _, err := netip.ParseAddr(server); err != nil {
			return nil, fmt.Errorf("dns %q: want an address", server)
		}
		stack.DnsConfig.IpAddress = append(stack.DnsConfig.IpAddress, server)
	}
	if t.Gateway != "" {
		gateway, err := netip.ParseAddr(t.Gateway)
		if err != nil {
			return nil, fmt.Errorf("gateway %q: want an address", t.Gateway)
		}
		everywhere := netip.IPv4Unspecified()
		if gateway.Is6() {
			everywhere = netip.IPv6Unspecified()
		}
		stack.IpRouteConfig = &types.NetIpRouteConfigInfo{IpRoute: []types.NetIpRouteConfigInfoIpRoute{{
			Network: everywhere.String(), Gateway: types.NetIpRouteConfigInfoGateway{IpAddress: t.Gateway, Device: "0"},
		}}}
	}
	return []types.GuestStackInfo{stack}, nil
}
