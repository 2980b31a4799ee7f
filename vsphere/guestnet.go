package vsphere

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
)

// GuestNetwork is what VMware Tools have said of a guest's network. The guest chooses
// all of it: addresses are parsed, names are fit to be shown, and there is a bound for
// how many of each are kept.
type GuestNetwork struct {
	HostName, DomainName string
	Cards                []GuestCard
	DNS                  []netip.Addr
	Search               []string
	LeftOut              int // how much of it is not here
}

// GuestCard is a network card as its guest has set it up.
type GuestCard struct {
	MAC       string // lower-case, with colons
	Network   string
	Connected bool
	DHCP      bool // for IPv4
	Addresses []GuestAddress
	Gateways  []netip.Addr // of default routes
	DNS       []netip.Addr
	Search    []string
}

// GuestAddress is an address of a guest.
type GuestAddress struct {
	netip.Prefix        // as the guest has it: not masked
	Origin       string // a NetIpConfigInfoIpAddressOrigin, or ""
}

// Bounds of a guest's network. Ten cards are all that a VM can have; bridges and
// containers in the guest make up for more.
const (
	maxGuestCards     = 64
	maxGuestAddresses = 64 // of a card
	maxGuestList      = 16 // gateways, name servers, search domains
	maxGuestRoutes    = 1024
	maxGuestName      = 255 // bytes
)

// guestNetworkOf reads a guest's network; nil when Tools have said nothing of it.
func guestNetworkOf(g *types.GuestInfo) *GuestNetwork {
	if g == nil {
		return nil
	}
	n := &GuestNetwork{HostName: guestName(g.HostName)}
	byIndex := map[int]int{} // cards by their place in guest.net
	for i, nic := range g.Net {
		mac, err := net.ParseMAC(nic.MacAddress)
		if err != nil || len(mac) != 6 || len(n.Cards) == maxGuestCards {
			n.LeftOut++
			continue
		}
		byIndex[i] = len(n.Cards)
		n.Cards = append(n.Cards, n.card(mac.String(), nic))
	}
	for _, stack := range g.IpStack[:min(len(g.IpStack), maxGuestList)] {
		n.stack(stack, byIndex)
	}
	if len(n.Cards) == 0 && n.HostName == "" {
		return nil
	}
	return n
}

// card reads one card.
func (n *GuestNetwork) card(mac string, nic types.GuestNicInfo) GuestCard {
	c := GuestCard{MAC: mac, Network: guestName(unescapeName(nic.Network)), Connected: nic.Connected}
	if cfg := nic.IpConfig; cfg != nil {
		for _, a := range cfg.IpAddress {
			addr, err := netip.ParseAddr(a.IpAddress)
			prefix := netip.PrefixFrom(addr.WithZone(""), int(a.PrefixLength))
			if err != nil || !prefix.IsValid() || len(c.Addresses) == maxGuestAddresses {
				n.LeftOut++
				continue
			}
			c.Addresses = append(c.Addresses, GuestAddress{prefix, originOf(a.Origin)})
			c.DHCP = c.DHCP || addr.Is4() && originOf(a.Origin) == string(types.NetIpConfigInfoIpAddressOriginDhcp)
		}
		if d := cfg.Dhcp; d != nil && d.Ipv4 != nil {
			c.DHCP = c.DHCP || d.Ipv4.Enable
		}
	}
	if d := nic.DnsConfig; d != nil {
		c.DNS, c.Search = n.dns(d)
	}
	return c
}

// stack takes in the routes and name servers of one IP stack of the guest.
func (n *GuestNetwork) stack(s types.GuestStackInfo, byIndex map[int]int) {
	if d := s.DnsConfig; d != nil {
		servers, search := n.dns(d)
		n.DNS, n.Search = append(n.DNS, servers...), append(n.Search, search...)
		if n.HostName == "" {
			n.HostName = guestName(d.HostName)
		}
		if n.DomainName == "" {
			n.DomainName = guestName(d.DomainName)
		}
	}
	if s.IpRouteConfig == nil {
		return
	}
	routes := s.IpRouteConfig.IpRoute
	if len(routes) > maxGuestRoutes {
		n.LeftOut += len(routes) - maxGuestRoutes
		routes = routes[:maxGuestRoutes]
	}
	for _, route := range routes {
		to, err := netip.ParseAddr(route.Network)
		if err != nil || route.PrefixLength != 0 || !to.IsUnspecified() || route.Gateway.IpAddress == "" {
			continue // no default route
		}
		gateway, err := netip.ParseAddr(route.Gateway.IpAddress)
		card := n.cardTo(gateway, route.Gateway.Device, byIndex)
		if err != nil || card == nil || len(card.Gateways) == maxGuestList {
			n.LeftOut++
			continue
		}
		if gateway = gateway.WithZone(""); !slices.Contains(card.Gateways, gateway) {
			card.Gateways = append(card.Gateways, gateway)
		}
	}
}

// cardTo is the card that leads to a gateway: the one whose subnet it is in or, where
// that is no single one, the one whose place in guest.net the route names (F-GUEST-2).
func (n *GuestNetwork) cardTo(gateway netip.Addr, device string, byIndex map[int]int) *GuestCard {
	var named *GuestCard
	if place, err := strconv.Atoi(device); err == nil {
		if i, ok := byIndex[place]; ok {
			named = &n.Cards[i]
		}
	}
	var in []*GuestCard
	for i := range n.Cards {
		c := &n.Cards[i]
		if slices.ContainsFunc(c.Addresses, func(a GuestAddress) bool { return a.Contains(gateway.WithZone("")) }) {
			in = append(in, c)
		}
	}
	if len(in) == 1 {
		return in[0]
	}
	if named == nil && len(in) > 0 {
		return in[0]
	}
	return named
}

// dns reads name servers and search domains.
func (n *GuestNetwork) dns(d *types.NetDnsConfigInfo) (servers []netip.Addr, search []string) {
	for _, s := range d.IpAddress {
		addr, err := netip.ParseAddr(s)
		if err != nil || len(servers) == maxGuestList {
			n.LeftOut++
			continue
		}
		servers = append(servers, addr.WithZone(""))
	}
	for _, s := range d.SearchDomain {
		name := guestName(s)
		if name == "" || len(search) == maxGuestList {
			n.LeftOut++
			continue
		}
		search = append(search, name)
	}
	return servers, search
}

// originOf is where an address comes from, if that is a word that vSphere has.
func originOf(s string) string {
	if slices.Contains(types.NetIpConfigInfoIpAddressOrigin("").Strings(), s) {
		return s
	}
	return ""
}

// guestName is a name that a guest has chosen.
func guestName(s string) string { return safetext.Bounded(strings.TrimSpace(s), maxGuestName) }
