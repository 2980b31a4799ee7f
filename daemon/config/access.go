package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

// Access is who may use the daemon, beside those who have an API token.
type Access struct {
	// Required says that nobody is let in without proof, also before there is a
	// token.
	Required bool `yaml:"required"`
	// SocketGroups gives roles to members of this machine's groups on the unix
	// socket: group to viewer, operator or admin.
	SocketGroups map[string]string `yaml:"socket_groups"`
	OIDC         OIDC              `yaml:"oidc"`
}

// OIDC is the identity provider whose bearer tokens are taken; without Issuer
// there is none.
type OIDC struct {
	Issuer    string            `yaml:"issuer"`     // URL, as it is in the tokens
	Audience  string            `yaml:"audience"`   // must be among the tokens' aud: the client id, mostly
	RoleClaim string            `yaml:"role_claim"` // empty is groups
	Roles     map[string]string `yaml:"roles"`      // value of the claim to viewer, operator or admin
	CAFile    string            `yaml:"ca_file"`    // PEM, absolute; empty is the system's CAs
}

// Roles reads the roles that a map of the file gives. The keys name groups of people; an
// error tells key and role.
func Roles(of map[string]string) (map[string]access.Role, error) {
	roles := make(map[string]access.Role, len(of))
	var errs []error
	for _, who := range slices.Sorted(maps.Keys(of)) {
		role, err := access.ParseRole(of[who])
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", who, err))
		}
		roles[who] = role
	}
	return roles, errors.Join(errs...)
}

// CAs reads the certificates in CAFile, nil when it names none.
func (o OIDC) CAs() (*x509.CertPool, error) {
	if o.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", o.CAFile)
	}
	return pool, nil
}

// validate tells what is wrong with the section.
func (a Access) validate(bad func(key, format string, args ...any)) {
	if _, err := Roles(a.SocketGroups); err != nil {
		bad("access.socket_groups", "%v", err)
	}
	o := a.OIDC
	if o.Issuer == "" {
		if o.Audience != "" || o.RoleClaim != "" || o.CAFile != "" || len(o.Roles) > 0 {
			bad("access.oidc.issuer", "is missing")
		}
		return
	}
	if err := access.CheckIssuer(o.Issuer); err != nil {
		bad("access.oidc.issuer", "%v", err)
	}
	if o.Audience == "" {
		bad("access.oidc.audience", "is missing: without it, a token that was made for any other service would be good here")
	}
	if len(o.Roles) == 0 {
		bad("access.oidc.roles", "is missing: nobody would have a role")
	}
	if _, err := Roles(o.Roles); err != nil {
		bad("access.oidc.roles", "%v", err)
	}
}
