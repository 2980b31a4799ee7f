package nfc

import (
	"bytes"
	"crypto/sha1" // vSphere names certificates by SHA-1
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
)

// DefaultPort is where ESXi hosts listen when a ticket names no port.
const DefaultPort = 902

// Ticket lets one connection in (HostServiceTicket, F-902-4). SessionID is a
// secret: String, GoString and LogValue leave it out.
type Ticket struct {
	Host        string // name or address of the ESXi host
	Port        int    // 0 means DefaultPort
	Service     string // "vpxa-nfc" through vCenter, "nfc" from a host
	SessionID   string
	Thumbprint  string // of the host's certificate: SHA-1 or SHA-256 in hex, with or without colons
	Certificate string // the certificate itself, as PEM, since vSphere 9
}

// Addr is the host:port to connect to.
func (t Ticket) Addr() string {
	port := t.Port
	if port == 0 {
		port = DefaultPort
	}
	return net.JoinHostPort(strings.Trim(t.Host, "[]"), strconv.Itoa(port))
}

// String describes t without its secret.
func (t Ticket) String() string { return fmt.Sprintf("nfc.Ticket{%s, %s}", t.Addr(), t.Service) }

// GoString is String: %#v shows no secret either.
func (t Ticket) GoString() string { return t.String() }

// LogValue is String: a log shows no secret either.
func (t Ticket) LogValue() slog.Value { return slog.StringValue(t.String()) }

// check refuses a ticket that cannot be presented: its words stand in lines.
func (t Ticket) check() error {
	switch {
	case t.Host == "":
		return errors.New("the ticket names no host")
	case t.Port < 0 || t.Port > 65535:
		return fmt.Errorf("the ticket names port %d", t.Port)
	case !isWord(t.SessionID):
		return errors.New("the ticket has no session id that can be presented")
	case !isWord(t.Service):
		return errors.New("the ticket names no service that can be asked for")
	}
	return nil
}

// isWord says whether s is one word of printable ASCII, and not too long a one.
func isWord(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 512
}

// names says whether t tells the host's certificate.
func (t Ticket) names() bool { return t.Thumbprint != "" || t.Certificate != "" }

// matches says whether cert is the one that t names. A certificate counts for more
// than a thumbprint.
func (t Ticket) matches(cert *x509.Certificate) bool {
	if t.Certificate != "" {
		block, _ := pem.Decode([]byte(t.Certificate))
		return block != nil && bytes.Equal(block.Bytes, cert.Raw)
	}
	want, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(t.Thumbprint), ":", ""))
	if err != nil {
		return false
	}
	s1, s256 := sha1.Sum(cert.Raw), sha256.Sum256(cert.Raw) // as above
	return bytes.Equal(want, s1[:]) || bytes.Equal(want, s256[:])
}
