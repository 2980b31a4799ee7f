package kvm

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// nics returns the domain's network cards. They do not take part in the boot order.
func nics(g Guest, o Options) (cards []libvirtxml.DomainInterface, notes []Note) {
	for i, n := range g.NICs {
		note := func(format string, args ...any) {
			notes = append(notes, Note{Device: fmt.Sprintf("nic %d", i), Text: fmt.Sprintf(format, args...)})
		}
		card := libvirtxml.DomainInterface{
			Source: source(o.network(n.Network)),
			Model:  &libvirtxml.DomainInterfaceModel{Type: nicModel(n.Model, o.Virtio || o.VirtioNet)},
		}
		if !o.Virtio && !o.VirtioNet && !strings.EqualFold(card.Model.Type, n.Model) {
			note("QEMU has no %q card; it is an %s now", cleanLine(n.Model, 40), card.Model.Type)
		}
		switch mac, ok := unicastMAC(n.MAC); {
		case ok:
			card.MAC = &libvirtxml.DomainInterfaceMAC{Address: mac}
		case n.MAC != "":
			note("%q is not a unicast MAC address; libvirt gives it a new one", cleanLine(n.MAC, 40))
		}
		cards = append(cards, card)
	}
	return cards, append(unmapped(g, o), notes...)
}

// unmapped is one note for all cards whose port group has no network, or none: what
// is to be done is the same for all of them.
func unmapped(g Guest, o Options) []Note {
	var groups, cards []string
	for i, n := range g.NICs {
		if _, mapped := o.Mapped(n.Network); mapped || n.Network == "" {
			continue
		}
		cards = append(cards, strconv.Itoa(i))
		if name := fmt.Sprintf("%q", cleanLine(n.Network, 80)); !slices.Contains(groups, name) {
			groups = append(groups, name)
		}
	}
	if len(cards) == 0 {
		return nil
	}
	device, was, is := "nic", "was on network", "it is on"
	if len(cards) > 1 {
		device, was, is = "nics", "were on networks", "they are on"
	}
	if len(groups) == 1 {
		was = strings.TrimSuffix(was, "s")
	}
	return []Note{{Device: device + " " + strings.Join(cards, ", "), Text: fmt.Sprintf(
		"%s %s%s; %s %q now", was, strings.Join(groups, ", "), withoutNetwork, is, o.network(""))}}
}

// withoutNetwork is in every note of [unmapped], and in no other.
const withoutNetwork = ", for which no libvirt network was named"

// AboutNetworks reports whether the text of a [Note] tells of cards for which no
// network was named, which who reports on several domains says once for all.
func AboutNetworks(note string) bool { return strings.Contains(note, withoutNetwork) }

// source is where a card is attached: a libvirt network, or a bridge.
func source(network string) *libvirtxml.DomainInterfaceSource {
	if bridge, ok := strings.CutPrefix(network, BridgePrefix); ok {
		return &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: bridge}}
	}
	return &libvirtxml.DomainInterfaceSource{Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: network}}
}

// network is the libvirt network for a port group.
func (o Options) network(portGroup string) string {
	network, _ := o.Mapped(portGroup)
	return cmp.Or(network, o.DefaultNetwork, DefaultNetwork)
}

// AnyNetwork stands in a network map for every port group that it does not name.
const AnyNetwork = "*"

// Mapped returns the network that the map names for a port group, if it does.
func (o Options) Mapped(portGroup string) (network string, mapped bool) {
	if network, mapped = o.NetworkMap[portGroup]; !mapped {
		network, mapped = o.NetworkMap[AnyNetwork]
	}
	return network, mapped
}

// nicModel is QEMU's card for a vSphere one. QEMU has the very same four that vSphere
// offers; e1000 stands in for the rest because nearly every system has its driver.
func nicModel(model string, virtio bool) string {
	if virtio {
		return "virtio"
	}
	switch m := strings.ToLower(model); m {
	case "vmxnet3", "e1000", "e1000e", "pcnet":
		return m
	}
	return "e1000"
}

// unicastMAC returns a MAC address in libvirt's spelling, and whether it is one that
// a card can have.
func unicastMAC(s string) (string, bool) {
	mac, err := net.ParseMAC(s)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 || mac.String() == "00:00:00:00:00:00" {
		return "", false
	}
	return mac.String(), true
}
