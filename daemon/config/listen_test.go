package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/config"
)

func TestTheSectionOfAddressesIsRead(t *testing.T) {
	t.Parallel()
	c, err := config.Decode(strings.NewReader(`
listen:
  socket: /run/x.sock
  socket_group: ops
  addrs: [localhost:8080, "https://[::]:8443"]
  cert_file: /c
  key_file: /k
  client_ca: /ca
  client_roles: {ops: operator, boss: admin}
  allowed_hosts: [export.example.com, 10.0.0.1, "::1"]
  max_connections: 100
  max_connections_per_address: 10
`), "c.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := config.Listen{
		Socket: "/run/x.sock", SocketGroup: "ops", Addrs: []string{"localhost:8080", "https://[::]:8443"},
		CertFile: "/c", KeyFile: "/k", ClientCA: "/ca", ClientRoles: map[string]string{"ops": "operator", "boss": "admin"},
		AllowedHosts: []string{"export.example.com", "10.0.0.1", "::1"}, MaxConnections: 100, MaxConnectionsPerAddress: 10,
	}
	if d := cmp.Diff(want, c.Listen); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if d := cmp.Diff(map[string]access.Role{"ops": access.Operator, "boss": access.Admin}, c.Listen.Roles()); d != "" {
		t.Errorf("roles, -want +got:\n%s", d)
	}
	if roles := (config.Listen{}).Roles(); roles != nil {
		t.Errorf("without a client's authority there are roles: %v", roles)
	}
	if roles := (config.Listen{ClientCA: "/ca"}).Roles(); roles == nil || len(roles) != 0 {
		t.Errorf("with one, and no roles: %v", roles)
	}
}

func TestMistakesInTheSectionOfAddressesAreNamed(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{socket: hunter2.sock}`:             "listen.socket: must be an absolute path, or none",
		`{cert_file: hunter2, key_file: /k}`: "listen.cert_file: must be an absolute path",
		`{cert_file: /c}`:                    "listen.cert_file: goes with key_file",
		`{key_file: /k}`:                     "listen.cert_file: goes with key_file",
		`{client_ca: /c}`:                    "listen.client_ca: needs cert_file",
		`{client_roles: {ops: admin}}`:       "listen.client_roles: needs client_ca",
		`{cert_file: /c, key_file: /k, client_ca: /a, client_roles: {ops: hunter2}}`: "listen.client_roles.ops: must be viewer, operator, admin",
		`{cert_file: /c, key_file: /k, client_ca: /a, client_roles: {ops: Admin}}`:   "listen.client_roles.ops: must be",
		`{cert_file: /c, key_file: /k, client_ca: /a, client_roles: {"": admin}}`:    "listen.client_roles: a name is empty",
		`{allowed_hosts: ["*"]}`:                              "listen.allowed_hosts[0]: must be a host name",
		`{allowed_hosts: [a.example.com, "https://b"]}`:       "listen.allowed_hosts[1]: must be a host name",
		`{allowed_hosts: [""]}`:                               "listen.allowed_hosts[0]",
		`{allowed_hosts: ["a:8080"]}`:                         "listen.allowed_hosts[0]",
		`{allowed_hosts: ["*.example.com"]}`:                  "listen.allowed_hosts[0]",
		`{max_connections: 0}`:                                "listen.max_connections: must be 1 to",
		`{max_connections: -1}`:                               "listen.max_connections: must be 1 to",
		`{max_connections_per_address: 1000000}`:              "listen.max_connections_per_address: must be 1 to",
		`{adress: [hunter2]}`:                                 "unknown key adress",
		"{addrs: [localhost:1]}\ndaemon: {addr: localhost:2}": "listen.addrs: excludes daemon.addr",
	} {
		_, err := config.Decode(strings.NewReader("listen: "+in), "c.yaml")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
}
