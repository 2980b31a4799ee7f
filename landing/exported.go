package landing

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// OfDomain is what the domain of a finished export says of its landing: all of a plan
// but where to, the images, and what they take. networks moves cards from the network that
// the domain has them on to another one, and [job.AnyNetwork] those that it does not name;
// the domain that is returned has them there.
func OfDomain(xml []byte, networks map[string]string) (Plan, []byte, error) {
	var d libvirtxml.Domain
	if err := d.Unmarshal(string(xml)); err != nil {
		return Plan{}, nil, fault.Permanent(fmt.Errorf("the exported domain cannot be read: %w", err))
	}
	p := Plan{Domain: d.Name, UUID: strings.ToLower(d.UUID)}
	if d.OS != nil {
		p.UEFI = d.OS.Firmware == "efi"
		p.SecureBoot = d.OS.FirmwareInfo != nil && slices.ContainsFunc(d.OS.FirmwareInfo.Features, func(f libvirtxml.DomainOSFirmwareFeature) bool {
			return f.Name == "secure-boot" && f.Enabled == "yes"
		})
	}
	if d.Metadata != nil {
		p.TPM = strings.Contains(d.Metadata.XML, "/win/11")
	}
	if d.Devices == nil {
		return p, xml, nil
	}
	used := map[string]bool{}
	for i := range d.Devices.Interfaces {
		card := &d.Devices.Interfaces[i]
		name := networkOf(card)
		if name == "" {
			continue
		}
		target, named := networks[name]
		if !named {
			target = networks[job.AnyNetwork]
		}
		used[name] = true
		if target != "" {
			attach(card, target)
			name = target
		}
		if !slices.Contains(p.Networks, name) {
			p.Networks = append(p.Networks, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(networks)) {
		if name != job.AnyNetwork && !used[name] {
			return p, nil, fault.Permanent(fault.WithHint(fmt.Errorf("the exported domain has no card on the network %q", name),
				"it has some on "+strings.Join(p.Networks, ", ")))
		}
	}
	text, err := d.Marshal()
	return p, []byte(text), err
}

// networkOf is where a card is, as a job's network map writes it; "" when neither a
// network nor a bridge is named.
func networkOf(card *libvirtxml.DomainInterface) string {
	switch s := card.Source; {
	case s == nil:
		return ""
	case s.Network != nil:
		return s.Network.Network
	case s.Bridge != nil:
		return job.BridgePrefix + s.Bridge.Bridge
	}
	return ""
}

// attach puts a card on a network, or a bridge.
func attach(card *libvirtxml.DomainInterface, name string) {
	card.Source = &libvirtxml.DomainInterfaceSource{}
	if bridge, ok := strings.CutPrefix(name, job.BridgePrefix); ok {
		card.Source.Bridge = &libvirtxml.DomainInterfaceSourceBridge{Bridge: bridge}
		return
	}
	card.Source.Network = &libvirtxml.DomainInterfaceSourceNetwork{Network: name}
}
