package api

import (
	"crypto/x509"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

func TestWhatAProxyPassesOnIsNotFromThisMachine(t *testing.T) {
	t.Parallel()
	cert := &x509.Certificate{}
	here := access.Peer{Loopback: true, Addr: netip.MustParseAddr("127.0.0.1"), Certificate: cert}
	socket := access.Peer{Unix: true, UID: 33, GID: 33, PID: 7}
	far := access.Peer{Addr: netip.MustParseAddr("192.0.2.7"), Certificate: cert}
	passedOn := access.Peer{Addr: here.Addr, Certificate: cert}
	for name, tt := range map[string]struct {
		peer         access.Peer
		host, header string
		want         access.Peer
	}{
		"asked for as localhost":         {here, "localhost:8080", "", here},
		"asked for as 127.0.0.1":         {here, "127.0.0.1", "", here},
		"asked for as [::1]":             {here, "[::1]:8080", "", here},
		"over the socket":                {socket, "localhost", "", socket},
		"by a proxy's name":              {here, "export.example.com", "", passedOn},
		"by a proxy's name, socket":      {socket, "export.example.com", "", access.Peer{}},
		"with X-Forwarded-For":           {here, "localhost", "X-Forwarded-For", passedOn},
		"with x-real-ip":                 {here, "localhost", "x-real-ip", passedOn},
		"with Forwarded, socket":         {socket, "localhost", "Forwarded", access.Peer{}},
		"with Via":                       {here, "localhost", "Via", passedOn},
		"from another machine":           {far, "export.example.com", "", far},
		"from another machine, by proxy": {far, "export.example.com", "X-Forwarded-For", far},
	} {
		r := httptest.NewRequest("GET", "/status", nil)
		r.Host = tt.host
		if tt.header != "" {
			r.Header.Set(tt.header, "127.0.0.1")
		}
		if got := senderOf(r, tt.peer); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}
