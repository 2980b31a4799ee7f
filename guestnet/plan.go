package guestnet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// ErrUnclear is the identity of errors that say why the guest's settings cannot be kept.
var ErrUnclear = errors.New("the guest's network settings cannot be kept")

// Guest is what [Plan] is to know of a guest.
type Guest struct {
	// Files are the contents of files below /etc that set up the network, by their
	// absolute path: see [Wanted].
	Files map[string]string
	// Enabled are the units of systemd that are started at boot.
	Enabled []string
	// Systemd is the version of systemd, 0 when there is none or it does not tell.
	Systemd int
}

// File is a file to be written in the guest, for root alone to change.
type File struct {
	Path string
	Mode uint32 // permission bits
	Data string
}

// Changes are what is to be done in the guest.
type Changes struct {
	Files []File
	// Told says in plain words what becomes of each card.
	Told []string
	// Relabel: SELinux is to label the new files when the guest starts.
	Relabel bool
}

// Plan says what to write in a guest, so that its cards keep what n reports of them.
// That may be nothing. The error is an [ErrUnclear].
func Plan(n job.GuestNetwork, g Guest) (Changes, error) {
	p := &planner{guest: g, settings: read(g), bound: boundNames(g)}
	if err := p.cards(n); err != nil {
		return Changes{}, fmt.Errorf("%w: %w", ErrUnclear, err)
	}
	if len(p.out.Files) > 0 {
		p.out.Relabel = selinux(g)
	}
	return p.out, nil
}

// selinux reports whether SELinux looks at the labels of files.
func selinux(g Guest) bool {
	for line := range strings.Lines(g.Files["/etc/selinux/config"]) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && strings.TrimSpace(key) == "SELINUX" {
			return strings.TrimSpace(value) != "disabled"
		}
	}
	return false
}

// planner makes up what to do with each card.
type planner struct {
	guest    Guest
	settings []setting
	bound    map[string]string // names that cards have by their MAC address already
	taken    []string          // names of cards that are done
	out      Changes
}

// card is a card of the guest, and what it has to have.
type card struct {
	mac      string
	dhcp     bool           // IPv4 addresses come by DHCP
	has      []netip.Addr   // all addresses
	static   []netip.Prefix // those that may be in its settings
	byHand   []netip.Prefix // those of them that Tools say were set by hand
	gateways []netip.Addr
	dns      []netip.Addr
	search   []string
}

// cardsOf are the cards that n tells of. Tools tell of a VLAN as of a card with the MAC
// address of the one below it: that is one card here.
func cardsOf(n job.GuestNetwork) (cards []card) {
	for _, i := range n.Interfaces {
		mac := macOf(i.MAC)
		if mac == "" {
			continue
		}
		at := slices.IndexFunc(cards, func(c card) bool { return c.mac == mac })
		if at < 0 {
			at = len(cards)
			cards = append(cards, card{mac: mac})
		}
		c := &cards[at]
		c.dhcp = c.dhcp || i.DHCP
		c.gateways, c.dns, c.search = append(c.gateways, i.Gateways...), append(c.dns, i.DNS...), append(c.search, i.Search...)
		for _, a := range i.Addresses {
			c.add(a, i.DHCP)
		}
	}
	return cards
}

func (c *card) add(a job.GuestAddress, dhcp bool) {
	address := a.Address.WithZone("").Unmap()
	prefix := netip.PrefixFrom(address, a.Prefix)
	if !address.IsGlobalUnicast() || !prefix.IsValid() {
		return
	}
	c.has = append(c.has, address)
	switch {
	case a.Origin == "linklayer", a.Origin == "random", a.Origin == "dhcp", dhcp && address.Is4():
		return
	case a.Origin == "manual":
		c.byHand = append(c.byHand, prefix)
	}
	c.static = append(c.static, prefix)
}

// cards decides for all cards: first for those whose addresses tell, then for the rest.
func (p *planner) cards(n job.GuestNetwork) error {
	cards := cardsOf(n)
	if !n.Known || len(cards) == 0 {
		return errors.New("VMware Tools have reported no cards")
	}
	var open []card
	for _, c := range cards {
		if len(c.dns) == 0 && len(c.gateways) > 0 { // those of the whole guest go with its default route
			c.dns = n.DNS
		}
		if len(c.search) == 0 {
			c.search = n.SearchDomain
		}
		own := p.own(c)
		if len(own) == 0 {
			open = append(open, c)
		} else if err := p.settle(c, own); err != nil {
			return err
		}
	}
	return p.rest(open)
}

// own are the settings that are certainly for a card.
func (p *planner) own(c card) (own []setting) {
	for _, s := range p.settings {
		if s.mac == c.mac || len(s.common(c)) > 0 {
			own = append(own, s)
		}
	}
	return own
}

// common are the addresses that both a setting and a card have.
func (s setting) common(c card) (out []netip.Prefix) {
	for _, a := range c.static {
		if slices.Contains(s.addresses, a.Addr()) {
			out = append(out, a)
		}
	}
	return out
}

