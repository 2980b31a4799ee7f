package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

// handshakeTimeout bounds a TLS handshake, from the connection on.
const handshakeTimeout = 10 * time.Second

// refusalTimeout bounds the writing of an answer to somebody who is not let in.
const refusalTimeout = time.Second

// Listener is one address of a [Set].
type Listener struct {
	net.Listener
	unix   bool
	secure bool // speaks TLS
	set    *Set
	gate   *gate
	told   rate.Sometimes // connections that were refused
}

// URL is the address as clients write it.
func (l *Listener) URL() string {
	switch {
	case l.unix:
		return "unix://" + l.Addr().String()
	case l.secure:
		return "https://" + l.Addr().String()
	}
	return "http://" + l.Addr().String()
}

// Unix reports whether it is a unix socket.
func (l *Listener) Unix() bool { return l.unix }

// Accept implements [net.Listener]: it returns connections that the bounds let in.
// The handshake of TLS is the first thing that reading does.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: raw, l: l, from: peerOf(raw, l.unix)}
		c.origin = originOf(c.from)
		refusal := l.gate.enter(c.origin)
		if refusal == "" {
			if l.secure {
				c.tls = tls.Server(raw, l.set.certs.server())
				c.Conn = c.tls
			}
			return c, nil
		}
		l.told.Do(func() { l.set.log.Warn("a connection was refused", "from", c.origin, "reason", refusal) })
		if !l.secure { // over TLS nothing can be said yet
			l.answer(raw, http.StatusServiceUnavailable, refusal+": try again later")
		}
		_ = raw.Close()
	}
}

// answer tells somebody who has no request yet what is wrong.
func (l *Listener) answer(c net.Conn, status int, detail string) {
	if l.set.o.Answer == nil {
		return
	}
	_ = c.SetWriteDeadline(time.Now().Add(refusalTimeout)) // they may not listen
	_, _ = c.Write(l.set.o.Answer(status, detail))
}

// conn is a connection that was let in.
type conn struct {
	net.Conn // what the server reads and writes: inside TLS, where there is TLS
	l        *Listener
	from     access.Peer
	origin   string
	tls      *tls.Conn // nil without TLS

	shake sync.Once
	left  sync.Once
}

// Read implements [net.Conn]. A handshake that fails looks like a client that has
// gone: nothing can be answered.
func (c *conn) Read(b []byte) (int, error) {
	if c.tls != nil {
		var err error
		c.shake.Do(func() { err = c.handshake() })
		if err != nil {
			return 0, io.EOF
		}
	}
	return c.Conn.Read(b)
}

func (c *conn) handshake() error {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	err := c.tls.HandshakeContext(ctx)
	if err == nil {
		return nil
	}
	var record tls.RecordHeaderError
	if errors.As(err, &record) && record.Conn != nil && looksLikeHTTP(record.RecordHeader) {
		c.l.answer(record.Conn, http.StatusBadRequest, "this address speaks TLS: use https://")
		err = errors.New("the client does not speak TLS but plain HTTP")
	}
	c.l.set.certs.told.Do(func() {
		c.l.set.log.Info("a TLS handshake failed", "from", c.origin, "error", err)
	})
	return err
}

// looksLikeHTTP reports whether the first bytes of a connection begin a request.
func looksLikeHTTP(b [5]byte) bool {
	switch string(b[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "DELET", "OPTIO", "PATCH":
		return true
	}
	return false
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.left.Do(func() { c.l.gate.leave(c.origin) })
	return c.Conn.Close()
}

// CloseWrite lets package http wait until the client has read an error.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// peer is what is known of the other end, once there is a request.
func (c *conn) peer() access.Peer {
	p := c.from
	if c.tls != nil {
		// Those chains only are here that the handshake has verified.
		if chains := c.tls.ConnectionState().VerifiedChains; len(chains) > 0 {
			p.Certificate = chains[0][0]
		}
	}
	return p
}

// peerOf is what is known of the other end before it has said anything.
func peerOf(c net.Conn, unix bool) access.Peer {
	if unix {
		p := access.Peer{Unix: true, UID: nobody, GID: nobody}
		if u, ok := c.(*net.UnixConn); ok {
			credentials(u, &p)
		}
		return p
	}
	remote := addrOf(c.RemoteAddr())
	return access.Peer{Addr: remote, Loopback: remote.IsLoopback() && addrOf(c.LocalAddr()).IsLoopback()}
}

// nobody is the user and group of somebody of whom the kernel says nothing.
const nobody = 65534

func addrOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
