package listen_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/listen"
	"github.com/hyper2kvm/hyper2kvm/daemon/pki"
)

func TestOnlyTLS13IsSpoken(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	d := start(t, listen.Options{Addrs: []string{"127.0.0.1:0"}, TLS: a.files()})
	old := a.trusts()
	old.MaxVersion = tls.VersionTLS12
	if _, err := d.visit("https", old).ask(); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.2: %v", err)
	}
	_, over, err := d.visit("https", a.trusts()).askOver()
	if err != nil {
		t.Fatal(err)
	}
	if over.TLS.Version != tls.VersionTLS13 || over.HTTP != 1 {
		t.Errorf("TLS %x, HTTP %d", over.TLS.Version, over.HTTP)
	}
	d.log.await("a TLS handshake failed")
}

func TestAClientOfAnotherAuthorityBelievesNothing(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	d := start(t, listen.Options{Addrs: []string{"127.0.0.1:0"}, TLS: a.files()})
	var unknown x509.UnknownAuthorityError
	if _, err := d.visit("https", newAuthority(t).trusts()).ask(); !errors.As(err, &unknown) {
		t.Errorf("%v, want an unknown authority", err)
	}
	wrong := a.trusts()
	wrong.ServerName = "another.example.com"
	var name x509.HostnameError
	if _, err := d.visit("https", wrong).ask(); !errors.As(err, &name) {
		t.Errorf("%v, want a wrong name", err)
	}
}

func TestAClientsCertificateIsTakenWhenItsAuthorityIsTheDaemons(t *testing.T) {
	t.Parallel()
	a, stranger := newAuthority(t), newAuthority(t)
	files := a.files()
	files.ClientCA = a.File("ca.crt")
	d := start(t, listen.Options{Addrs: []string{"127.0.0.1:0"}, TLS: files})
	if got := d.asks(d.visit("https", a.trusts(a.client("ops@example.com")))); got.Cert != "ops@example.com" {
		t.Errorf("the client is %q", got.Cert)
	}
	if got := d.asks(d.visit("https", a.trusts())); got.Cert != "" {
		t.Errorf("without a certificate the client is %q", got.Cert)
	}
	server, err := tls.LoadX509KeyPair(a.File("server.crt"), a.File("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	for name, cert := range map[string]tls.Certificate{"a stranger's": stranger.client("ops"), "a server's": server} {
		config := a.trusts()
		// Sent even though the daemon does not ask for such a one.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		if got, err := d.visit("https", config).ask(); err == nil {
			t.Errorf("%s certificate is taken: %+v", name, got)
		}
	}
}

func TestEveryConnectionProvesItselfAnew(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	d := start(t, listen.Options{Addrs: []string{"127.0.0.1:0"}, TLS: a.files()})
	config := a.trusts()
	config.ClientSessionCache = tls.NewLRUClientSessionCache(10)
	for range 3 {
		if _, over, err := d.visit("https", config).askOver(); err != nil || over.TLS.DidResume {
			t.Errorf("%v; resumed: %v", err, over.TLS.DidResume)
		}
	}
}

func TestACertificateThatNobodyAskedForIsNotTold(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	d := start(t, listen.Options{Addrs: []string{"127.0.0.1:0"}, TLS: a.files()})
	if got := d.asks(d.visit("https", a.trusts(a.client("ops")))); got.Cert != "" {
		t.Errorf("the client is %q", got.Cert)
	}
}

// serial asks and returns the serial number of the daemon's certificate, and whether
// the connection was there before.
func (d *daemon) serial(v visitor) (serial string, reused bool) {
	d.t.Helper()
	ctx := httptrace.WithClientTrace(d.t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.url+"/", nil)
	if err != nil {
		d.t.Fatal(err)
	}
	resp, err := v.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil {
		d.t.Fatal(err)
	}
	return resp.TLS.PeerCertificates[0].SerialNumber.String(), reused
}

func TestARenewedCertificateIsTakenWithoutDroppingConnections(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	d := start(t, listen.Options{Addrs: []string{"127.0.0.1:0"}, TLS: a.files()})
	early := d.visit("https", a.trusts())
	first, _ := d.serial(early)
	if err := a.Renew(nil); err != nil {
		t.Fatal(err)
	}
	if err := d.Reload(); err != nil {
		t.Fatal(err)
	}
	if serial, reused := d.serial(early); serial != first || !reused {
		t.Errorf("the old connection: serial %s, want %s; reused: %v", serial, first, reused)
	}
	if serial, _ := d.serial(d.visit("https", a.trusts())); serial == first {
		t.Error("a new connection gets the old certificate")
	}
	if c, ok := d.Certificate(); !ok || c.Trouble != nil {
		t.Errorf("%+v, %v", c, ok)
	}
}

