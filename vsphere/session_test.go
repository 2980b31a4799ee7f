package vsphere_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestASessionThatEndedIsRenewedOnceForAllWhoNeedIt(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "web"}}})
	c := dial(t, labConfig(t, lab))
	vm := find(t, c, "web")
	lab.EndSessions()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := c.FindSnapshots(t.Context(), vm, ""); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := lab.Sessions(); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
}

func TestCloseLogsOut(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{})
	c, err := vsphere.Dial(t.Context(), labConfig(t, lab))
	if err != nil {
		t.Fatal(err)
	}
	if a := c.About(); !a.VCenter || a.Version == "" || a.Host == "" {
		t.Errorf("about %+v", a)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
	}
	if n := lab.Sessions(); n != 0 {
		t.Errorf("%d sessions after Close", n)
	}
}

func TestDialSaysWhatIsWrongAndKeepsThePasswordToItself(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{})
	good := labConfig(t, lab)
	const secret = "hunter2-very-secret"
	web := newWebServer(t)
	for name, tc := range map[string]struct {
		change func(*vsphere.Config)
		is     error
		says   string
	}{
		"wrong password":    {func(c *vsphere.Config) {}, vsphere.ErrLogin, "GOVC_PASSWORD"},
		"nothing listens":   {func(c *vsphere.Config) { c.URL.Host = "127.0.0.1:1" }, vsphere.ErrUnreachable, "check host and port"},
		"name unknown":      {func(c *vsphere.Config) { c.URL.Host = "vcenter.invalid" }, vsphere.ErrUnreachable, "vcenter.invalid"},
		"not a vCenter":     {func(c *vsphere.Config) { c.URL, _ = url.Parse(web) }, nil, "is this the address of a vCenter"},
		"no such CA file":   {func(c *vsphere.Config) { c.CAFile = "/no/such/file" }, os.ErrNotExist, "/no/such/file"},
		"not a thumbprint":  {func(c *vsphere.Config) { c.Thumbprint = "zz" }, nil, "SHA-256"},
		"no URL":            {func(c *vsphere.Config) { c.URL = nil }, nil, "GOVC_URL"},
		"other certificate": {func(c *vsphere.Config) { c.Thumbprint = strings.Repeat("00:", 31) + "00" }, vsphere.ErrThumbprint, lab.HostAddr(0)[:9]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, u := good, *good.URL
			cfg.URL, cfg.Password = &u, secret
			tc.change(&cfg)
			if cfg.URL != nil {
				cfg.URL.User = url.UserPassword("someone", secret)
			}
			_, err := vsphere.Dial(t.Context(), cfg)
			if err == nil || tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v, want one that is %v and says %q", err, tc.is, tc.says)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%q holds the password", err)
			}
		})
	}
}

// newWebServer is a server that knows no SOAP, and its URL.
func newWebServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return "http://" + l.Addr().String() + "/sdk"
}

