// Package reach says what a job may touch: the directories that it may write to,
// the vCenters that it may make the daemon speak to, and the libvirt that it may land
// images at.
//
// They are named in the configuration. A libvirt is allowed only there: who speaks to
// it can do much on its machine. Without directories and vCenters there, a daemon that only its own
// machine can ask, and nobody with a token, does for a job what its user could do
// anyway: it writes where that user may, outside of the system's directories and of
// hidden ones, and speaks to any vCenter that is not on its own link, where clouds
// have their metadata services. As soon as others can ask, it is the state
// directory's vms, and the configured vCenters.
//
// A refusal is the same whatever is at the place that was asked for, so that nobody
// learns anything from it.
package reach

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate/outdir"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// Policy is what a configuration allows jobs. The zero value, and nil, allow what the
// daemon's user may do.
type Policy struct {
	// OutputRoots are absolute directories, at and below which jobs may write; nil
	// when the configuration does not say.
	OutputRoots []string
	// StateRoot is the directory for images in the daemon's state directory.
	StateRoot string
	// VCenters are those that a job may name by its URL; nil when the configuration
	// does not say.
	VCenters []Pattern
	// Libvirt are the URIs of libvirt at which jobs may land images; nil is none.
	Libvirt []string
	// Known are the addresses of the configured vCenters.
	Known []*url.URL
	// Shared reports whether others can ask than the users of this machine. Nil is
	// no.
	Shared func() bool
}

func (p *Policy) shared() bool { return p.Shared != nil && p.Shared() }

// orZero is p, or the zero value where there is none.
func (p *Policy) orZero() *Policy {
	if p == nil {
		return &Policy{}
	}
	return p
}

// Outputs says where output directories may be now.
func (p *Policy) Outputs() outdir.Roots {
	p = p.orZero()
	switch {
	case p.OutputRoots != nil:
		return outdir.Below(p.OutputRoots...)
	case p.shared():
		return outdir.Below(p.StateRoot)
	}
	return outdir.Own(p.StateRoot)
}

// where says in words where output directories may be.
func (p *Policy) where() string {
	switch roots := p.Outputs().Dirs(); {
	case len(roots) > 0:
		return "choose a directory below " + strings.Join(roots, " or ")
	case roots != nil:
		return "the daemon's configuration allows none (allowed_output_roots)"
	}
	return "choose a directory that the daemon's user may write to, none of the system's and no hidden one, or have it listed in the daemon's configuration (allowed_output_roots)"
}

// Admit returns why a job is not taken, or nil. Its text tells nothing of what is
// there; its hint ([fault.Hint]) says what is allowed.
func (p *Policy) Admit(def job.Definition) error {
	p = p.orZero()
	if def.OutputPath != "" {
		if err := p.Outputs().Check(def.OutputPath); outdir.IsOutside(err) {
			return fault.WithHint(outdir.ErrOutside, p.where())
		}
	}
	if uri := def.Options.Libvirt; uri != "" && !slices.Contains(p.Libvirt, uri) {
		return errLibvirt
	}
	if def.VCenterURL == "" {
		return nil
	}
	u, err := url.Parse(def.VCenterURL)
	if err != nil {
		return errVCenter
	}
	listed, known := p.allows(u), p.known(u)
	switch {
	case !listed && !known:
		return errVCenter
	case !listed && def.Insecure:
		return errInsecure
	}
	return nil
}

var (
	errLibvirt = fault.WithHint(refusal("options.libvirt: this daemon does not land images at that libvirt for a job"),
		"have the URI listed, as it is written, in the daemon's configuration (allowed_libvirt)")
	errVCenter = fault.WithHint(refusal("vcenter_url: this daemon does not speak to that address for a job"),
		"name a configured vCenter with vcenter, or have the address listed in the daemon's configuration (allowed_vcenters)")
	errInsecure = fault.WithHint(refusal("insecure: the certificate of a configured vCenter is checked as the daemon's configuration says"),
		"leave insecure out, or have the address listed in the daemon's configuration (allowed_vcenters)")
)

// refusal is an error that only another job, or another configuration, mends.
type refusal string

func (r refusal) Error() string { return string(r) }
func (refusal) Permanent() bool { return true }

// known reports whether u is the address of a configured vCenter.
func (p *Policy) known(u *url.URL) bool {
	for _, k := range p.Known {
		if hostPort(k) == hostPort(u) {
			return true
		}
	}
	return false
}

