package listen_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/listen"
	"github.com/hyper2kvm/hyper2kvm/daemon/pki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// daemon serves who asks, to who asks, on the addresses of a set.
type daemon struct {
	*listen.Set
	t      *testing.T
	log    *lockedBuffer
	closed chan struct{} // gets something for each connection that has ended
}

// seen is what a request's other end is to the daemon.
type seen struct {
	Known          bool
	Unix, Loopback bool
	UID, GID       uint32
	PID            int32
	Addr, Cert     string
}

func start(t *testing.T, o listen.Options) *daemon {
	t.Helper()
	d := &daemon{t: t, log: newLockedBuffer(), closed: make(chan struct{}, 1000)}
	o.Logger = slog.New(slog.NewTextHandler(d.log, nil))
	var err error
	if d.Set, err = listen.Open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := access.PeerFrom(r.Context())
		s := seen{Known: ok, Unix: p.Unix, Loopback: p.Loopback, UID: p.UID, GID: p.GID, PID: p.PID, Addr: p.Addr.String()}
		if p.Certificate != nil {
			s.Cert = p.Certificate.Subject.CommonName
		}
		_ = json.NewEncoder(w).Encode(s)
	})}
	server.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			d.closed <- struct{}{}
		}
	}
	d.Attach(server)
	var serving sync.WaitGroup
	for _, l := range d.Listeners() {
		serving.Go(func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("serve: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return d
}

// url is the address that begins with scheme.
func (d *daemon) url(scheme string) string {
	d.t.Helper()
	for _, u := range d.URLs() {
		if strings.HasPrefix(u, scheme+":") {
			return u
		}
	}
	d.t.Fatalf("no %s among %v", scheme, d.URLs())
	return ""
}

// hostport is the address of url.
func hostport(url string) string { return url[strings.Index(url, "://")+3:] }

// visitor is a client with a connection of its own.
type visitor struct {
	*http.Client
	url string
}

// visit makes a client of the address that begins with scheme.
func (d *daemon) visit(scheme string, config *tls.Config) visitor {
	d.t.Helper()
	v := visitor{url: d.url(scheme)}
	transport := &http.Transport{TLSClientConfig: config}
	if scheme == "unix" {
		path := hostport(v.url)
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
		v.url = "http://localhost"
	}
	v.Client = &http.Client{Transport: transport}
	d.t.Cleanup(v.CloseIdleConnections)
	return v
}

// ask says what the daemon sees of the visitor.
func (v visitor) ask() (seen, error) {
	s, _, err := v.askOver()
	return s, err
}

// askOver also says over which TLS, which is nil for none, and which version of HTTP.
func (v visitor) askOver() (s seen, over struct {
	TLS  *tls.ConnectionState
	HTTP int
}, err error) {
	resp, err := v.Get(v.url + "/")
	if err != nil {
		return s, over, err
	}
	defer resp.Body.Close()
	over.TLS, over.HTTP = resp.TLS, resp.ProtoMajor
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return s, over, err
	}
	return s, over, json.Unmarshal(body, &s)
}

// asks is ask that must succeed.
func (d *daemon) asks(v visitor) seen {
	d.t.Helper()
	s, err := v.ask()
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

// authority is a directory with certificates, and how clients believe in it.
type authority struct {
	pki.Dir
	t *testing.T
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{pki.Dir{Path: t.TempDir(), Now: time.Now()}, t}
	if _, err := a.Init("test", []string{"localhost", "127.0.0.1", "export.example.com"}); err != nil {
		t.Fatal(err)
	}
	return a
}

// files are those for a daemon.
func (a authority) files() listen.Files {
	return listen.Files{Cert: a.File("server.crt"), Key: a.File("server.key")}
}

// trusts is the TLS of a client that believes in a, and has certificates.
func (a authority) trusts(certs ...tls.Certificate) *tls.Config {
	a.t.Helper()
	pem, err := os.ReadFile(a.File("ca.crt"))
	if err != nil {
		a.t.Fatal(err)
	}
	c := &tls.Config{RootCAs: x509.NewCertPool(), Certificates: certs}
	c.RootCAs.AppendCertsFromPEM(pem)
	return c
}

// client is a new client's certificate.
func (a authority) client(name string) tls.Certificate {
	a.t.Helper()
	if err := a.Client(name); err != nil {
		a.t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(a.File(name+".crt"), a.File(name+".key"))
	if err != nil {
		a.t.Fatal(err)
	}
	return pair
}

// socketPath is a path that is short enough for a socket.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "h2k")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "d.sock")
}

// answer is an Options.Answer.
func answer(status int, detail string) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", status, len(detail), detail)
}

// lockedBuffer is a log that tests can wait for.
type lockedBuffer struct {
	mu   sync.Mutex
	more *sync.Cond
	b    strings.Builder
}

func newLockedBuffer() *lockedBuffer {
	l := &lockedBuffer{}
	l.more = sync.NewCond(&l.mu)
	return l
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.more.Broadcast()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// await waits until the log holds text.
func (l *lockedBuffer) await(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !strings.Contains(l.b.String(), text) {
		l.more.Wait()
	}
}