// settle does what a card needs whose settings are known.
func (p *planner) settle(c card, own []setting) error {
	var called, stranded, above *setting
	for i := range own {
		switch s := &own[i]; {
		case s.mac != "" && s.mac != c.mac:
			return fmt.Errorf("%s has addresses of the card %s, and is for the card %s", s.file, c.mac, s.mac)
		case s.above != "":
			if above = s; s.above != "VLAN" {
				return isAbove(c, s)
			}
		case s.hardware != "":
			stranded = s
		case s.name == "":
		case called != nil && called.name != s.name:
			return fmt.Errorf("the card %s is called %s in %s, and %s in %s", c.mac, called.name, called.file, s.name, s.file)
		default:
			called = s
		}
	}
	switch {
	case stranded != nil:
		c.byHand = stranded.common(c)
		c.dhcp = c.dhcp || stranded.dhcp
		return p.write(c, fmt.Sprintf("%s is for cards by their %s, which changes", stranded.file, stranded.hardware))
	case called != nil: // a VLAN on it finds it by that name, too
		return p.name(c, called)
	case above != nil:
		return isAbove(c, above)
	}
	p.say("%s: %s finds the card whatever its name is", c.mac, own[0].file)
	return nil
}

func isAbove(c card, s *setting) error {
	return fmt.Errorf("addresses of the card %s are on a %s (%s), and which card is below it cannot be told from outside", c.mac, s.above, s.file)
}

// rest decides for the cards whose addresses are in no settings.
func (p *planner) rest(open []card) error {
	for _, c := range open {
		if name := p.bound[c.mac]; name != "" {
			p.taken = append(p.taken, name)
		}
	}
	free := p.free()
	var wait []card // for a name that is to be found
	for _, c := range open {
		switch {
		case p.bound[c.mac] != "":
			p.say("%s: keeps the name %s by its MAC address already", c.mac, p.bound[c.mac])
		case len(c.byHand) > 0:
			if err := p.write(c, "no file of the guest has these addresses"); err != nil {
				return err
			}
		case len(c.has) == 0 && !c.dhcp && (len(open) > 1 || len(free) != 1):
			p.say("%s: has no address", c.mac)
		case slices.ContainsFunc(free, func(s *setting) bool { return s.dhcp || len(c.has) == 0 }):
			wait = append(wait, c)
		case p.by(func(s setting) bool { return s.dhcp && s.every }):
			p.say("%s: set up by DHCP whatever its name is", c.mac)
		case p.by(func(s setting) bool { return s.dhcp && s.hardware != "" && s.mac == "" }):
			c.dhcp = true
			if err := p.write(c, "the guest's settings for DHCP are for cards of another kind"); err != nil {
				return err
			}
		case len(c.static) == 0, len(p.settings) == 0 && slices.Contains(p.guest.Enabled, "NetworkManager.service"):
			p.say("%s: the guest has no settings for it, which for most guests means DHCP", c.mac)
		default:
			return fmt.Errorf("no file of the guest has %s of the card %s, so that it is not known how it is set", c.static[0].Addr(), c.mac)
		}
	}
	switch {
	case len(wait) == 0:
		return nil
	case len(wait) == 1 && len(free) == 1:
		return p.name(wait[0], free[0])
	}
	var names []string
	for _, s := range free {
		names = append(names, s.name)
	}
	return fmt.Errorf("which of %s is the card %s cannot be told: the guest's settings tell cards apart by these names alone", strings.Join(names, ", "), wait[0].mac)
}

// free are the settings for one name that no card has, one for each name.
func (p *planner) free() (out []*setting) {
	for i := range p.settings {
		s := &p.settings[i]
		if s.name != "" && s.mac == "" && s.above == "" && s.hardware == "" && !slices.Contains(p.taken, s.name) &&
			!slices.ContainsFunc(out, func(o *setting) bool { return o.name == s.name }) {
			out = append(out, s)
		}
	}
	return out
}

func (p *planner) by(is func(setting) bool) bool { return slices.ContainsFunc(p.settings, is) }

func (p *planner) say(format string, args ...any) {
	p.out.Told = append(p.out.Told, fmt.Sprintf(format, args...))
}

// name gives a card the name by which a setting knows it.
func (p *planner) name(c card, by *setting) error {
	name := by.name
	if !nameable(name) {
		return fmt.Errorf("%s has settings for %q, which is no name of a card", by.file, safetext.Bounded(name, 40))
	}
	if slices.Contains(p.taken, name) {
		return fmt.Errorf("two cards are called %s in the guest's settings, of which one is %s", name, c.mac)
	}
	p.taken = append(p.taken, name)
	if p.bound[c.mac] == name {
		p.say("%s: keeps the name %s by its MAC address already", c.mac, name)
		return nil
	}
	p.out.Files = append(p.out.Files, naming(c.mac, name, p.guest.Systemd))
	p.say("%s: is called %s, as in %s", c.mac, name, by.file)
	return nil
}

// maxName is how long the kernel lets the name of a card be.
const maxName = 15

// nameable reports whether a card may have that name.
func nameable(name string) bool {
	return name != "" && len(name) <= maxName && name != "lo" && name != "all" && name != "default" && !strings.HasPrefix(name, ".") && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	})
}