// allows reports whether a job may name u, which is none of the configured ones.
func (p *Policy) allows(u *url.URL) bool {
	host := hostOf(u)
	a, err := netip.ParseAddr(host)
	named := err != nil
	if p.VCenters == nil {
		return !p.shared() && (named || vsphere.OnNetwork(a, true))
	}
	for _, pattern := range p.VCenters {
		if pattern.matches(host, hostPort(u)) && (named || !pattern.any() || vsphere.OnNetwork(a, false)) {
			return true
		}
	}
	return false
}

// Dial returns what [vsphere.Config.Allow] is to be for a job's vcenter_url: a name
// may stand for another address than its owner says.
func (p *Policy) Dial(u *url.URL) func(netip.Addr) error {
	p = p.orZero()
	if p.known(u) {
		return nil
	}
	loopback := p.VCenters == nil
	for _, pattern := range p.VCenters {
		loopback = loopback || pattern.host == "localhost" && hostOf(u) == "localhost"
	}
	return func(a netip.Addr) error {
		if vsphere.OnNetwork(a, loopback) {
			return nil
		}
		for _, pattern := range p.VCenters {
			if pattern.contains(a.Unmap()) {
				return nil
			}
		}
		return &vsphere.AddressError{Host: u.Host, Why: "this daemon does not speak to addresses of its own machine or link for a job"}
	}
}

// hostOf is a URL's host as patterns are compared with it.
func hostOf(u *url.URL) string { return strings.ToLower(strings.TrimSuffix(u.Hostname(), ".")) }

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" && u.Scheme == "http" {
		port = "80"
	} else if port == "" {
		port = "443"
	}
	return hostOf(u) + ":" + port
}

// Pattern matches addresses of vCenters: see [ParsePattern].
type Pattern struct {
	host   string       // a name, "*.example.com" or "*"; "" where there is a prefix
	prefix netip.Prefix // of addresses
	port   string       // "" is any
}

// ParsePattern reads HOST or HOST:PORT, where HOST is a name, a name that begins with
// "*." for every name that ends so, an address, a range of addresses as 10.0.0.0/8, or
// "*" for anything on a network. An address with a port stands in brackets if it has
// colons. Without a port, any is meant. A range is for addresses that a job names as
// such: a name matches a name.
func ParsePattern(s string) (Pattern, error) {
	if prefix, err := netip.ParsePrefix(s); err == nil {
		return Pattern{prefix: prefix.Masked()}, nil
	}
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		a = a.Unmap()
		return Pattern{prefix: netip.PrefixFrom(a, a.BitLen())}, nil
	}
	host, port, err := cutPort(s)
	if err != nil {
		return Pattern{}, err
	}
	if prefix, err := netip.ParsePrefix(host); err == nil {
		return Pattern{prefix: prefix.Masked(), port: port}, nil
	}
	if a, err := netip.ParseAddr(host); err == nil {
		a = a.Unmap()
		return Pattern{prefix: netip.PrefixFrom(a, a.BitLen()), port: port}, nil
	}
	if host == "*" {
		return Pattern{host: host, port: port}, nil
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	name := strings.TrimPrefix(host, "*.")
	if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || strings.Contains(name, "..") {
		return Pattern{}, fmt.Errorf("must be a host's name, *.example.com, an address, a range as 10.0.0.0/8, or *, with or without :PORT")
	}
	return Pattern{host: host, port: port}, nil
}

// cutPort cuts the port off, if there is one.
func cutPort(s string) (host, port string, err error) {
	at := strings.LastIndexByte(s, ':')
	if at < 0 || strings.HasSuffix(s, "]") {
		return strings.Trim(s, "[]"), "", nil
	}
	host, port = strings.Trim(s[:at], "[]"), s[at+1:]
	if _, err := netip.ParseAddrPort("127.0.0.1:" + port); err != nil || port == "0" || port[0] == '0' {
		return "", "", fmt.Errorf("has no port from 1 to 65535 behind its colon")
	}
	return host, port, nil
}

// any reports whether the pattern names nothing in particular.
func (p Pattern) any() bool { return p.host == "*" || p.prefix.IsValid() && p.prefix.Bits() == 0 }

// contains reports whether the pattern names a as an address.
func (p Pattern) contains(a netip.Addr) bool {
	return p.prefix.IsValid() && !p.any() && p.prefix.Contains(a)
}

// matches compares a host, and host:port, with the pattern.
func (p Pattern) matches(host, hostPort string) bool {
	if p.port != "" && !strings.HasSuffix(hostPort, ":"+p.port) {
		return false
	}
	if p.prefix.IsValid() {
		a, err := netip.ParseAddr(host)
		return err == nil && p.prefix.Contains(a.Unmap())
	}
	suffix, wild := strings.CutPrefix(p.host, "*")
	return p.host == host || wild && strings.HasSuffix(host, suffix) && len(host) > len(suffix)
}
