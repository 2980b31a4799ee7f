package e2e

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// addresses are a daemon's, of each kind.
type addresses struct {
	t                 *testing.T
	plain, tls, sock  string // URLs
	caFile, sockPath  string
	clientCert, clKey string
}

// startAddresses runs a daemon that listens on loopback, over TLS, and on a socket,
// with the certificates that it makes.
func startAddresses(t *testing.T) addresses {
	t.Helper()
	h := newHomeOf(t, nil)
	certs := filepath.Join(h.dir, "tls")
	a := addresses{
		t: t, caFile: filepath.Join(certs, "ca.crt"), clientCert: filepath.Join(certs, "ops.crt"), clKey: filepath.Join(certs, "ops.key"),
		sockPath: filepath.Join(shortDir(t), "d.sock"),
	}
	for _, args := range [][]string{{"init", "-host", "export.example.com"}, {"client", "ops"}} {
		cmd := exec.Command(program(t, "hyper2kvmd"), append([]string{"tls", "-dir", certs}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	h.config = h.write("config.yaml", fmt.Sprintf(
		"listen:\n  socket: %s\n  addrs: [\"http://127.0.0.1:0\", \"localhost:0\"]\n  cert_file: %s/server.crt\n  key_file: %s/server.key\n"+
			"  client_ca: %s\n  client_roles: {ops: admin}\n  allowed_hosts: [proxy.example.com]\n",
		a.sockPath, certs, certs, a.caFile))
	h.configured = true
	p := h.start()
	for _, u := range p.urls {
		switch {
		case strings.HasPrefix(u, "https:"):
			a.tls = strings.Replace(u, "127.0.0.1", "localhost", 1)
		case strings.HasPrefix(u, "http:"):
			a.plain = u
		default:
			a.sock = u
		}
	}
	if a.plain == "" || a.tls == "" || a.sock != "unix://"+a.sockPath {
		t.Fatalf("the daemon listens on %v", p.urls)
	}
	return a
}

// shortDir is a directory in which a socket's path is short enough.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "h2k")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// connect opens a connection of the address's kind.
func (a addresses) connect(url string) net.Conn {
	a.t.Helper()
	var c net.Conn
	var err error
	switch url {
	case a.sock:
		c, err = net.Dial("unix", a.sockPath)
	case a.plain:
		c, err = net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	default:
		pem, rerr := os.ReadFile(a.caFile)
		if rerr != nil {
			a.t.Fatal(rerr)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		var pair tls.Certificate
		if pair, err = tls.LoadX509KeyPair(a.clientCert, a.clKey); err == nil {
			c, err = tls.Dial("tcp", strings.TrimPrefix(url, "https://"), &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}})
		}
	}
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = c.Close() })
	return c
}

// send writes a request as it is and returns status and body.
func (a addresses) send(url, request string) (int, string) {
	a.t.Helper()
	c := a.connect(url)
	go func() { _, _ = io.WriteString(c, request) }() // the daemon may stop reading
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		a.t.Fatalf("%s: %v", url, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatalf("%s: %v", url, err)
	}
	return resp.StatusCode, string(b)
}

func TestEveryAddressAnswersTheSameWay(t *testing.T) {
	t.Parallel()
	a := startAddresses(t)
	for _, url := range []string{a.plain, a.tls, a.sock} {
		for _, tt := range []struct {
			name, request string
			status        int
		}{
			{"a request", "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n", 200},
			{"a name in the certificate", "GET /health HTTP/1.1\r\nHost: export.example.com:8443\r\n\r\n", 200},
			{"a proxy's name", "GET /health HTTP/1.1\r\nHost: PROXY.example.com\r\n\r\n", 200},
			{"a name that was rebound", "GET /health HTTP/1.1\r\nHost: evil.example.com\r\n\r\n", 421},
			{"an address that is not the daemon's", "GET /health HTTP/1.1\r\nHost: 0.0.0.0:8080\r\n\r\n", 421},
			{"a page of another origin", "POST /jobs/query HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example.com\r\nContent-Length: 2\r\n\r\n{}", 403},
			{"a header that is too large", "GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: " + strings.Repeat("a", 80<<10) + "\r\n\r\n", 431},
			{"no Host", "GET /health HTTP/1.1\r\n\r\n", 400},
			{"no HTTP", "hello\r\n\r\n", 400},
			{"no such path", "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", 404},
		} {
			status, body := a.send(url, tt.request)
			if tt.name == "a request" && url == a.plain {
				tt.status = 401 // on loopback nobody is known without a token; the socket knows its user, TLS the certificate
			}
			if status != tt.status {
				t.Errorf("%s, %s: HTTP %d, want %d: %s", url, tt.name, status, tt.status, body)
			}
			var answer struct{ Error, Timestamp string }
			if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Timestamp == "" || status >= 400 && answer.Error == "" {
				t.Errorf("%s, %s: %v in %s", url, tt.name, err, body)
			}
		}
	}
}