func TestACertificateIsTrustedForAReason(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "web", Disks: []vspheretest.Disk{{Path: rawDisk(t, "disk", 1<<20)}}}}})
	good := labConfig(t, lab)
	bare := good
	bare.Thumbprint = ""
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	ca := file("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: lab.Certificate().Raw}))
	known := file("known_hosts", []byte("# mine\n"+good.URL.Host+" "+lab.Thumbprint()+"\n"))
	other := file("other_hosts", []byte(good.URL.Host+" "+lab.HostThumbprint(0)+"\n"))

	var unknown *vsphere.CertificateError
	if _, err := vsphere.Dial(t.Context(), bare); !errors.As(err, &unknown) || errors.Is(err, vsphere.ErrThumbprint) {
		t.Fatalf("an unknown certificate: %v", err)
	}
	if unknown.SHA1 != lab.Thumbprint() || unknown.Host != good.URL.Host || !strings.Contains(unknown.Error(), unknown.SHA256) {
		t.Errorf("error %+v", unknown)
	}
	var mismatch *vsphere.CertificateError
	for name, change := range map[string]func(*vsphere.Config){
		"insecure":                        func(c *vsphere.Config) { c.Insecure = true },
		"pinned by SHA-256":               func(c *vsphere.Config) { c.Thumbprint = unknown.SHA256 },
		"pinned in lower case, no colons": func(c *vsphere.Config) { c.Thumbprint = strings.ToLower(strings.ReplaceAll(unknown.SHA1, ":", "")) },
		"by its authority":                func(c *vsphere.Config) { c.CAFile = ca },
		"a known host":                    func(c *vsphere.Config) { c.KnownHosts = filepath.Join(dir, "missing") + ":" + known },
	} {
		cfg := bare
		change(&cfg)
		c, err := vsphere.Dial(t.Context(), cfg)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		l := open(t, c, vsphere.Target{VM: find(t, c, "web")}) // the host's certificate is in the lease
		read(t, l.Source(l.Items()[0]))
		if err := errors.Join(l.Complete(t.Context()), c.Close(t.Context())); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*vsphere.Config){
		"pin of another":                func(c *vsphere.Config) { c.Thumbprint = lab.HostThumbprint(0) },
		"pin of another, and insecure":  func(c *vsphere.Config) { c.Thumbprint, c.Insecure = lab.HostThumbprint(0), true },
		"pin of another, and authority": func(c *vsphere.Config) { c.Thumbprint, c.CAFile = lab.HostThumbprint(0), ca },
		"known host that has changed":   func(c *vsphere.Config) { c.KnownHosts = other },
	} {
		cfg := bare
		change(&cfg)
		if _, err := vsphere.Dial(t.Context(), cfg); !errors.As(err, &mismatch) || !errors.Is(err, vsphere.ErrThumbprint) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoSecretIsPrintedOrLogged(t *testing.T) {
	t.Parallel()
	cfg := vsphere.Config{URL: &url.URL{Scheme: "https", Host: "vc", User: url.UserPassword("u", "s3cret")}, Password: "s3cret"}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("dial", "config", cfg)
	for _, s := range []string{fmt.Sprint(cfg), fmt.Sprintf("%+v", cfg), fmt.Sprintf("%#v", cfg), log.String()} {
		if strings.Contains(s, "s3cret") || !strings.Contains(s, "vc") {
			t.Errorf("printed as %s", s)
		}
	}
}

func TestConfigFromEnvReadsAsGovcDoes(t *testing.T) {
	t.Parallel()
	passFile := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(passFile, []byte("from file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		env                  map[string]string
		url, user, pass, bad string
		insecure             bool
	}{
		"a bare host":            {env: map[string]string{"GOVC_URL": "vc.example.com"}, url: "https://vc.example.com/sdk"},
		"user info in the URL":   {env: map[string]string{"GOVC_URL": "root:p%40ss@vc:8443/"}, url: "https://vc:8443/sdk", user: "root", pass: "p@ss"},
		"variables win":          {env: map[string]string{"GOVC_URL": "https://a:b@vc/sdk", "GOVC_USERNAME": "c", "GOVC_PASSWORD": "d"}, url: "https://vc/sdk", user: "c", pass: "d"},
		"user only":              {env: map[string]string{"GOVC_URL": "https://a:b@vc/sdk", "GOVC_USERNAME": "c"}, url: "https://vc/sdk", user: "c", pass: "b"},
		"password in a file":     {env: map[string]string{"GOVC_URL": "vc", "GOVC_PASSWORD": passFile}, url: "https://vc/sdk", pass: "from file"},
		"insecure":               {env: map[string]string{"GOVC_URL": "vc", "GOVC_INSECURE": "TRUE"}, url: "https://vc/sdk", insecure: true},
		"insecure off":           {env: map[string]string{"GOVC_URL": "vc", "GOVC_INSECURE": "0"}, url: "https://vc/sdk"},
		"no address":             {bad: "GOVC_URL is not set"},
		"a password with a slip": {env: map[string]string{"GOVC_URL": "https://u:s3cr%zzet@vc"}, bad: "percent-encoded"},
		"no host":                {env: map[string]string{"GOVC_URL": "https:///sdk"}, bad: "no host"},
		"another scheme":         {env: map[string]string{"GOVC_URL": "ftp://vc"}, bad: "ftp"},
	} {
		cfg, err := vsphere.ConfigFromEnv(func(k string) string { return tc.env[k] })
		if tc.bad != "" {
			if err == nil || !strings.Contains(err.Error(), tc.bad) || strings.Contains(err.Error(), "s3cr") {
				t.Errorf("%s: error %v, want %q", name, err, tc.bad)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if cfg.URL.String() != tc.url || cfg.Username != tc.user || cfg.Password != tc.pass || cfg.Insecure != tc.insecure {
			t.Errorf("%s: url %s, user %q, password %q, insecure %t", name, cfg.URL, cfg.Username, cfg.Password, cfg.Insecure)
		}
	}
}

func TestAHostWithAnotherCertificateThanTheLeaseSaysIsRefused(t *testing.T) {
	t.Parallel()
	// The lab's vCenter passes itself off as the host: DirectURLs name it, and
	// the proxy in front of it shows the certificate of neither.
	lab := startLab(t, vspheretest.Config{
		DirectURLs: true,
		VMs:        []vspheretest.VM{{Name: "web", Disks: []vspheretest.Disk{{Path: rawDisk(t, "disk", 1<<20)}}}},
	})
	cfg := labConfig(t, lab)
	cfg.Thumbprint, cfg.Insecure = "", true
	cfg.URL.Host = impostor(t, cfg.URL.Host)
	c := dial(t, cfg)
	l := open(t, c, vsphere.Target{VM: find(t, c, "web")})
	_, err := l.Source(l.Items()[0]).Probe(t.Context())
	var certificate *vsphere.CertificateError
	if !errors.As(err, &certificate) || !errors.Is(err, vsphere.ErrThumbprint) {
		t.Errorf("error %v", err)
	}
}

// impostor forwards TLS connections to addr under a certificate of its own.
func impostor(t *testing.T, addr string) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { forward(in, addr) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	return l.Addr().String()
}

// forward copies both ways until one side ends.
func forward(in net.Conn, addr string) {
	defer in.Close()
	out, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true}) // a test's own server
	if err != nil {
		return
	}
	defer out.Close()
	var both sync.WaitGroup
	both.Go(func() { defer out.Close(); _, _ = io.Copy(out, in) })
	_, _ = io.Copy(in, out)
	_ = in.Close()
	both.Wait()
}

// selfSigned makes a certificate that nobody knows.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestEveryLoginPassesTheGate(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{})
	cfg := labConfig(t, lab)
	passed := 0
	cfg.Gate = func(ctx context.Context, login func(context.Context) error) error {
		passed++
		return login(ctx)
	}
	c, err := vsphere.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context()) // not what is tested
	lab.EndSessions()
	if _, err := c.List(t.Context()); err != nil || passed != 2 {
		t.Errorf("after a session was lost %d logins have passed, want 2: %v", passed, err)
	}
	closed := errors.New("the gate is closed")
	cfg.Gate = func(context.Context, func(context.Context) error) error { return closed }
	before := lab.Logins()
	if _, err := vsphere.Dial(t.Context(), cfg); !errors.Is(err, closed) {
		t.Errorf("Dial = %v, want the gate's error", err)
	}
	if lab.Logins() != before {
		t.Error("a login went past the gate")
	}
}

func TestALoginWhileTheOldSessionIsAliveIsNotTakenForAWrongPassword(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{Faults: []string{"fault:call=RetrievePropertiesEx,fault=NotAuthenticated"}})
	c, err := vsphere.Dial(t.Context(), labConfig(t, lab))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	if _, err := c.List(t.Context()); err != nil {
		t.Errorf("List = %v", err)
	}
	if n := lab.Logins(); n.Failed != 0 || n.Succeeded != 2 {
		t.Errorf("logins: %+v, want two that succeeded", n)
	}
}

