package vsphere

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

// guestOf is a guest with a card and a default route.
func guestOf(addresses []types.NetIpConfigInfoIpAddress, gateway, device string) *types.GuestInfo {
	return &types.GuestInfo{
		HostName: "web1",
		Net: []types.GuestNicInfo{
			{MacAddress: "00:50:56:AA:00:01", Network: "VM Network", Connected: true, IpConfig: &types.NetIpConfigInfo{IpAddress: addresses}},
			{MacAddress: "00:50:56:aa:00:02", IpConfig: &types.NetIpConfigInfo{
				IpAddress: []types.NetIpConfigInfoIpAddress{{IpAddress: "198.51.100.7", PrefixLength: 24, Origin: "dhcp"}},
			}},
		},
		IpStack: []types.GuestStackInfo{{
			DnsConfig: &types.NetDnsConfigInfo{DomainName: "example.org", IpAddress: []string{"192.0.2.53"}, SearchDomain: []string{"example.org"}},
			IpRouteConfig: &types.NetIpRouteConfigInfo{IpRoute: []types.NetIpRouteConfigInfoIpRoute{
				{Network: "0.0.0.0", Gateway: types.NetIpRouteConfigInfoGateway{IpAddress: gateway, Device: device}},
				{Network: "192.0.2.0", PrefixLength: 24, Gateway: types.NetIpRouteConfigInfoGateway{Device: "0"}},
			}},
		}},
	}
}

func TestAGuestsNetworkIsReadAsToolsReportIt(t *testing.T) {
	t.Parallel()
	n := guestNetworkOf(guestOf([]types.NetIpConfigInfoIpAddress{
		{IpAddress: "192.0.2.10", PrefixLength: 24, Origin: "manual"},
		{IpAddress: "fe80::1%eth0", PrefixLength: 64, Origin: "linklayer"},
	}, "192.0.2.1", "1"))
	if n.HostName != "web1" || n.DomainName != "example.org" || len(n.Cards) != 2 || n.LeftOut != 0 || len(n.DNS) != 1 || len(n.Search) != 1 {
		t.Fatalf("%+v", n)
	}
	c := n.Cards[0]
	if c.MAC != "00:50:56:aa:00:01" || !c.Connected || c.DHCP || len(c.Addresses) != 2 ||
		c.Addresses[0].String() != "192.0.2.10/24" || c.Addresses[0].Origin != "manual" || c.Addresses[1].String() != "fe80::1/64" {
		t.Errorf("%+v", c)
	}
	if len(c.Gateways) != 1 || c.Gateways[0] != netip.MustParseAddr("192.0.2.1") || len(n.Cards[1].Gateways) != 0 {
		t.Errorf("the gateway of the subnet is at %+v", n.Cards)
	}
	if !n.Cards[1].DHCP {
		t.Errorf("%+v", n.Cards[1])
	}
}

func TestAGatewayOutsideEverySubnetIsThatOfTheCardThatTheRouteNames(t *testing.T) {
	t.Parallel()
	for device, want := range map[string]int{"0": 0, "1": 1, "7": -1, "-1": -1, "eth0": -1} {
		n := guestNetworkOf(guestOf(nil, "203.0.113.1", device))
		for i, c := range n.Cards {
			if (len(c.Gateways) == 1) != (i == want) {
				t.Errorf("device %q: card %d has %v", device, i, c.Gateways)
			}
		}
		if (n.LeftOut == 1) != (want < 0) {
			t.Errorf("device %q: %d left out", device, n.LeftOut)
		}
	}
}

func TestAGuestThatReportsNothingHasNoNetwork(t *testing.T) {
	t.Parallel()
	for name, g := range map[string]*types.GuestInfo{
		"no guest": nil, "no Tools": {}, "no card that is one": {Net: []types.GuestNicInfo{{MacAddress: ""}, {MacAddress: "nonsense"}}},
	} {
		if n := guestNetworkOf(g); n != nil {
			t.Errorf("%s: %+v", name, n)
		}
	}
}

// The guest's administrator chooses every word of it.
func TestAHostileGuestCannotSayMoreThanTheBoundsAllow(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("\x1b[2J", 1<<16)
	g := guestOf(nil, long, long)
	g.HostName = long
	card := types.GuestNicInfo{MacAddress: "00:50:56:00:00:01", Network: long, DnsConfig: &types.NetDnsConfigInfo{}, IpConfig: &types.NetIpConfigInfo{
		IpAddress: []types.NetIpConfigInfoIpAddress{
			{IpAddress: long}, {IpAddress: "192.0.2.1", PrefixLength: 33}, {IpAddress: "192.0.2.1", PrefixLength: -1},
			{IpAddress: "192.0.2.1", PrefixLength: 24, Origin: long}, {IpAddress: "::", PrefixLength: 1 << 30},
		},
	}}
	for i := range 1000 {
		card.IpConfig.IpAddress = append(card.IpConfig.IpAddress, types.NetIpConfigInfoIpAddress{IpAddress: fmt.Sprintf("10.0.%d.%d", i/250, i%250), PrefixLength: 8})
		card.DnsConfig.IpAddress = append(card.DnsConfig.IpAddress, long, "192.0.2.53")
		card.DnsConfig.SearchDomain = append(card.DnsConfig.SearchDomain, long)
		g.IpStack = append(g.IpStack, g.IpStack[0])
	}
	for range 1000 {
		g.Net = append(g.Net, card)
	}
	n := guestNetworkOf(g)
	text := fmt.Sprintf("%+v", n)
	if len(n.Cards) != maxGuestCards || len(text) > 1<<20 || strings.ContainsRune(text, '\x1b') {
		t.Errorf("%d cards, %d bytes", len(n.Cards), len(text))
	}
	c := n.Cards[3]
	if len(c.Addresses) != maxGuestAddresses || c.Addresses[0].Origin != "" || len(c.DNS) != maxGuestList || len(c.Search) != maxGuestList || n.LeftOut < 1000 {
		t.Errorf("%d addresses, %d name servers, %d left out", len(c.Addresses), len(c.DNS), n.LeftOut)
	}
}
