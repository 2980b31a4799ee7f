package vsphere

import (
	"bufio"
	"bytes"
	"crypto/sha1" // vSphere names certificates by SHA-1
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// ErrThumbprint is why a [CertificateError] was raised when a thumbprint or
// certificate was expected and another was shown.
var ErrThumbprint = errors.New("the certificate is not the expected one")

// CertificateError says that a host's certificate is not trusted. It carries
// the thumbprints, so that a person can be asked.
type CertificateError struct {
	Host    string // host:port
	SHA1    string // thumbprints in upper-case hex with colons
	SHA256  string
	Subject string
	Err     error // an x509 error, or ErrThumbprint
	// Pinned says that Config.Thumbprint asked for another certificate.
	Pinned bool
}

// Error names the thumbprint to pin.
func (e *CertificateError) Error() string {
	if e.Pinned {
		return fmt.Sprintf("%s: %v: it has the SHA-256 thumbprint %s; if it was renewed, that is the one to pin now (-thumbprint, or thumbprint in a job); if it was not, somebody may be listening in", e.Host, e.Err, e.SHA256)
	}
	if errors.Is(e.Err, ErrThumbprint) {
		return fmt.Sprintf("%s: %v: it has the SHA-256 thumbprint %s; unless it was renewed, somebody may be listening in", e.Host, e.Err, e.SHA256)
	}
	return fmt.Sprintf("%s: the certificate is not trusted: %v; if its SHA-256 thumbprint %s is right, pin it (-thumbprint, or thumbprint in a job), or name its authority in GOVC_TLS_CA_CERTS", e.Host, e.Err, e.SHA256)
}

// Unwrap gives the reason.
func (e *CertificateError) Unwrap() error { return e.Err }

// Permanent is true: the next attempt would be shown the same certificate.
func (e *CertificateError) Permanent() bool { return true }

// thumbprint is the SHA-1 or SHA-256 of a certificate's DER form.
type thumbprint []byte

// parseThumbprint reads hex with or without colons, in either case.
func parseThumbprint(s string) (thumbprint, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(s), ":", ""))
	if err != nil || len(b) != sha1.Size && len(b) != sha256.Size {
		return nil, fmt.Errorf("%q is not a SHA-1 or SHA-256 in hex", s)
	}
	return b, nil
}

func (t thumbprint) matches(cert *x509.Certificate) bool {
	s1, s256 := sha1.Sum(cert.Raw), sha256.Sum256(cert.Raw) // as above
	return bytes.Equal(t, s1[:]) || bytes.Equal(t, s256[:])
}

// colonHex writes b as vSphere writes thumbprints.
func colonHex(b []byte) string {
	out := make([]string, len(b))
	for i, c := range b {
		out[i] = fmt.Sprintf("%02X", c)
	}
	return strings.Join(out, ":")
}

// trust judges the certificates of vCenter and of ESXi hosts, one way for all.
type trust struct {
	roots    *x509.CertPool // nil: the system's
	insecure bool
	known    map[string][]thumbprint // host:port -> accepted certificates
	last     sync.Map                // host:port -> *x509.Certificate that was trusted
}

// newTrust reads the files that cfg names.
func newTrust(cfg Config) (*trust, error) {
	t := &trust{insecure: cfg.Insecure, known: map[string][]thumbprint{}}
	for _, name := range filepath.SplitList(cfg.CAFile) {
		b, err := os.ReadFile(filepath.Clean(name))
		if err != nil {
			return nil, fmt.Errorf("certificate authorities: %w", err)
		}
		if t.roots == nil {
			t.roots = x509.NewCertPool()
		}
		if !t.roots.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("certificate authorities: %s holds no PEM certificate", name)
		}
	}
	for _, name := range filepath.SplitList(cfg.KnownHosts) {
		if err := t.readKnownHosts(name); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// readKnownHosts reads lines of "host[:port] thumbprint", as govc keeps them.
// A file that does not exist is empty.
func (t *trust) readKnownHosts(name string) error {
	b, err := os.ReadFile(filepath.Clean(name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("known hosts: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; lines.Scan(); n++ {
		host, tp, ok := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		if !ok || strings.HasPrefix(host, "#") {
			continue
		}
		p, err := parseThumbprint(tp)
		if err != nil {
			return fmt.Errorf("known hosts: %s:%d: %w", name, n, err)
		}
		host = withPort(host, "443")
		t.known[host] = append(t.known[host], p)
	}
	return lines.Err()
}

// expected is what is known beforehand of one host's certificate.
type expected struct {
	pins   []thumbprint // any of them is accepted
	pem    []byte       // so is the certificate in here
	strict bool         // nothing else is, not even what an authority vouches for
}

func (x expected) empty() bool { return len(x.pins) == 0 && len(x.pem) == 0 }

func (x expected) matches(cert *x509.Certificate) bool {
	for _, p := range x.pins {
		if p.matches(cert) {
			return true
		}
	}
	for rest := x.pem; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return false
		}
		if bytes.Equal(block.Bytes, cert.Raw) {
			return true
		}
	}
}

// tlsConfig returns the settings for connections to addr (host:port).
// Verification is ours alone: a match with x is enough; without one, an
// authority must vouch for the name, or a known-hosts line for the
// certificate; where something was expected, insecure does not excuse a
// mismatch.
func (t *trust) tlsConfig(addr string, x expected) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection: func(cs tls.ConnectionState) error {
			err := t.verify(addr, x, cs.PeerCertificates)
			if err == nil {
				t.show(addr, cs.PeerCertificates[0])
				return nil
			}
			return &tls.CertificateVerificationError{UnverifiedCertificates: cs.PeerCertificates, Err: err}
		},
	}
}

func (t *trust) verify(addr string, x expected, chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return errors.New("the host showed no certificate")
	}
	leaf := chain[0]
	if x.matches(leaf) {
		return nil
	}
	if !x.empty() && (x.strict || t.insecure) {
		err := certificateError(addr, leaf, ErrThumbprint)
		err.Pinned = x.strict
		return err
	}
	if t.insecure {
		return nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	opts := x509.VerifyOptions{Roots: t.roots, DNSName: host, Intermediates: x509.NewCertPool()}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err = leaf.Verify(opts); err == nil {
		return nil
	}
	for _, p := range t.known[addr] {
		if p.matches(leaf) {
			return nil
		}
	}
	if !x.empty() || len(t.known[addr]) > 0 {
		err = ErrThumbprint
	}
	return certificateError(addr, leaf, err)
}

func certificateError(addr string, leaf *x509.Certificate, err error) *CertificateError {
	s1, s256 := sha1.Sum(leaf.Raw), sha256.Sum256(leaf.Raw) // as above
	return &CertificateError{
		Host: addr, SHA1: colonHex(s1[:]), SHA256: colonHex(s256[:]),
		Subject: leaf.Subject.String(), Err: err,
	}
}

// withPort adds the port to a host that has none.
func withPort(host, port string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}