func TestFilesThatCannotBeUsedLeaveTheCertificateAsItIs(t *testing.T) {
	t.Parallel()
	another := newAuthority(t)
	read := func(path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	expired := another.Dir
	expired.Path, expired.Now = t.TempDir(), time.Now().Add(-900*24*time.Hour)
	if _, err := expired.Init("old", []string{"localhost"}); err != nil {
		t.Fatal(err)
	}
	another.client("ops")
	for name, tt := range map[string]struct {
		spoil func(f listen.Files) error
		want  string
	}{
		"no key":              {func(f listen.Files) error { return os.Remove(f.Key) }, "no such file"},
		"half a certificate":  {func(f listen.Files) error { return os.Truncate(f.Cert, 100) }, "server.crt"},
		"an empty key":        {func(f listen.Files) error { return os.Truncate(f.Key, 0) }, "server.key"},
		"another's key":       {func(f listen.Files) error { return os.WriteFile(f.Key, read(another.File("server.key")), 0o600) }, "does not match"},
		"a key for everybody": {func(f listen.Files) error { return os.Chmod(f.Key, 0o644) }, "its mode is 0644"},
		"no client authority": {func(f listen.Files) error { return os.WriteFile(f.ClientCA, []byte("hello"), 0o600) }, "holds no certificate"},
		"a client's certificate": {func(f listen.Files) error {
			return errors.Join(os.WriteFile(f.Key, read(another.File("ops.key")), 0o600), os.WriteFile(f.Cert, read(another.File("ops.crt")), 0o600))
		}, "is not for a server"},
		"an expired certificate": {func(f listen.Files) error {
			return errors.Join(os.WriteFile(f.Key, read(expired.File("server.key")), 0o600), os.WriteFile(f.Cert, read(expired.File("server.crt")), 0o600))
		}, "has expired on"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAuthority(t)
			f := a.files()
			f.ClientCA = filepath.Join(a.Path, "clients.crt")
			if err := os.WriteFile(f.ClientCA, read(a.File("ca.crt")), 0o600); err != nil {
				t.Fatal(err)
			}
			d := start(t, listen.Options{Addrs: []string{"127.0.0.1:0"}, TLS: f})
			before, _ := d.serial(d.visit("https", a.trusts()))
			if err := tt.spoil(f); err != nil {
				t.Fatal(err)
			}
			if err := d.Reload(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("reload: %v, want %q", err, tt.want)
			}
			if c, ok := d.Certificate(); !ok || c.Trouble == nil || !strings.Contains(c.Trouble.Error(), tt.want) || c.NotAfter.IsZero() {
				t.Errorf("%+v, %v, want the trouble %q", c, ok, tt.want)
			}
			if serial, _ := d.serial(d.visit("https", a.trusts())); serial != before {
				t.Error("the certificate has changed")
			}
		})
	}
}

func TestADaemonDoesNotStartWithACertificateThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	for name, f := range map[string]listen.Files{
		"no key":                    {Cert: a.File("server.crt")},
		"no certificate":            {Key: a.File("server.key")},
		"a client's authority only": {ClientCA: a.File("ca.crt")},
		"another key":               {Cert: a.File("server.crt"), Key: a.File("ca.key")},
		"a file that is not there":  {Cert: a.File("server.crt"), Key: a.File("none.key")},
	} {
		_, err := listen.Open(t.Context(), listen.Options{Addrs: []string{"127.0.0.1:0"}, TLS: f})
		var settings *listen.SettingsError
		if !errors.As(err, &settings) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestACertificateThatExpiresIsWarnedOf(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		made time.Time
		want string
	}{
		"in time":      {time.Now(), ""},
		"soon":         {time.Now().Add(-800 * 24 * time.Hour), "the certificate expires in 19 days"},
		"it has":       {time.Now().Add(-821 * 24 * time.Hour), "the certificate has expired on"},
		"not yet good": {time.Now().Add(50 * time.Hour), "the certificate is not valid before"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := pki.Dir{Path: t.TempDir(), Now: tt.made}
			if _, err := dir.Init("test", []string{"localhost"}); err != nil {
				t.Fatal(err)
			}
			d := start(t, listen.Options{Addrs: []string{"127.0.0.1:0"}, TLS: listen.Files{Cert: dir.File("server.crt"), Key: dir.File("server.key")}})
			if log := d.log.String(); strings.Contains(log, "must be renewed") != (tt.want != "") || !strings.Contains(log, tt.want) {
				t.Errorf("log: %s, want %q", log, tt.want)
			}
		})
	}
}

func TestPlainHTTPOnAnAddressOfTLSIsToldSo(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	d := start(t, listen.Options{Addrs: []string{"127.0.0.1:0"}, TLS: a.files(), Answer: answer})
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE"} {
		c, err := net.Dial("tcp", hostport(d.url("https")))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := fmt.Fprintf(c, "%s / HTTP/1.1\r\nHost: localhost\r\n\r\n", method); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 400") {
			t.Errorf("%s: %q, %v", method, line, err)
		}
	}
}

func TestAClientThatSaysNothingKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	d := start(t, listen.Options{Addrs: []string{"127.0.0.1:0"}, TLS: a.files()})
	for range 3 {
		c, err := net.Dial("tcp", hostport(d.url("https")))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	d.asks(d.visit("https", a.trusts()))
}
