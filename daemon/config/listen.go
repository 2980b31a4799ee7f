package config

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

// Listen says where the daemon can be reached. Flags of hyper2kvmd come before it.
type Listen struct {
	// Socket is the path of the unix socket, or "none". Empty is hyper2kvmd.sock in
	// the unit's RuntimeDirectory=, and none for a daemon that systemd did not start.
	Socket      string `yaml:"socket"`
	SocketGroup string `yaml:"socket_group"` // may use the socket; empty is the daemon's own group
	// Addrs are HOST:PORT, also with http:// or https:// before it, or "none" alone.
	// Empty is daemon.addr, and without that DefaultAddr.
	Addrs []string `yaml:"addrs"`

	CertFile string `yaml:"cert_file"` // PEM, absolute; with it, addresses speak TLS
	KeyFile  string `yaml:"key_file"`  // PEM, absolute
	ClientCA string `yaml:"client_ca"` // PEM, absolute; authorities of client certificates

	// ClientRoles gives roles (viewer, operator, admin) to client certificates, by
	// their common name or one of their alternative names.
	ClientRoles map[string]string `yaml:"client_roles"`

	// AllowedHosts are names under which a proxy asks for the daemon.
	AllowedHosts []string `yaml:"allowed_hosts"`

	MaxConnections           Count `yaml:"max_connections"`             // at once
	MaxConnectionsPerAddress Count `yaml:"max_connections_per_address"` // at once from one address
}

// Roles are ClientRoles of a configuration that was loaded, or nil where client
// certificates are not asked for.
func (l Listen) Roles() map[string]access.Role {
	if l.ClientCA == "" {
		return nil
	}
	roles := make(map[string]access.Role, len(l.ClientRoles))
	for name, role := range l.ClientRoles {
		roles[name], _ = access.ParseRole(role) // validate has seen to it
	}
	return roles
}

// maxConnections bounds what may be configured: each takes a file descriptor.
const maxConnections = 60_000

// validate reports what is wrong with the section to bad.
func (l Listen) validate(d Daemon, bad func(key, format string, args ...any)) {
	if l.Socket != "none" && l.Socket != "" && !strings.HasPrefix(l.Socket, "/") {
		bad("listen.socket", "must be an absolute path, or none")
	}
	for _, f := range [...]struct{ key, path string }{
		{"listen.cert_file", l.CertFile}, {"listen.key_file", l.KeyFile}, {"listen.client_ca", l.ClientCA},
	} {
		if f.path != "" && !strings.HasPrefix(f.path, "/") {
			bad(f.key, "must be an absolute path")
		}
	}
	if d.Addr != "" && len(l.Addrs) > 0 {
		bad("listen.addrs", "excludes daemon.addr: move that here")
	}
	if (l.CertFile == "") != (l.KeyFile == "") {
		bad("listen.cert_file", "goes with key_file: give both")
	}
	if l.ClientCA != "" && l.CertFile == "" {
		bad("listen.client_ca", "needs cert_file and key_file: client certificates are for TLS")
	}
	if len(l.ClientRoles) > 0 && l.ClientCA == "" {
		bad("listen.client_roles", "needs client_ca, the authority that signs the certificates")
	}
	for _, name := range slices.Sorted(maps.Keys(l.ClientRoles)) {
		if _, err := access.ParseRole(l.ClientRoles[name]); err != nil {
			bad("listen.client_roles."+name, "%v", err)
		}
		if name == "" {
			bad("listen.client_roles", "a name is empty")
		}
	}
	for i, h := range l.AllowedHosts {
		if err := CheckAllowedHost(h); err != nil {
			bad(fmt.Sprintf("listen.allowed_hosts[%d]", i), "%v", err)
		}
	}
	for _, c := range [...]struct {
		key string
		n   Count
	}{{"max_connections", l.MaxConnections}, {"max_connections_per_address", l.MaxConnectionsPerAddress}} {
		if c.n < 0 || c.n > maxConnections {
			bad("listen."+c.key, "must be 1 to %d, or absent for the default", maxConnections)
		}
	}
}

// CheckAllowedHost wants a host name or address, and no pattern: a daemon that answers
// to every name can be read by a web page that points a name of its own at it.
func CheckAllowedHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if host == "" || strings.ContainsAny(host, "*:/@ \t") || strings.HasPrefix(host, "-") {
		return errors.New("must be a host name such as export.example.com, as the proxy sends it, without scheme, port, and *")
	}
	return nil
}
