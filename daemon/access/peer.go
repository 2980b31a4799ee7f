package access

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
)

// Peer is what a listener knows of the other end of a connection. The zero
// value is a peer of which nothing is known, and which is not local.
type Peer struct {
	// Unix says that the connection came over the unix socket. UID, GID and PID
	// are then the process's that connected, as the kernel has them
	// (SO_PEERCRED), and Groups are its other groups (SO_PEERGROUPS).
	Unix     bool
	UID, GID uint32
	Groups   []uint32
	PID      int32

	// Loopback says that both ends of the connection are addresses of this
	// machine's loopback. A proxy on this machine is such a peer, too.
	Loopback bool

	// Certificate is the client's, verified against listen.client_ca, or nil.
	Certificate *x509.Certificate

	// Addr is the address the connection comes from, invalid for a unix socket.
	Addr netip.Addr
}

// String says where the connection comes from, for logs.
func (p Peer) String() string {
	switch {
	case p.Unix:
		return fmt.Sprintf("unix socket, uid %d, pid %d", p.UID, p.PID)
	case p.Addr.IsValid():
		return p.Addr.Unmap().String()
	}
	return "unknown"
}

type peerKey struct{}

// WithPeer returns a context of a connection from p. A listener puts it into
// [http.Server.ConnContext].
func WithPeer(ctx context.Context, p Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// PeerFrom returns the peer of the connection that ctx is of, and whether a
// listener has said.
func PeerFrom(ctx context.Context) (Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(Peer)
	return p, ok
}
