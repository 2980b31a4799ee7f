// Package pki makes certificates for those who have no authority to ask: an
// authority of one's own, and certificates of servers and clients that it signs.
//
// Keys are ECDSA P-256, in PKCS #8, and leave this package only into files of
// mode 0600. Serial numbers are random. What is signed is valid from an hour ago,
// because the clocks of two machines differ.
//
// Not promised: revocation. A certificate that must not be believed any more is
// taken out of the daemon's client_roles, or its authority is replaced.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
)

// How long certificates are valid. Those of servers and clients stay below what
// macOS and iOS believe of an authority of one's own (825 days).
const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = 820 * 24 * time.Hour
	clockSkew     = time.Hour
)

// Pair is a certificate and its key in PEM.
type Pair struct {
	Cert []byte // CERTIFICATE
	Key  []byte // PRIVATE KEY, PKCS #8
}

// Authority signs certificates.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pair Pair
}

// NewAuthority makes an authority that people know by its name.
func NewAuthority(name string, now time.Time) (*Authority, error) {
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name, Organization: []string{"hyper2kvm"}},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(authorityLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true, // it signs no other authority
	}
	pair, err := sign(t, nil)
	if err != nil {
		return nil, err
	}
	return ReadAuthority(pair)
}

// ReadAuthority makes an authority of its certificate and key.
func ReadAuthority(p Pair) (*Authority, error) {
	cert, err := ReadCertificate(p.Cert)
	if err != nil {
		return nil, err
	}
	if !cert.IsCA {
		return nil, errors.New("the certificate is not an authority's")
	}
	block, _ := pem.Decode(p.Key)
	if block == nil {
		return nil, errors.New("the key is not in PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the key is not in PKCS #8 (BEGIN PRIVATE KEY)")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the key cannot sign")
	}
	if public, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(signer.Public()) {
		return nil, errors.New("the key is not that of the certificate")
	}
	return &Authority{cert: cert, key: signer, pair: p}, nil
}

// ReadCertificate reads the first certificate of a PEM file.
func ReadCertificate(b []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("holds no certificate in PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// Pair is the authority's own certificate and key.
func (a *Authority) Pair() Pair { return a.pair }

// Server signs a certificate for a server with these names and addresses, as
// [CheckHost] accepts them.
func (a *Authority) Server(hosts []string, now time.Time) (Pair, error) {
	t := leaf(now, x509.ExtKeyUsageServerAuth)
	for _, h := range hosts {
		if err := CheckHost(h); err != nil {
			return Pair{}, err
		}
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	if len(hosts) == 0 {
		return Pair{}, errors.New("a server's certificate needs a name")
	}
	t.Subject.CommonName = hosts[0]
	return sign(t, a)
}

// Client signs a certificate for a client of this name, as [CheckName] accepts it.
func (a *Authority) Client(name string, now time.Time) (Pair, error) {
	if err := CheckName(name); err != nil {
		return Pair{}, err
	}
	t := leaf(now, x509.ExtKeyUsageClientAuth)
	t.Subject.CommonName = name
	return sign(t, a)
}

func leaf(now time.Time, use x509.ExtKeyUsage) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"hyper2kvm"}},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(leafLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{use},
		BasicConstraintsValid: true,
	}
}

// sign makes a key and the certificate t for it, signed by a, or by itself when a
// is nil. It is not valid longer than a.
func sign(t *x509.Certificate, a *Authority) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	if t.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return Pair{}, err
	}
	parent, signer := t, crypto.Signer(key)
	if a != nil {
		parent, signer = a.cert, a.key
		if t.NotAfter.After(parent.NotAfter) {
			t.NotAfter = parent.NotAfter
		}
		if !t.NotBefore.Add(clockSkew).Before(t.NotAfter) {
			return Pair{}, fmt.Errorf("the authority's certificate has expired on %s", parent.NotAfter.Format(time.DateOnly))
		}
	}
	cert, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return Pair{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	}, nil
}

// CheckHost wants a DNS name or an IP address, without scheme, port, or brackets.
// The first label of a name may be "*".
func CheckHost(host string) error {
	if net.ParseIP(host) != nil {
		return nil
	}
	if len(host) > 253 {
		return errors.New("a host name has at most 253 characters")
	}
	for label := range strings.SplitSeq(strings.TrimPrefix(host, "*."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || !isASCII(label, "-_") {
			return fmt.Errorf("%q is no host: want a name such as export.example.com, or an IP address, without scheme and port", host)
		}
	}
	return nil
}

// CheckName wants a name that can be one of a file, too.
func CheckName(name string) error {
	if name == "" || len(name) > 64 || !isASCII(name, "-_.@") || strings.Trim(name, ".-") != name {
		return fmt.Errorf("%q is no name of a client: want letters, digits and - _ . @, and at most 64 of them", name)
	}
	return nil
}

// isASCII reports whether s is of ASCII letters, digits and what is in also.
func isASCII(s, also string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(also, r) {
			return false
		}
	}
	return true
}
