package job

import (
	"net/netip"
	"time"
)

// GuestNetworkVersion is the version of a [GuestNetwork] as it is written down. It is
// raised when a field changes its meaning; fields may be added without.
const GuestNetworkVersion = 1

// GuestNetwork is what the VMware Tools of a guest said of its network while it ran,
// so that it can have the same again elsewhere. It is in the result of an export, and
// in the file NAME.network.json beside the images.
type GuestNetwork struct {
	Version      int              `json:"version"`     // [GuestNetworkVersion]
	ReportedAt   time.Time        `json:"reported_at"` // when it was read
	Known        bool             `json:"known"`       // false: Tools have said nothing
	HostName     string           `json:"host_name,omitempty"`
	DomainName   string           `json:"domain_name,omitempty"`
	Interfaces   []GuestInterface `json:"interfaces"`
	DNS          []netip.Addr     `json:"dns,omitempty"`    // name servers of the whole guest
	SearchDomain []string         `json:"search,omitempty"` // of the whole guest
	// LeftOut is how much of what Tools said is not here: addresses that are none, and
	// what is beyond the bounds.
	LeftOut int `json:"left_out,omitempty"`
}

// GuestInterface is one network card as the guest has set it up.
type GuestInterface struct {
	MAC       string         `json:"mac"`               // as 00:50:56:01:02:03
	Network   string         `json:"network,omitempty"` // port group
	Connected bool           `json:"connected"`
	DHCP      bool           `json:"dhcp"` // IPv4 addresses come by DHCP
	Addresses []GuestAddress `json:"addresses"`
	Gateways  []netip.Addr   `json:"gateways,omitempty"` // of default routes
	DNS       []netip.Addr   `json:"dns,omitempty"`      // name servers of this card
	Search    []string       `json:"search,omitempty"`
}

// GuestAddress is an address of a guest.
type GuestAddress struct {
	Address netip.Addr `json:"address"`
	Prefix  int        `json:"prefix"`           // bits
	Origin  string     `json:"origin,omitempty"` // "manual", "dhcp", "linklayer", "random" or "other"; "" is not known
}