func TestSessionsThatWereTakenForEndedEndAtCloseAndTheirLeasesNoEarlier(t *testing.T) {
	t.Parallel()
	lab := oneDisk(t)
	c, err := vsphere.Dial(t.Context(), labConfig(t, lab))
	if err != nil {
		t.Fatal(err)
	}
	l := open(t, c, vsphere.Target{VM: find(t, c, "web")})
	for _, trouble := range []string{"", "fault:call=Login,fault=SystemError"} { // whether or not the first new login succeeds
		if trouble != "" {
			breakBy(t, lab, trouble)
		}
		breakBy(t, lab, "fault:call=CreateContainerView,fault=NotAuthenticated")
		if _, err := c.List(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n, _ := read(t, l.Source(l.Items()[0])); n == 0 {
		t.Error("nothing came under the lease of a former session")
	}
	if err := errors.Join(l.Complete(t.Context()), c.Close(t.Context())); err != nil {
		t.Error(err)
	}
	if n := lab.Sessions(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

func TestSessionsThatHaveEndedDoNotKeepCloseFromItsEnd(t *testing.T) {
	t.Parallel()
	lab := oneDisk(t)
	c, err := vsphere.Dial(t.Context(), labConfig(t, lab))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		lab.EndSessions()
		find(t, c, "web")
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := lab.Sessions(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// A call is given up while it logs in again: vSphere opens the session all the same.
func TestALoginThatIsGivenUpLeavesNoSession(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{})
	c, err := vsphere.Dial(t.Context(), labConfig(t, lab))
	if err != nil {
		t.Fatal(err)
	}
	lab.EndSessions()
	if err := lab.AddFault("late:call=Login,after=100ms"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	lab.OnCall("Login", cancel)
	if _, err := c.List(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("List = %v, want the end of its context", err)
	}
	if n := lab.Logins(); n.Succeeded != 2 {
		t.Errorf("logins: %+v, want the second one to have taken effect", n)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := lab.Sessions(); n != 0 {
		t.Errorf("%d session(s) are left", n)
	}
}
