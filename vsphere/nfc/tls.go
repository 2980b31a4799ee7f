package nfc

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
)

// records is a connection that is read one TLS record at a time, so that a layer
// which is left takes nothing of the next one with it.
type records struct {
	net.Conn
	head [5]byte
	have int // of head
	left int // of the record behind it
}

func (r *records) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.have < len(r.head) { // the header, as much of it as comes
		n, err := r.Conn.Read(p[:min(len(p), len(r.head)-r.have)])
		copy(r.head[r.have:], p[:n])
		if r.have += n; r.have == len(r.head) {
			r.left = int(r.head[3])<<8 | int(r.head[4])
			r.next()
		}
		return n, err
	}
	n, err := r.Conn.Read(p[:min(len(p), r.left)])
	r.left -= n
	r.next()
	return n, err
}

// next makes room for the next header when the record is over.
func (r *records) next() {
	if r.left == 0 {
		r.have = 0
	}
}

// between says whether every record that was begun was read to its end.
func (r *records) between() bool { return r.have == 0 }

// secure begins a TLS session over conn. name is the host's, for those that choose a
// certificate by it; trusted judges the one that is shown.
func secure(ctx context.Context, conn net.Conn, name string, trusted func(*x509.Certificate) error) (*tls.Conn, error) {
	cfg := &tls.Config{
		MinVersion:                  tls.VersionTLS12,
		InsecureSkipVerify:          true, // VerifyConnection does it
		DynamicRecordSizingDisabled: true, // one message is one record (F-902-11)
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return errors.New("the host showed no certificate")
			}
			return trusted(cs.PeerCertificates[0])
		},
	}
	if net.ParseIP(name) == nil {
		cfg.ServerName = name
	}
	c := tls.Client(conn, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// trust returns what judges the host's certificate: the ticket, or where that names
// none, o.Trust.
func (o Options) trust(t Ticket) func(*x509.Certificate) error {
	host := t.Addr()
	return func(cert *x509.Certificate) error {
		switch {
		case t.names() && t.matches(cert):
			return nil
		case t.names():
			return &Error{Host: host, Stage: "TLS", Kind: ErrCertificate, Err: fmt.Errorf("it has the SHA-256 thumbprint %s", colonHex(sum256(cert)))}
		case o.Trust == nil:
			return &Error{Host: host, Stage: "TLS", Kind: ErrCertificate, Err: errors.New("the ticket names none, and none is pinned")}
		}
		if err := o.Trust(cert); err != nil {
			return &Error{Host: host, Stage: "TLS", Kind: ErrCertificate, Err: err}
		}
		return nil
	}
}

// sameAs returns what accepts first only.
func sameAs(host string, first *x509.Certificate) func(*x509.Certificate) error {
	return func(cert *x509.Certificate) error {
		if bytes.Equal(cert.Raw, first.Raw) {
			return nil
		}
		return &Error{Host: host, Stage: "second TLS", Kind: ErrCertificate, Err: errors.New("it is another one than in the first session")}
	}
}
