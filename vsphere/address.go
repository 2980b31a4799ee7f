package vsphere

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// class is a kind of address by who can be there. vSphere's hosts are on
// networks; what is on this machine alone, or on its own link, such as a cloud's
// metadata service, is nothing that a lease of theirs may lead to.
type class uint32

const (
	network  class = 0
	loopback class = 1 << (iota - 1)
	link
	nowhere
)

// metadata are the addresses of clouds' metadata services that are not on the link.
var metadata = []netip.Addr{netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("100.100.100.200")}

// translated is the prefix under which IPv4 addresses stand behind NAT64.
var translated = netip.MustParsePrefix("64:ff9b::/96")

// classOf judges an address.
func classOf(a netip.Addr) class {
	a = a.WithZone("").Unmap()
	if translated.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	switch {
	case a.IsLoopback(), a.IsUnspecified():
		return loopback // the system takes 0.0.0.0 for this machine
	case a.IsLinkLocalUnicast():
		return link
	case !a.IsValid(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return nowhere
	}
	for _, m := range metadata {
		if a == m {
			return link
		}
	}
	return network
}

// classOfName judges a host that is named by its address, or as this machine.
func classOfName(host string) class {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return loopback
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil {
		return network // its name tells nothing: see [reach.dial]
	}
	return classOf(a)
}

// OnNetwork reports whether a is an address where a vCenter or an ESXi host can be:
// not this machine's own, and none of its own link, where clouds have their
// metadata services. onLoopback leaves this machine out of that.
func OnNetwork(a netip.Addr, onLoopback bool) bool {
	c := classOf(a)
	return c == network || c == loopback && onLoopback
}

// AddressError says that a host is not connected to because of its address.
type AddressError struct {
	Host string // host:port as it was named
	Why  string
}

// Error does not say what the name stands for.
func (e *AddressError) Error() string {
	return fmt.Sprintf("%s is not connected to: %s", e.Host, e.Why)
}

// Permanent is true: the address stays what it is.
func (e *AddressError) Permanent() bool { return true }

const notANetwork = "it is an address of this machine or of its own link, and the vCenter is not there"

// reach makes the connections of a Client, and knows where its service is.
type reach struct {
	allow   func(netip.Addr) error // of the service; may be nil
	where   atomic.Uint32          // classes of the addresses at which the service was reached
	mu      sync.Mutex
	proxies map[string]bool    // host:port of proxies
	vouched map[[2]string]bool // VM and host that vSphere's inventory has for it
}

// vouch remembers that the host may serve the VM's disks.
func (r *reach) vouch(vm, host string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.vouched == nil {
		r.vouched = make(map[[2]string]bool)
	}
	r.vouched[[2]string{vm, host}] = true
}

func (r *reach) isVouched(vm, host string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.vouched[[2]string{vm, host}]
}

// proxy is [http.ProxyFromEnvironment], and remembers the proxy.
func (r *reach) proxy(req *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(req)
	if u != nil && err == nil {
		port := map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.proxies == nil {
			r.proxies = make(map[string]bool)
		}
		r.proxies[withPort(u.Host, port)] = true
	}
	return u, err
}

func (r *reach) isProxy(addr string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.proxies[addr]
}

// service connects to the service.
func (r *reach) service(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := r.dial(ctx, network, addr, r.allow)
	if err == nil && !r.isProxy(addr) {
		if at, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
			r.where.Or(uint32(classOf(at.AddrPort().Addr())))
		}
	}
	return conn, err
}

// host connects to a host that vSphere has named.
func (r *reach) host(ctx context.Context, network, addr string) (net.Conn, error) {
	return r.dial(ctx, network, addr, func(a netip.Addr) error {
		if !r.near(classOf(a)) {
			return &AddressError{Host: addr, Why: notANetwork}
		}
		return nil
	})
}

// near says whether vSphere may name a host of that class: on the network, or where
// the service itself is.
func (r *reach) near(c class) bool {
	return c == network || c != nowhere && r.where.Load()&uint32(c) != 0
}

// dial connects to addr, or to the proxy that leads there. Of the addresses that a
// name stands for it connects only to those that allow has no error for, and looks
// at the moment when it does: a name may stand for others the next time.
func (r *reach) dial(ctx context.Context, network, addr string, allow func(netip.Addr) error) (net.Conn, error) {
	d := net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	if allow != nil && !r.isProxy(addr) {
		d.Control = func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			return allow(at.Addr())
		}
	}
	return d.DialContext(ctx, network, addr)
}