// requestsOverTLS is the contract's Python on https, with the CA.
const requestsOverTLS = `
import sys, requests
url, ca, cert, key = sys.argv[1:]
assert requests.get(url + "/health", verify=ca, cert=(cert, key)).json()["status"] == "healthy"
resp = requests.post(url + "/jobs/query", json={"all": True}, verify=ca, cert=(cert, key))
assert resp.json()["jobs"] == [], resp.text
try:
    requests.get(url + "/health")
except requests.exceptions.SSLError:
    print("refused")
`

func TestOthersReachTheDaemonToo(t *testing.T) {
	t.Parallel()
	a := startAddresses(t)
	run := func(want, name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent"}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s %v: %v, want %q in %s", filepath.Base(name), args, err, want, out)
		}
	}
	run("refused", "/usr/bin/python3", "-c", requestsOverTLS, a.tls, a.caFile, a.clientCert, a.clKey)
	run(`"total_jobs":0`, "curl", "-sS", "--unix-socket", a.sockPath, "http://localhost/status")
	run(`"total_jobs":0`, "curl", "-sS", "--cacert", a.caFile, "--cert", a.clientCert, "--key", a.clKey, a.tls+"/status")
	ctl := program(t, "h2kvmctl")
	run("Total Jobs", ctl, "-daemon", a.sock, "status")
	run("Total Jobs", ctl, "-daemon", a.tls, "-ca-file", a.caFile, "-cert-file", a.clientCert, "-key-file", a.clKey, "status")

	cmd := exec.Command(ctl, "-daemon", a.tls, "status")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 3 || !strings.Contains(string(out), "certificate not believed") {
		t.Errorf("without the CA: %v: %s", err, out)
	}
}

// activated starts the daemon with sockets that are passed to it as systemd does.
func activated(t *testing.T, args []string, sockets ...*os.File) (output func() string, cmd *exec.Cmd) {
	t.Helper()
	script := `export LISTEN_PID=$$; exec "$0" "$@"`
	cmd = exec.Command("/bin/sh", append([]string{"-c", script, program(t, "hyper2kvmd"), "-state-dir", t.TempDir()}, args...)...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("LISTEN_FDS=%d", len(sockets)))
	cmd.ExtraFiles = sockets
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var waited bool
	output = func() string { // once the daemon has ended
		if !waited {
			waited = true
			_ = cmd.Wait()
		}
		return log.String()
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		output()
	})
	return output, cmd
}

// listening is a socket that somebody listens at already.
func listening(t *testing.T, network, addr string) (*os.File, net.Addr) {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	_ = l.Close() // f stays
	return f, l.Addr()
}

func TestSocketsThatSystemdPassesAreServedEachByItsKind(t *testing.T) {
	t.Parallel()
	path := filepath.Join(shortDir(t), "a.sock")
	tcp, addr := listening(t, "tcp", "127.0.0.1:0")
	unix, _ := listening(t, "unix", path)
	output, cmd := activated(t, []string{"-addr", "nobody.example:1", "-socket", path + ".none"}, tcp, unix)
	for _, dial := range []struct{ network, addr string }{{"tcp", addr.String()}, {"unix", path}} {
		c, err := net.Dial(dial.network, dial.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c); err != nil || !strings.Contains(string(b), `"status":"healthy"`) {
			t.Errorf("%s: %v: %s", dial.network, err, b)
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if log := output(); !strings.Contains(log, "urls=\"[http://"+addr.String()+" unix://"+path+"]\"") || cmd.ProcessState.ExitCode() != 0 {
		t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), log)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the socket of systemd is gone: %v", err)
	}
}

func TestASocketThatSystemdPassesAndOthersReachNeedsTLS(t *testing.T) {
	t.Parallel()
	all, _ := listening(t, "tcp", "0.0.0.0:0")
	local, _ := listening(t, "tcp", "127.0.0.1:0")
	output, cmd := activated(t, nil, local, all)
	if log := output(); !strings.Contains(log, "is not loopback, so that it can be reached from other machines and needs TLS") || cmd.ProcessState.ExitCode() != 2 {
		t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), log)
	}
}
