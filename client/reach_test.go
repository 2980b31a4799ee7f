package client_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/api/apitest"
	"github.com/hyper2kvm/hyper2kvm/daemon/pki"
)

// gate is a server that notes the Authorization of the last request, over TLS with
// certificates of its own.
type gate struct {
	*httptest.Server
	pki.Dir
	asked atomic.Int32
	auth  atomic.Value // string
	peer  atomic.Value // string
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{Dir: pki.Dir{Path: t.TempDir(), Now: time.Now()}}
	if _, err := g.Init("test", []string{"localhost", "127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	if err := g.Dir.Client("ops"); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(g.File("server.crt"), g.File("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := g.Dir.Certificate("ca.crt")
	if err != nil {
		t.Fatal(err)
	}
	g.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.asked.Add(1)
		g.auth.Store(r.Header.Get("Authorization"))
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			g.peer.Store(r.TLS.PeerCertificates[0].Subject.CommonName)
		}
		_, _ = w.Write([]byte(`{"status":"healthy"}`))
	}))
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	g.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: roots, ClientAuth: tls.VerifyClientCertIfGiven}
	g.Config.ErrorLog = nil
	t.Cleanup(func() { g.Close() })
	return g
}

func TestADaemonIsReachedOverItsUnixSocket(t *testing.T) {
	t.Parallel()
	d := apitest.Start(t, api.Options{})
	dir, err := os.MkdirTemp("", "h2k")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "d.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: d.API, ReadHeaderTimeout: time.Minute}
	go srv.Serve(l) //nolint:errcheck // it ends with the test
	defer srv.Close()
	for _, url := range []string{"unix://" + path, "unix:" + path, path} {
		c := dial(t, url)
		if h, err := c.Health(t.Context()); err != nil || h.Status != "healthy" {
			t.Errorf("%s: %+v, %v", url, h, err)
		}
		if c.BaseURL() != "unix://"+path {
			t.Errorf("%s is said to be %s", url, c.BaseURL())
		}
	}
	if url, err := client.Local(path); url != "unix://"+path || err != nil {
		t.Errorf("this machine's daemon: %s, %v", url, err)
	}
	_ = srv.Close()
	c := dial(t, "unix://"+path)
	if _, err := c.Health(t.Context()); !errors.Is(err, client.ErrUnavailable) || !strings.Contains(err.Error(), "unix://"+path) {
		t.Errorf("a daemon that has gone: %v", err)
	}
}

func TestWithoutASocketThisMachinesDaemonIsOnLoopback(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if url, err := client.Local(filepath.Join(dir, "none.sock")); url != client.DefaultURL || err != nil {
		t.Errorf("no socket: %s, %v", url, err)
	}
	dead := filepath.Join(dir, "dead")
	if err := os.WriteFile(dead, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if url, err := client.Local(dead); url != client.DefaultURL || err == nil || !strings.Contains(err.Error(), dead) {
		t.Errorf("a socket that nobody answers: %s, %v", url, err)
	}
	for _, url := range []string{"unix:relative.sock", "unix://relative.sock", "unix://", "unix:"} {
		if _, err := client.New(url, client.Options{}); err == nil || !strings.Contains(err.Error(), "want unix:///path/of/socket") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestADaemonIsBelievedByItsAuthorityAlone(t *testing.T) {
	t.Parallel()
	g, stranger := newGate(t), newGate(t)
	g.StartTLS()
	c, err := client.New(g.URL, client.Options{CAFile: g.File("ca.crt"), CertFile: g.File("ops.crt"), KeyFile: g.File("ops.key")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Health(t.Context()); err != nil || g.peer.Load() != "ops" {
		t.Errorf("%v; the client is %v", err, g.peer.Load())
	}
	asked := g.asked.Load()
	for name, o := range map[string]client.Options{
		"another authority":   {CAFile: stranger.File("ca.crt")},
		"the system's":        {},
		"a stranger's client": {CAFile: g.File("ca.crt"), CertFile: stranger.File("ops.crt"), KeyFile: stranger.File("ops.key")},
	} {
		o.RetryDelay = time.Hour // trying again would not end
		c, err := client.New(g.URL, o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Health(t.Context()); !errors.Is(err, client.ErrUntrusted) || errors.Is(err, client.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		for _, err := range c.Watch(t.Context(), "x") {
			if !errors.Is(err, client.ErrUntrusted) {
				t.Errorf("%s: watch: %v", name, err)
			}
		}
	}
	if g.asked.Load() != asked {
		t.Error("a request went to a daemon that is not believed")
	}
}

func TestFilesThatCannotBeUsedAreSaidAtOnce(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		o    client.Options
		want string
	}{
		"no CA file":        {client.Options{CAFile: "/no/such/ca"}, "CA file: open /no/such/ca"},
		"a CA file of none": {client.Options{CAFile: empty}, "holds no certificate"},
		"no key":            {client.Options{CertFile: g.File("ops.crt")}, "needs its key"},
		"another's key":     {client.Options{CertFile: g.File("ops.crt"), KeyFile: g.File("ca.key")}, "does not match"},
		"no token file":     {client.Options{TokenFile: "/no/such/token"}, "token file: open /no/such/token"},
		"an empty token":    {client.Options{TokenFile: empty}, "is empty"},
		"two lines":         {client.Options{Token: "hunter2\nHost: evil"}, "want a single line"},
		"its own transport": {client.Options{HTTPClient: &http.Client{}, CAFile: g.File("ca.crt")}, "excludes"},
	} {
		_, err := client.New("https://localhost:1", tt.o)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestATokenIsSentAndItsFileReadAgain(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	g.Start()
	file := filepath.Join(t.TempDir(), "token")
	put := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("h2k_first\n")
	c, err := client.New(g.URL, client.Options{TokenFile: file})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, token := range []string{"h2k_first", "h2k_second"} {
		put(token + "\n")
		if _, err := c.Health(t.Context()); err != nil || g.auth.Load() != "Bearer "+token {
			t.Errorf("%v; sent %q, want %s", err, g.auth.Load(), token)
		}
	}
	asked := g.asked.Load()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Health(t.Context()); err == nil || g.asked.Load() != asked {
		t.Errorf("without its token: %v, %d requests", err, g.asked.Load()-asked)
	}
	given, err := client.New(g.URL, client.Options{Token: "h2k_given"})
	if err != nil {
		t.Fatal(err)
	}
	defer given.Close()
	if _, err := given.Health(t.Context()); err != nil || g.auth.Load() != "Bearer h2k_given" {
		t.Errorf("%v; sent %q", err, g.auth.Load())
	}
}

func TestATokenIsNeverSentInTheClearToAnotherMachine(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"http://export.example.com", "export.example.com:8080", "http://10.0.0.1:8080", "http://[2001:db8::1]:8080",
		"http://localhost.example.com", "http://127.0.0.1.example.com", "http://0.0.0.0:8080", "http://app.localhost:8080"} {
		_, err := client.New(url, client.Options{Token: "hunter2"})
		if err == nil || !strings.Contains(err.Error(), "over plain http") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", url, err)
		}
		if _, err := client.New(url, client.Options{}); err != nil {
			t.Errorf("%s without a token: %v", url, err)
		}
	}
	for _, url := range []string{"", "localhost:8080", "http://LOCALHOST:8080", "http://127.0.0.1", "http://127.1.2.3:80", "http://[::1]:8080", "https://export.example.com", "unix:///x.sock"} {
		if _, err := client.New(url, client.Options{Token: "hunter2"}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}
