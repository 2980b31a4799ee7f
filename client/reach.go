package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
)

// DefaultSocket is the unix socket of a daemon that systemd runs.
const DefaultSocket = "/run/hyper2kvm/hyper2kvmd.sock"

// localTimeout bounds how long [Local] waits for the socket.
const localTimeout = time.Second

// maxToken bounds a token, in bytes.
const maxToken = 16 << 10

// Local returns where the daemon of this machine is: the unix socket at path, such
// as [DefaultSocket], when somebody listens there and this user may connect, and
// else [DefaultURL]. err then says why a socket that is there cannot be used; it is
// nil when there is none.
func Local(path string) (baseURL string, err error) {
	if _, err := os.Lstat(path); err != nil && !errors.Is(err, fs.ErrPermission) {
		return DefaultURL, nil
	}
	c, err := net.DialTimeout("unix", path, localTimeout)
	switch {
	case err == nil:
		_ = c.Close()
		return "unix://" + path, nil
	case errors.Is(err, fs.ErrPermission):
		return DefaultURL, fmt.Errorf("the socket %s is there, but only for its owner and group", path)
	}
	return DefaultURL, fmt.Errorf("the socket %s is there, but nobody answers", path)
}

// parseBase reads a daemon's address. For a unix socket, u is what requests name.
func parseBase(baseURL string) (u *url.URL, socket string, err error) {
	path, isSocket := strings.CutPrefix(baseURL, "unix:")
	if isSocket || strings.HasPrefix(baseURL, "/") {
		path = strings.TrimPrefix(path, "//")
		if !strings.HasPrefix(path, "/") {
			return nil, "", fmt.Errorf("daemon URL %s: want unix:///path/of/socket", baseURL)
		}
		return &url.URL{Scheme: "http", Host: "localhost"}, path, nil
	}
	if baseURL == "" {
		baseURL = DefaultURL
	}
	if !strings.Contains(baseURL, "://") {
		baseURL = "http://" + baseURL
	}
	u, err = url.Parse(baseURL)
	if err != nil {
		// The parse error quotes the URL, which may hold a password.
		return nil, "", errors.New("daemon URL cannot be parsed: want http://host:port, https://host:port, or unix:///path/of/socket")
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, "", fmt.Errorf("daemon URL %s: want http://host:port, https://host:port, or unix:///path/of/socket", u.Redacted())
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawQuery, u.Fragment = "", ""
	return u, "", nil
}

// loopback reports whether the daemon's address is one of this machine's loopback.
func (c *Client) loopback() bool {
	ip := net.ParseIP(c.base.Hostname())
	return strings.EqualFold(c.base.Hostname(), "localhost") || ip != nil && ip.IsLoopback()
}

// private reports whether nobody else can read what goes to the daemon.
func (c *Client) private() bool {
	return c.socket != "" || c.base.Scheme == "https" || c.loopback()
}

// httpClient makes the client of package http.
func (c *Client) httpClient() (*http.Client, error) {
	files := c.o.CAFile != "" || c.o.CertFile != "" || c.o.KeyFile != ""
	if given := c.o.HTTPClient; given != nil {
		if files || c.socket != "" {
			return nil, errors.New("an HTTP client of one's own excludes certificates and unix sockets: set up its transport")
		}
		own := *given
		return &own, nil
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = c.dial
	if c.socket != "" || c.loopback() {
		t.Proxy = nil // whatever the environment says: what is for this machine stays on it
	}
	if files {
		config, err := c.tlsConfig()
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig = config
	}
	return &http.Client{Transport: t}, nil
}

// dial connects to the daemon. What is asked of loopback in the clear goes to an
// address of loopback, whatever its name is looked up as.
func (c *Client) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	if c.socket != "" {
		return d.DialContext(ctx, "unix", c.socket)
	}
	if c.base.Scheme == "http" && c.loopback() {
		d.Control = func(_, to string, _ syscall.RawConn) error {
			host, _, err := net.SplitHostPort(to)
			if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
				return fmt.Errorf("%s is no address of this machine's loopback", to)
			}
			return nil
		}
	}
	return d.DialContext(ctx, network, addr)
}

// tlsConfig is that of the files.
func (c *Client) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.o.CAFile != "" {
		pem, err := os.ReadFile(c.o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("CA file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA file: %s holds no certificate in PEM", c.o.CAFile)
		}
	}
	switch {
	case (c.o.CertFile == "") != (c.o.KeyFile == ""):
		return nil, errors.New("a client certificate needs its key, and a key its certificate")
	case c.o.CertFile != "":
		if _, err := c.certificate(); err != nil {
			return nil, err
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.certificate() }
	}
	return config, nil
}

func (c *Client) certificate() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(c.o.CertFile, c.o.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("client certificate %s with key %s: %w", c.o.CertFile, c.o.KeyFile, err)
	}
	return &pair, nil
}

// token is what to send as a bearer token, or "".
func (c *Client) token() (string, error) {
	token, where := strings.TrimSpace(c.o.Token), "the token"
	if c.o.TokenFile != "" {
		where = "token file " + c.o.TokenFile
		f, err := os.Open(c.o.TokenFile)
		if err != nil {
			return "", fmt.Errorf("token file: %w", err)
		}
		defer f.Close() // only read
		b, err := io.ReadAll(io.LimitReader(f, maxToken+1))
		if err != nil {
			return "", fmt.Errorf("token file: %w", err)
		}
		if token = strings.TrimSpace(string(b)); token == "" {
			return "", fmt.Errorf("%s is empty", where)
		}
	}
	for _, r := range token {
		if r <= ' ' || r > '~' {
			return "", fmt.Errorf("%s is not one: want a single line without spaces", where)
		}
	}
	if len(token) > maxToken {
		return "", fmt.Errorf("%s is not one: it is longer than %d bytes", where, maxToken)
	}
	return token, nil
}
