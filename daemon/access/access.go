// Package access knows who asks and what they may do.
//
// A [Peer] is what the listener knows of a connection: a unix socket's user, a
// client certificate, an address. A [Principal] is who a request is from, with
// the [Role] that says what they may do. The API finds it for each request and
// puts it into the request's context; everybody below takes it from there.
package access

import (
	"context"
	"fmt"
	"strings"
)

// Role says what somebody may do. A higher role may do all that a lower one
// may; the zero value may do nothing.
type Role uint8

// The roles, the lowest first.
const (
	Nobody   Role = iota // not known, or not allowed anything
	Viewer               // reads jobs, events, limits and inventory
	Operator             // also submits, cancels, retries and limits jobs
	Admin                // also deletes, changes the daemon's limits, reads the audit log
)

var roleNames = [...]string{"nobody", "viewer", "operator", "admin"}

// String is the name of the role as users write it.
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return fmt.Sprintf("Role(%d)", uint8(r))
}

// ParseRole reads the name of a role that can be given to somebody: viewer,
// operator or admin.
func ParseRole(name string) (Role, error) {
	for r := Viewer; r <= Admin; r++ {
		if name == r.String() {
			return r, nil
		}
	}
	return Nobody, fmt.Errorf("must be %s", strings.Join(roleNames[Viewer:], ", "))
}

// MarshalText is for encoders.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what [ParseRole] does.
func (r *Role) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRole(string(text))
	return err
}

// Via is how somebody proved who they are.
type Via string

// The ways.
const (
	ViaToken       Via = "token"       // an API token of this daemon
	ViaOIDC        Via = "oidc"        // an identity provider: a bearer token, or a sign-in there
	ViaCertificate Via = "certificate" // a client certificate
	ViaSocket      Via = "socket"      // the user at the other end of the unix socket
	ViaLocal       Via = "local"       // no proof: on this machine, before access was set up
	ViaCommand     Via = "command"     // whoever may write the daemon's files, by a command of hyper2kvmd
	ViaDaemon      Via = "daemon"      // the daemon itself
)

// Principal is who a request is from. The zero value is somebody unknown, who
// may do nothing.
type Principal struct {
	Name string // of the token, the certificate's subject, the user; for people, not for decisions
	Role Role
	Via  Via
}

// May reports whether the principal has at least the role least.
func (p Principal) May(least Role) bool { return p.Role >= least && least > Nobody }

type principalKey struct{}

// WithPrincipal returns a context of a request from p.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// FromContext returns who the request of ctx is from: the zero Principal when
// nobody has said.
func FromContext(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}
