package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/secret"
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

// OIDC is the identity provider whose bearer tokens are taken, and at which browsers may
// sign in; without Issuer there is none.
type OIDC struct {
	Issuer    string            `yaml:"issuer"`     // URL, as it is in the tokens
	Audience  string            `yaml:"audience"`   // must be among the tokens' aud: the client id, mostly
	RoleClaim string            `yaml:"role_claim"` // empty is groups
	Roles     map[string]string `yaml:"roles"`      // value of the claim to viewer, operator or admin
	CAFile    string            `yaml:"ca_file"`    // PEM, absolute; empty is the system's CAs
	SignIn    *SignIn           `yaml:"sign_in"`    // nil is by token alone
}

// SignIn is the daemon as a client of the identity provider, for people with a browser.
type SignIn struct {
	ClientID string `yaml:"client_id"` // empty is the audience
	// Where the client's secret is, one of these; none for a public client.
	ClientSecretFile       string   `yaml:"client_secret_file"` // absolute
	ClientSecretCredential string   `yaml:"client_secret_credential"`
	ClientSecretEnv        string   `yaml:"client_secret_env"`
	ClientSecretCommand    []string `yaml:"client_secret_command"`
	ClientSecretTTL        Duration `yaml:"client_secret_ttl"` // of what the command says; 0 is package secret's default
	// PublicURL is where browsers find the daemon, as https://export.example.com; empty
	// is the name that they ask for.
	PublicURL string `yaml:"public_url"`
	// Scopes are asked for beside openid; nil is DefaultScopes.
	Scopes []string `yaml:"scopes"`
}

// DefaultScopes are what is asked of an identity provider beside openid.
func DefaultScopes() []string { return []string{"profile", "email"} }

// SecretSource says where the client's secret is; with none set, it has none.
func (s SignIn) SecretSource() secret.Source {
	return secret.Source{
		File: s.ClientSecretFile, Credential: s.ClientSecretCredential, Env: s.ClientSecretEnv, Command: s.ClientSecretCommand,
		TTL: time.Duration(s.ClientSecretTTL),
	}
}

// PublicURL is where browsers find the daemon, or "" when that is not said.
func (o OIDC) PublicURL() string {
	if o.SignIn == nil {
		return ""
	}
	return o.SignIn.PublicURL
}

func (s SignIn) validate(bad func(key, format string, args ...any)) {
	const p = "access.oidc.sign_in."
	if s.SecretSource().Set() > 1 {
		bad(p+"client_secret", "comes from one place only: give one of client_secret_file, client_secret_credential, client_secret_env or client_secret_command")
	}
	checkSource(p+"client_secret", s.SecretSource(), bad)
	if s.PublicURL != "" {
		if err := checkPublicURL(s.PublicURL); err != nil {
			bad(p+"public_url", "%v", err)
		}
	}
	for i, scope := range s.Scopes {
		if scope == "" || strings.ContainsAny(scope, " \t\r\n\"\\") {
			bad(fmt.Sprintf("%sscopes[%d]", p, i), "must be one scope, without spaces and quotes")
		}
	}
}

// checkPublicURL wants what a browser would ask for: the identity provider gives the code
// of a sign-in to whoever is there.
func checkPublicURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.TrimSuffix(u.Path, "/") != "" || strings.ContainsAny(raw, "?#") || !validPort(u.Port()) {
		return errors.New("must be the dashboard's address without a path, as https://export.example.com")
	}
	ip := net.ParseIP(u.Hostname())
	if loopback := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback(); u.Scheme != "https" && !(u.Scheme == "http" && loopback) {
		return errors.New("must begin with https://, unless it is an address of loopback")
	}
	return nil
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
		if o.SignIn != nil || o.Audience != "" || o.RoleClaim != "" || o.CAFile != "" || len(o.Roles) > 0 {
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
	if o.SignIn != nil {
		o.SignIn.validate(bad)
	}
}
