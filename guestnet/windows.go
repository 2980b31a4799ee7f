package guestnet

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/job"
)

// MACs are the values of virt-v2v's --mac by which a Windows guest keeps the IPv4
// addresses that were set by hand. told says in plain words what becomes of each card,
// and lost what virt-v2v cannot do: it takes one address a card, and that only with a
// default gateway.
func MACs(n job.GuestNetwork) (values, told, lost []string) {
	for _, c := range cardsOf(n) {
		v4, others := netip.Prefix{}, 0
		for _, a := range c.static {
			if a.Addr().Is4() && !v4.IsValid() {
				v4 = a
			} else {
				others++
			}
		}
		gateway := settings{gateways: c.gateways}.gateway(true)
		switch {
		case len(c.static) == 0:
			told = append(told, c.mac+": no address that was set by hand")
			continue
		case !v4.IsValid():
			lost = append(lost, fmt.Sprintf("the card %s has IPv6 addresses alone, which virt-v2v does not hand on", c.mac))
			continue
		case !gateway.IsValid():
			lost = append(lost, fmt.Sprintf("the card %s has %s and no default gateway, without which virt-v2v does not hand on an address: set it by hand", c.mac, v4))
			continue
		case others > 0:
			lost = append(lost, fmt.Sprintf("the card %s has %d more address(es) than virt-v2v hands on: set them by hand", c.mac, others))
		}
		parts := []string{v4.Addr().String(), gateway.String(), fmt.Sprint(v4.Bits())}
		dns := c.dns
		if len(dns) == 0 {
			dns = n.DNS
		}
		for _, d := range of(dns, true) {
			parts = append(parts, d.String())
		}
		values = append(values, c.mac+":ip:"+strings.Join(parts, ","))
		told = append(told, fmt.Sprintf("%s: has %s, by virt-v2v", c.mac, v4))
	}
	return values, told, lost
}
